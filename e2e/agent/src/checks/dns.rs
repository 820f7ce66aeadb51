//! Asks the host for its own name.

use super::{Guest, error};
use guest_agent::{HOST_NAME, HOST4, HOST6, Line, Step, Verdict, dns, port};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Both address types of [`HOST_NAME`], three attempts each.
pub(super) fn lookup(guest: &Guest, step: &Step) -> Result<Line, String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(error("UDP socket"))?;
    let server = (guest.host4(), port::DNS);
    socket.connect(server).map_err(error("connect"))?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).map_err(error("time limit"))?;
    let begin = Instant::now();
    let mut line = Line::new(step.name(), Verdict::Pass);
    for (id, kind, want) in [(1, dns::A, IpAddr::from(HOST4)), (2, dns::AAAA, IpAddr::from(HOST6))] {
        let got = ask(&socket, id, kind)?;
        if got != want {
            return Err(format!("{HOST_NAME} is {got}, expected {want}"));
        }
        line = line.detail(if got.is_ipv4() { "a" } else { "aaaa" }, got.to_string());
    }
    Ok(line.value(begin.elapsed().as_secs_f64() * 1e3, "ms"))
}

fn ask(socket: &UdpSocket, id: u16, kind: u16) -> Result<IpAddr, String> {
    let mut last = String::new();
    for _ in 0..3 {
        socket.send(&dns::question(id, HOST_NAME, kind)).map_err(error("send"))?;
        let mut reply = [0; 512];
        match socket.recv(&mut reply) {
            Ok(n) => match dns::first_address(reply.get(..n).unwrap_or(&[]), id) {
                Some(address) => return Ok(address),
                None => last = format!("an answer of {n} bytes without an address"),
            },
            Err(e) => last = e.to_string(),
        }
    }
    Err(format!("no address of type {kind} for {HOST_NAME} in three attempts, last: {last}"))
}
