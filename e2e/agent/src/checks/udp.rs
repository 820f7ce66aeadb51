//! UDP: echo of every length, and throughput with credit: a flow sends its next window when the last one has
//! been accounted for, so queues cannot overflow by our own doing and every loss that is seen is a real one.

use super::{Guest, error};
use guest_agent::outcome::{self, Datagrams};
use guest_agent::{Line, Step, Verdict, port};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const FLOWS: usize = 2;
/// Wait for an answer this long before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);

fn open(peer: SocketAddr) -> Result<UdpSocket, String> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).map_err(error("UDP socket"))?;
    socket.connect(peer).map_err(error(&format!("connect to {peer}")))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(error("time limit"))?;
    Ok(socket)
}

/// One datagram of every length up to `size`.
pub(super) fn echo(guest: &Guest, step: &Step) -> Result<Line, String> {
    let peer = guest.service(step, port::ECHO);
    let socket = open(peer)?;
    let longest = usize::try_from(step.parameter("size", 1472)).unwrap_or(1472);
    let sent: Vec<u8> = (0..longest).map(|i| (i % 251) as u8).collect();
    let mut reply = vec![0; longest.saturating_add(1)];
    let begin = Instant::now();
    for len in 0..=longest {
        let sent = sent.get(..len).unwrap_or_default();
        socket.send(sent).map_err(error(&format!("send of {len} bytes")))?;
        let n = socket.recv(&mut reply).map_err(error(&format!("answer to {len} bytes")))?;
        if reply.get(..n) != Some(sent) {
            return Err(format!("{len} bytes came back as {n} bytes, or changed"));
        }
    }
    let each = begin.elapsed().as_secs_f64() * 1e3 / longest.saturating_add(1) as f64;
    Ok(Line::new(step.name(), Verdict::Pass).value(each, "ms").detail("datagrams", longest.saturating_add(1)))
}

/// A direction: how a window is begun, and how it is accounted for.
trait Direction {
    fn begin(&mut self, socket: &UdpSocket, window: &Window) -> Result<(), String>;
    /// Datagrams that arrived.
    fn finish(&mut self, socket: &UdpSocket, window: &Window) -> Result<u64, String>;
}

struct Window {
    count: u64,
    size: usize,
}

fn throughput(peer: SocketAddr, step: &Step, direction: &mut impl Direction) -> Result<Line, String> {
    let size = usize::try_from(step.parameter("size", 1400)).unwrap_or(1400).clamp(8, 65_000);
    let window = Window { count: step.parameter("window", 32).clamp(1, 256), size };
    let limit = step.seconds();
    let sockets = (0..FLOWS).map(|_| open(peer)).collect::<Result<Vec<_>, _>>()?;
    let (mut sent, mut received) = (0u64, 0u64);
    let begin = Instant::now();
    for socket in &sockets {
        direction.begin(socket, &window)?;
    }
    // One flow's window is under way while the other's is accounted for.
    for socket in sockets.iter().cycle() {
        received = received.saturating_add(direction.finish(socket, &window)?);
        sent = sent.saturating_add(window.count);
        if begin.elapsed() >= limit {
            break;
        }
        direction.begin(socket, &window)?;
    }
    Ok(outcome::datagrams(step, &Datagrams { sent, received, size, took: begin.elapsed() }))
}

/// To the host, whose counter accounts for each window.
pub(super) fn up(guest: &Guest, step: &Step) -> Result<Line, String> {
    let payload = vec![0x5a; 65_000];
    throughput(guest.service(step, port::DIGEST), step, &mut Up { payload })
}

struct Up {
    payload: Vec<u8>,
}

impl Direction for Up {
    fn begin(&mut self, socket: &UdpSocket, window: &Window) -> Result<(), String> {
        let payload = self.payload.get(..window.size).unwrap_or_default();
        for _ in 0..window.count {
            socket.send(payload).map_err(error("send"))?;
        }
        socket.send(b"REPORT").map_err(error("send")).map(drop)
    }

    fn finish(&mut self, socket: &UdpSocket, window: &Window) -> Result<u64, String> {
        let mut reply = [0; 64];
        // The counter restarts with each report: if one is lost its window counts as lost with it.
        for _ in 0..4 {
            if let Ok(n) = socket.recv(&mut reply) {
                let text = String::from_utf8_lossy(reply.get(..n).unwrap_or_default()).into_owned();
                let packets = text.split(' ').next().and_then(|s| s.parse::<u64>().ok());
                return packets.map(|p| p.min(window.count)).ok_or_else(|| format!("the report is {text:?}"));
            }
            socket.send(b"REPORT").map_err(error("send"))?;
        }
        Err("no report in four attempts".to_owned())
    }
}

/// From the host, which sends a window for each request.
pub(super) fn down(guest: &Guest, step: &Step) -> Result<Line, String> {
    throughput(guest.service(step, port::SOURCE), step, &mut Down { block: vec![0; 65_536] })
}

struct Down {
    block: Vec<u8>,
}

impl Direction for Down {
    fn begin(&mut self, socket: &UdpSocket, window: &Window) -> Result<(), String> {
        let request = format!("SEND {} {}\n", window.count, window.size);
        socket.send(request.as_bytes()).map_err(error("request")).map(drop)
    }

    fn finish(&mut self, socket: &UdpSocket, window: &Window) -> Result<u64, String> {
        let mut seen = [false; 256];
        let mut received = 0u64;
        while received < window.count {
            let Ok(n) = socket.recv(&mut self.block) else { break };
            let number = self.block.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize);
            if n != window.size {
                return Err(format!("a datagram of {n} bytes, asked for {}", window.size));
            }
            if let Some(slot) = number.and_then(|i| seen.get_mut(i)) {
                received = received.saturating_add(u64::from(!*slot));
                *slot = true;
            }
        }
        Ok(received)
    }
}
