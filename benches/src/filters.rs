//! Cases of the instruction table: what is looked up for a received frame.

use std::hint::black_box;
use std::sync::Arc;

use net_filter::{MacAddr, ReceiveFilter, RxRules};
use virtio_net_core::steering::{HashConfig, HashTypes, Steering, TunnelTypes};

use crate::cases::{Case, Outcome};

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
/// Addresses of a full table.
const ADDRESSES: u16 = 1024;

/// The table's rows.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    [
        case("filter: own address", |n| filter(n, Vlans::All, |_| OWN)),
        case("filter: own address, VLANs limited, no tag", |n| filter(n, Vlans::NoTag, |_| OWN)),
        case("filter: own address, VLANs limited, tag", |n| filter(n, Vlans::Tag, |_| OWN)),
        case("filter: one of 1024 unicast", |n| filter(n, Vlans::All, |i| nth(0x02, i % ADDRESSES))),
        case("filter: one of 1024, VLANs limited, no tag", |n| filter(n, Vlans::NoTag, |i| nth(0x02, i % ADDRESSES))),
        case("filter: one of 1024, VLANs limited, tag", |n| filter(n, Vlans::Tag, |i| nth(0x02, i % ADDRESSES))),
        case("filter: none of 1024 unicast", |n| filter(n, Vlans::All, |i| nth(0x06, i % ADDRESSES))),
        case("filter: one of 1024 multicast", |n| filter(n, Vlans::All, |i| nth(0x03, i % ADDRESSES))),
        case("hash: TCP over IPv4", |n| hash(n, TunnelTypes::empty(), &tcp_v4())),
        case("hash: TCP over IPv6", |n| hash(n, TunnelTypes::empty(), &tcp_v6())),
        case("hash: TCP over IPv4, looked at for tunnels", |n| hash(n, TunnelTypes::all(), &tcp_v4())),
        case("hash: TCP over IPv4 in VXLAN", |n| hash(n, TunnelTypes::all(), &vxlan())),
    ]
    .into_iter()
}

const fn case(name: &'static str, run: fn(u32) -> Outcome) -> Case {
    Case { name, per: "frame", count: 4096, run, within: Some("*counted*") }
}

/// Addresses as a hypervisor hands them out: one after the other.
fn nth(first: u8, i: u16) -> MacAddr {
    let [high, low] = i.to_be_bytes();
    MacAddr([first, 0x54, 0, 7, high, low])
}

/// Whether the driver names VLANs, and whether frames have one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vlans {
    All,
    NoTag,
    Tag,
}

/// The look-up alone: the call and its return count, the loop around it does not.
#[inline(never)]
fn counted_filter(filter: &mut ReceiveFilter, head: &[u8]) -> bool {
    filter.accepts(head)
}

fn filter(count: u32, vlans: Vlans, dst: fn(u16) -> MacAddr) -> Outcome {
    let mut rules = RxRules::new(OWN);
    rules.begin(true, vlans != Vlans::All);
    let [unicast, multicast] =
        [0x02, 0x03].map(|first| (0..ADDRESSES).map(|i| nth(first, i)).collect::<Vec<MacAddr>>());
    rules.set_tables(&unicast, &multicast);
    rules.set_vlan(100, true);
    let mut filter = ReceiveFilter::new(Arc::new(rules));
    let mut frame = tcp_v4();
    if vlans == Vlans::Tag {
        frame.splice(12..12, [0x81, 0, 0, 100]);
    }
    for i in 0..count {
        frame.get_mut(..6).ok_or("a short frame")?.copy_from_slice(&dst(i as u16).0);
        black_box(counted_filter(&mut filter, black_box(&frame)));
    }
    Ok(())
}

#[inline(never)]
fn counted_hash(steering: &Steering, head: &[u8]) -> u32 {
    steering.hash(head).value
}

fn hash(count: u32, tunnels: TunnelTypes, frame: &[u8]) -> Outcome {
    let mut steering = Steering::default();
    steering.set_hash(HashConfig { types: HashTypes::all(), key: (1..=40).collect() });
    steering.set_tunnels(tunnels);
    for _ in 0..count {
        black_box(counted_hash(&steering, black_box(frame)));
    }
    Ok(())
}

const TCP: [u8; 20] = [0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0];

fn ether(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&OWN.0[..], &[2, 0, 0, 0, 0, 1], &kind.to_be_bytes(), packet].concat()
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() + 20) as u8;
    [&[0x45, 0, 0, len, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2][..], payload].concat()
}

fn tcp_v4() -> Vec<u8> {
    ether(0x0800, &v4(6, &TCP))
}

fn tcp_v6() -> Vec<u8> {
    ether(0x86dd, &[&[0x60, 0, 0, 0, 0, 20, 6, 64][..], &[0x20; 16], &[0x21; 16], &TCP].concat())
}

fn vxlan() -> Vec<u8> {
    let header = [0xc0, 1, 0x12, 0xb5, 0, 70, 0, 0, 8, 0, 0, 0, 0, 0, 42, 0];
    ether(0x0800, &v4(17, &[&header[..], &tcp_v4()].concat()))
}
