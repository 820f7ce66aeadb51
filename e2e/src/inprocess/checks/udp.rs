//! UDP: names, echo of every length, and throughput with credit, as the agent does it: a flow sends its next window
//! when the last one has been accounted for, so every loss that is seen is a real one.

use crate::inprocess::stack::Stack;
use guest_agent::outcome::{self, Datagrams};
use guest_agent::{HOST_NAME, HOST4, HOST6, Line, Step, Verdict, dns, port};
use smoltcp::iface::SocketHandle;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const FLOWS: usize = 2;
/// Wait for an answer this long before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest IP packet: there is no fragmentation here.
const PACKET: u64 = 1500;

type Peer = (IpAddr, u16);

/// Longest datagram to this peer.
fn longest(peer: Peer) -> u64 {
    PACKET.saturating_sub(if peer.0.is_ipv4() { 28 } else { 48 })
}

fn send(stack: &mut Stack, handle: SocketHandle, peer: Peer, data: &[u8]) -> Result<(), String> {
    stack.udp(handle).send_slice(data, peer).map_err(|e| format!("send of {} bytes: {e}", data.len()))
}

/// The next datagram through `take`, or `None` if there is none for a while.
fn receive<T>(
    stack: &mut Stack,
    handle: SocketHandle,
    mut take: impl FnMut(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let begin = Instant::now();
    stack.until("datagram", |stack| match stack.udp(handle).recv() {
        Ok((data, _)) => take(data).map(|t| Some(Some(t))),
        Err(_) => Ok((begin.elapsed() > PATIENCE).then_some(None)),
    })
}

/// Both address types of the host's name, three attempts each.
pub(super) fn dns(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let (handle, peer) = (stack.datagrams()?, (stack.host4(), port::DNS));
    let begin = Instant::now();
    let mut line = Line::new(step.name(), Verdict::Pass);
    for (id, kind, want) in [(1, dns::A, IpAddr::from(HOST4)), (2, dns::AAAA, IpAddr::from(HOST6))] {
        let mut got = None;
        for _ in 0..3 {
            send(stack, handle, peer, &dns::question(id, HOST_NAME, kind))?;
            got = receive(stack, handle, |reply| Ok(dns::first_address(reply, id)))?.flatten();
            if got.is_some() {
                break;
            }
        }
        let got = got.ok_or_else(|| format!("no address of type {kind} for {HOST_NAME} in three attempts"))?;
        if got != want {
            return Err(format!("{HOST_NAME} is {got}, expected {want}"));
        }
        line = line.detail(if got.is_ipv4() { "a" } else { "aaaa" }, got.to_string());
    }
    Ok(line.value(begin.elapsed().as_secs_f64() * 1e3, "ms"))
}

/// One datagram of every length up to `size`.
pub(super) fn echo(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let (handle, peer) = (stack.datagrams()?, stack.service(step, port::ECHO));
    let longest = step.parameter("size", PACKET).min(longest(peer)) as usize;
    let sent: Vec<u8> = (0..longest).map(|i| (i % 251) as u8).collect();
    let begin = Instant::now();
    for len in 0..=longest {
        let sent = sent.get(..len).unwrap_or_default();
        send(stack, handle, peer, sent)?;
        let back = receive(stack, handle, |reply| {
            if reply == sent { Ok(()) } else { Err(format!("{len} bytes came back as {}, or changed", reply.len())) }
        })?;
        back.ok_or_else(|| format!("no answer to {len} bytes"))?;
    }
    let each = begin.elapsed().as_secs_f64() * 1e3 / longest.saturating_add(1) as f64;
    Ok(Line::new(step.name(), Verdict::Pass).value(each, "ms").detail("datagrams", longest.saturating_add(1)))
}

/// What a direction's flows have in common.
struct Flow {
    peer: Peer,
    count: u64,
    size: usize,
}

impl Flow {
    fn new(stack: &Stack, step: &Step, port: u16) -> Self {
        let peer = stack.service(step, port);
        let size = step.parameter("size", 1400).clamp(8, longest(peer)) as usize;
        Self { peer, count: step.parameter("window", 32).clamp(1, 256), size }
    }
}

/// How a window is begun, and how it is accounted for.
struct Direction {
    begin: fn(&mut Stack, SocketHandle, &Flow) -> Result<(), String>,
    /// Datagrams that arrived.
    finish: fn(&mut Stack, SocketHandle, &Flow) -> Result<u64, String>,
}

fn throughput(stack: &mut Stack, step: &Step, flow: &Flow, direction: &Direction) -> Result<Line, String> {
    let handles = (0..FLOWS).map(|_| stack.datagrams()).collect::<Result<Vec<_>, _>>()?;
    let (mut sent, mut received) = (0_u64, 0_u64);
    let (begin, limit) = (Instant::now(), step.seconds());
    for handle in &handles {
        (direction.begin)(stack, *handle, flow)?;
    }
    // One flow's window is under way while the other's is accounted for.
    for handle in handles.iter().cycle() {
        received = received.saturating_add((direction.finish)(stack, *handle, flow)?);
        sent = sent.saturating_add(flow.count);
        if begin.elapsed() >= limit {
            break;
        }
        (direction.begin)(stack, *handle, flow)?;
    }
    Ok(outcome::datagrams(step, &Datagrams { sent, received, size: flow.size, took: begin.elapsed() }))
}

/// To the host, whose counter accounts for each window.
pub(super) fn up(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let flow = Flow::new(stack, step, port::DIGEST);
    throughput(stack, step, &flow, &Direction { begin: begin_up, finish: finish_up })
}

fn begin_up(stack: &mut Stack, handle: SocketHandle, flow: &Flow) -> Result<(), String> {
    let socket = stack.udp(handle);
    for _ in 0..flow.count {
        let room = socket.send(flow.size, flow.peer).map_err(|e| format!("send: {e}"))?;
        room.fill(0x5a);
    }
    send(stack, handle, flow.peer, b"REPORT")
}

fn finish_up(stack: &mut Stack, handle: SocketHandle, flow: &Flow) -> Result<u64, String> {
    // The counter restarts with each report: if one is lost its window counts as lost with it.
    for _ in 0..4 {
        let report = receive(stack, handle, |reply| {
            let text = String::from_utf8_lossy(reply);
            let packets = text.split(' ').next().and_then(|s| s.parse::<u64>().ok());
            packets.ok_or_else(|| format!("the report is {text:?}"))
        })?;
        if let Some(packets) = report {
            return Ok(packets.min(flow.count));
        }
        send(stack, handle, flow.peer, b"REPORT")?;
    }
    Err("no report in four attempts".to_owned())
}

/// From the host, which sends a window for each request.
pub(super) fn down(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let flow = Flow::new(stack, step, port::SOURCE);
    throughput(stack, step, &flow, &Direction { begin: begin_down, finish: finish_down })
}

fn begin_down(stack: &mut Stack, handle: SocketHandle, flow: &Flow) -> Result<(), String> {
    send(stack, handle, flow.peer, format!("SEND {} {}\n", flow.count, flow.size).as_bytes())
}

fn finish_down(stack: &mut Stack, handle: SocketHandle, flow: &Flow) -> Result<u64, String> {
    let mut seen = [false; 256];
    let mut received = 0_u64;
    while received < flow.count {
        let number = receive(stack, handle, |data| {
            if data.len() != flow.size {
                return Err(format!("a datagram of {} bytes, asked for {}", data.len(), flow.size));
            }
            Ok(data.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize))
        })?;
        let Some(number) = number else { break };
        if let Some(slot) = number.and_then(|i| seen.get_mut(i)) {
            received = received.saturating_add(u64::from(!*slot));
            *slot = true;
        }
    }
    Ok(received)
}
