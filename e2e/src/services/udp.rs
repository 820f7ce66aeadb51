//! The UDP services: one thread for each port, one datagram at a time.

use super::dhcp::{CLIENTS, Leases};
use guest_agent::{HOST_NAME, HOST4, HOST6, dns, port};
use rustix::net::sockopt;
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

/// Sources counted at a time; more than that are not from a guest of ours.
const MOST_SOURCES: usize = 4096;
const RECEIVE_BUFFER: usize = 4 << 20;

/// Answers until told to stop.
pub(super) fn serve(number: u16, socket: &UdpSocket, stop: &AtomicBool) {
    // Room for the windows of several guests; without root the system's limit stands, which takes one.
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER);
    }
    let mut block = vec![0; 65_536];
    let mut counters = HashMap::new();
    let mut leases = Leases::default();
    if number == port::DHCP {
        // Clients without an address are answered by broadcast.
        let _ = socket.set_broadcast(true);
    }
    while !stop.load(Ordering::Relaxed) {
        let Ok((n, peer)) = socket.recv_from(&mut block) else { continue };
        let data = block.get(..n).unwrap_or_default();
        // A reply that cannot be sent is a loss that the check will count.
        match number {
            port::ECHO => drop(socket.send_to(data, peer)),
            port::SOURCE => send_window(socket, data, peer),
            port::DNS => {
                if let Some(reply) = dns::answer(data, HOST_NAME, &[HOST4.into(), HOST6.into()]) {
                    let _ = socket.send_to(&reply, peer);
                }
            }
            port::DHCP => {
                if let Some(reply) = leases.answer(data) {
                    let _ = socket.send_to(&reply, CLIENTS);
                }
            }
            port::DIGEST => count(socket, data, peer, &mut counters),
            _ => {}
        }
    }
}

type Counters = HashMap<SocketAddr, (u64, u64)>;

fn count(socket: &UdpSocket, data: &[u8], peer: SocketAddr, counters: &mut Counters) {
    if data.starts_with(b"REPORT") {
        let (packets, bytes) = counters.remove(&peer).unwrap_or_default();
        let _ = socket.send_to(format!("{packets} {bytes}\n").as_bytes(), peer);
        return;
    }
    if counters.len() >= MOST_SOURCES && !counters.contains_key(&peer) {
        return;
    }
    let counter = counters.entry(peer).or_default();
    counter.0 = counter.0.saturating_add(1);
    counter.1 = counter.1.saturating_add(data.len() as u64);
}

/// `SEND count size`: count up to 256, size from 8 to 65,000 bytes. Anything else is not answered.
fn send_window(socket: &UdpSocket, request: &[u8], peer: SocketAddr) {
    let Some((count, size)) = read_request(request) else { return };
    let mut data = vec![0; size];
    for number in 0..count {
        if let Some(head) = data.first_chunk_mut::<4>() {
            *head = number.to_be_bytes();
        }
        let _ = socket.send_to(&data, peer);
    }
}

fn read_request(request: &[u8]) -> Option<(u32, usize)> {
    let text = std::str::from_utf8(request).ok()?.strip_suffix('\n')?;
    let (count, size) = text.strip_prefix("SEND ")?.split_once(' ')?;
    let (count, size) = (count.parse().ok()?, size.parse().ok()?);
    ((1..=256).contains(&count) && (8..=65_000).contains(&size)).then_some((count, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_limits() {
        assert_eq!(read_request(b"SEND 256 65000\n"), Some((256, 65_000)));
        assert_eq!(read_request(b"SEND 1 8\n"), Some((1, 8)));
        for bad in
            ["SEND 257 8\n", "SEND 0 8\n", "SEND 1 7\n", "SEND 1 65001\n", "SEND 1 8", "SEND -1 8\n", "GET 1 8\n", ""]
        {
            assert_eq!(read_request(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
