//! DHCP, and echo requests of both IP versions.

use crate::inprocess::stack::Stack;
use guest_agent::{Check, GUEST6, HOST6, Line, Step, Verdict, outcome};
use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{dhcpv4, icmp};
use smoltcp::time::Duration as StackDuration;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpCidr};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Identifier of our echo requests.
const IDENT: u16 = 0x7e57;
const PATIENCE: Duration = Duration::from_secs(3);
const BETWEEN: Duration = Duration::from_millis(20);

/// Asks for a lease, every second anew.
pub(super) fn dhcp(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let mut socket = dhcpv4::Socket::new();
    let mut retry = socket.get_retry_config();
    retry.discover_timeout = StackDuration::from_secs(1);
    retry.initial_request_timeout = StackDuration::from_secs(1);
    socket.set_retry_config(retry);
    let handle = stack.sockets.add(socket);
    let begin = Instant::now();
    let (address, router, dns) = stack.until("lease", |stack| {
        let socket: &mut dhcpv4::Socket<'_> = stack.sockets.get_mut(handle);
        Ok(match socket.poll() {
            Some(dhcpv4::Event::Configured(lease)) => Some((lease.address, lease.router, lease.dns_servers)),
            _ => None,
        })
    })?;
    let took = begin.elapsed();
    let router = router.ok_or("the lease names no router")?;
    let mut added = true;
    stack.iface.update_ip_addrs(|list| {
        list.retain(|a| matches!(a, IpCidr::Ipv6(_)));
        added = list.push(IpCidr::Ipv4(address)).is_ok();
    });
    if !added {
        return Err("no room for the address of the lease".to_owned());
    }
    stack.gateway = Some(router);
    let dns: Vec<String> = dns.iter().map(ToString::to_string).collect();
    Ok(Line::new(step.name(), Verdict::Pass)
        .value(took.as_secs_f64(), "s")
        .detail("address", address.address().to_string())
        .detail("mask", address.netmask().to_string())
        .detail("gateway", router.to_string())
        .detail("dns", dns.join(" ")))
}

/// Echo requests to the host, one after the other.
pub(super) fn ping(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let count = step.parameter("count", 5).clamp(1, 1000);
    let size = usize::try_from(step.parameter("size", 56)).unwrap_or(56).min(1400);
    let host = if step.check == Check::Ping6 { HOST6.into() } else { stack.host4() };
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 16_384]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(IDENT)).map_err(|e| format!("ICMP socket: {e}"))?;
    let handle = stack.sockets.add(socket);
    let data: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
    let mut rtts = Vec::new();
    // smoltcp asks for one neighbour a second at most: number 0 may wait for that, and is not counted.
    for number in 0..=count as u16 {
        let rtt = one_ping(stack, handle, host, number, &data)?;
        if number > 0 {
            rtts.extend(rtt.map(|time| time.as_secs_f64() * 1e3));
        }
        stack.pause(BETWEEN)?;
    }
    let received = rtts.len() as u64;
    let mean = rtts.iter().sum::<f64>() / received.max(1) as f64;
    let least = rtts.iter().copied().reduce(f64::min).unwrap_or(0.0);
    let most = rtts.iter().copied().reduce(f64::max).unwrap_or(0.0);
    Ok(outcome::ping(step, &host.to_string(), count, received, (least, mean, most)))
}

/// Time until the answer, if one came.
fn one_ping(
    stack: &mut Stack,
    handle: SocketHandle,
    host: IpAddr,
    number: u16,
    data: &[u8],
) -> Result<Option<Duration>, String> {
    let request = request(host, number, data);
    let begin = Instant::now();
    let socket: &mut icmp::Socket<'_> = stack.sockets.get_mut(handle);
    socket.send_slice(&request, host.into()).map_err(|e| format!("echo request: {e}"))?;
    stack.until("echo reply", |stack| {
        let socket: &mut icmp::Socket<'_> = stack.sockets.get_mut(handle);
        while let Ok((reply, from)) = socket.recv() {
            if IpAddr::from(from) == host && is_reply(reply, host, number, data) {
                return Ok(Some(Some(begin.elapsed())));
            }
        }
        Ok((begin.elapsed() > PATIENCE).then_some(None))
    })
}

/// smoltcp makes the checksum when it sends.
fn request(host: IpAddr, seq_no: u16, data: &[u8]) -> Vec<u8> {
    let unchecked = ChecksumCapabilities::ignored();
    if host.is_ipv4() {
        let repr = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no, data };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &unchecked);
        bytes
    } else {
        let repr = Icmpv6Repr::EchoRequest { ident: IDENT, seq_no, data };
        let mut bytes = vec![0; repr.buffer_len()];
        let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
        repr.emit(&GUEST6, &HOST6, &mut packet, &unchecked);
        bytes
    }
}

fn is_reply(reply: &[u8], host: IpAddr, number: u16, sent: &[u8]) -> bool {
    let unchecked = ChecksumCapabilities::ignored();
    if host.is_ipv4() {
        let packet = Icmpv4Packet::new_unchecked(reply);
        matches!(Icmpv4Repr::parse(&packet, &unchecked),
            Ok(Icmpv4Repr::EchoReply { seq_no, data, .. }) if seq_no == number && data == sent)
    } else {
        let packet = Icmpv6Packet::new_unchecked(reply);
        let any = Ipv6Addr::UNSPECIFIED;
        matches!(Icmpv6Repr::parse(&any, &any, &packet, &unchecked),
            Ok(Icmpv6Repr::EchoReply { seq_no, data, .. }) if seq_no == number && data == sent)
    }
}
