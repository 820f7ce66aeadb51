//! The UDP services. Each answer goes straight back to where its request came from.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::bytes::set;
use crate::config::UserNetConfig;
use crate::dns;
use crate::packet::{Packet, Route, UDP_HEADER};
use crate::phy::{Frame, FrameQueue};
use crate::stats::{DropReason, Service, UserNetStats};

const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const SOURCE: u16 = 19;
const DNS: u16 = 53;
const COUNTER: u16 = 4809;

/// Sources counted at a time.
const MOST_SOURCES: usize = 4096;
/// Requests for datagrams under way.
const MOST_WINDOWS: usize = 64;
/// Datagrams of one request.
const MOST_DATAGRAMS: u32 = 256;
const SHORTEST: usize = 8;
const LONGEST: usize = 65_000;

/// Datagrams that are still to be sent.
#[derive(Debug)]
struct Window {
    route: Route,
    ports: (u16, u16),
    next: u32,
    count: u32,
    size: usize,
}

/// The state of the services.
#[derive(Debug, Default)]
pub(crate) struct Udp {
    counters: HashMap<(IpAddr, u16), (u64, u64)>,
    windows: VecDeque<Window>,
    block: Vec<u8>,
}

/// What surrounds a service.
pub(crate) struct Around<'a> {
    pub(crate) config: &'a UserNetConfig,
    pub(crate) stats: &'a mut UserNetStats,
    pub(crate) out: &'a mut FrameQueue,
}

impl Udp {
    /// Serves one datagram. False if there is no such service.
    pub(crate) fn serve(&mut self, frame: &Frame, packet: &Packet, around: &mut Around<'_>) -> bool {
        let bytes = frame.bytes();
        let (Some((port, to)), Some(data)) = (packet.ports(bytes), packet.datagram(bytes)) else { return false };
        let service = match to {
            ECHO => Service::UdpEcho,
            DISCARD => Service::UdpDiscard,
            SOURCE => Service::UdpSource,
            DNS => Service::Dns,
            COUNTER => Service::UdpCounter,
            _ => return false,
        };
        around.stats.request(service, data.len());
        let route = Route::back(bytes, packet, around.config.mac);
        let mut reply = |data: &[u8]| {
            let mut frame = around.out.take();
            route.datagram(&mut frame, (to, port), data);
            around.out.push(frame);
            around.stats.count(service, 0, data.len());
        };
        match service {
            Service::UdpEcho => reply(data),
            Service::UdpCounter => {
                if let Some(report) = self.count((packet.src, port), data) {
                    reply(report.as_bytes());
                }
            }
            Service::Dns => match dns::answer(around.config, data) {
                Some(answer) => reply(&answer),
                None => around.stats.drop(DropReason::BadRequest),
            },
            Service::UdpSource => {
                let most = usize::from(around.config.mtu()).saturating_sub(overhead(packet));
                match window(data).filter(|(_, size)| *size <= most && self.windows.len() < MOST_WINDOWS) {
                    Some((count, size)) => {
                        self.windows.push_back(Window { route, ports: (to, port), next: 0, count, size });
                    }
                    None => around.stats.drop(DropReason::BadRequest),
                }
            }
            _ => {}
        }
        true
    }

    /// Sends what was asked for, as far as there is room.
    pub(crate) fn send(&mut self, out: &mut FrameQueue, stats: &mut UserNetStats) {
        while out.has_room()
            && let Some(window) = self.windows.front_mut()
        {
            self.block.clear();
            self.block.resize(window.size, 0);
            set(&mut self.block, 0, &window.next.to_be_bytes());
            let mut frame = out.take();
            window.route.datagram(&mut frame, window.ports, &self.block);
            out.push(frame);
            stats.count(Service::UdpSource, 0, window.size);
            window.next = window.next.saturating_add(1);
            if window.next >= window.count {
                self.windows.pop_front();
            }
        }
    }

    /// Forgets everybody.
    pub(crate) fn clear(&mut self) {
        self.counters.clear();
        self.windows.clear();
    }

    fn count(&mut self, source: (IpAddr, u16), data: &[u8]) -> Option<String> {
        if data.starts_with(b"REPORT") {
            let (packets, bytes) = self.counters.remove(&source).unwrap_or_default();
            return Some(format!("{packets} {bytes}\n"));
        }
        if self.counters.len() < MOST_SOURCES || self.counters.contains_key(&source) {
            let counter = self.counters.entry(source).or_default();
            *counter = (counter.0.wrapping_add(1), counter.1.wrapping_add(data.len() as u64));
        }
        None
    }
}

/// Bytes of IP and UDP header in an answer.
const fn overhead(packet: &Packet) -> usize {
    let ip: usize = if packet.src.is_ipv4() { 20 } else { 40 };
    ip.saturating_add(UDP_HEADER)
}

/// Reads `SEND count size`.
fn window(request: &[u8]) -> Option<(u32, usize)> {
    let text = std::str::from_utf8(request).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let (count, size) = text.strip_prefix("SEND ")?.split_once(' ')?;
    let (count, size) = (count.parse().ok()?, size.parse().ok()?);
    ((1..=MOST_DATAGRAMS).contains(&count) && (SHORTEST..=LONGEST).contains(&size)).then_some((count, size))
}

#[cfg(test)]
mod tests {
    use super::window;

    #[test]
    fn requests_have_limits() {
        assert_eq!(window(b"SEND 256 65000\n"), Some((256, 65_000)));
        assert_eq!(window(b"SEND 1 8"), Some((1, 8)));
        for bad in
            ["SEND 257 8\n", "SEND 0 8\n", "SEND 1 7\n", "SEND 1 65001\n", "SEND -1 8\n", "SEND 1\n", "GET 1 8", ""]
        {
            assert_eq!(window(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(window(&[0xff; 8]), None);
    }
}
