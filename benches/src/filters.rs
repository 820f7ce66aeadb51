//! Cases of the instruction table: one look of a filter at a frame, in bursts of 32 different ones.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use net_filter::{IpSources, MacAddr, ReceiveFilter, RxRules, SpoofCheck};

use crate::cases::{Case, Outcome};

const BURST: usize = 32;
const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
/// Addresses of each table: as many as a driver may name.
const NAMED: u16 = 1024;
const VLAN: u16 = 100;
const UNTAGGED: &[u16] = &[0x0800];
const TAGGED: &[u16] = &[0x8100, VLAN, 0x0800];

type Frame = [u8; 64];

/// The table's rows.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    [
        case("filter: own address, no commands", |n| {
            rx(&mut ReceiveFilter::for_station(GUEST), |_| GUEST, UNTAGGED, n)
        }),
        case("filter: own address, tables of 1024", |n| rx(&mut named(false), |_| GUEST, UNTAGGED, n)),
        case("filter: unicast hit, tables of 1024", |n| rx(&mut named(false), unicast, UNTAGGED, n)),
        case("filter: multicast hit, tables of 1024", |n| rx(&mut named(false), multicast, UNTAGGED, n)),
        case("filter: unicast miss, counted", |n| rx(&mut named(false), |i| unicast(NAMED + i), UNTAGGED, n)),
        case("filter: own address, VLAN hit", |n| rx(&mut named(true), |_| GUEST, TAGGED, n)),
        case("filter: unicast hit of 1024, VLAN hit", |n| rx(&mut named(true), unicast, TAGGED, n)),
        case("filter: source MAC", |n| tx(&mut SpoofCheck::new(GUEST), n)),
        case("filter: source MAC and IPv4", |n| tx(&mut SpoofCheck::with_ip(GUEST, sources()), n)),
    ]
    .into_iter()
}

const fn case(name: &'static str, run: fn(u32) -> Outcome) -> Case {
    Case { name, per: "frame", count: 32_000, run, within: Some("*counted_*") }
}

/// Addresses without an order that a hash could make use of: a step through 16 bits that meets each once.
fn nth(first: u8, i: u16) -> MacAddr {
    let [a, b] = i.wrapping_mul(40_503).to_be_bytes();
    MacAddr([first, 0xff, a, 0x11, b, 0x22])
}

fn unicast(i: u16) -> MacAddr {
    nth(0x02, i)
}

fn multicast(i: u16) -> MacAddr {
    nth(0x33, i)
}

/// A filter with full tables, and perhaps one VLAN.
fn named(vlans: bool) -> ReceiveFilter {
    let mut rules = RxRules::new(GUEST);
    rules.begin(true, vlans);
    let [unicast, multicast] = [unicast, multicast].map(|of| (0..NAMED).map(of).collect::<Vec<_>>());
    rules.set_tables(&unicast, &multicast);
    rules.set_vlan(VLAN, true);
    assert_eq!(rules.overflows(), (false, false));
    ReceiveFilter::new(Arc::new(rules))
}

fn sources() -> Arc<IpSources> {
    Arc::new(IpSources::new(GUEST, &[IpAddr::V4(ADDRESS)], None))
}

/// To and from these addresses, with these words behind them and an IPv4 header behind those.
fn frame(dst: MacAddr, words: &[u16]) -> Frame {
    let mut frame = [0; 64];
    let ip = [0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0].into_iter().chain(ADDRESS.octets());
    let bytes = dst.0.into_iter().chain(GUEST.0).chain(words.iter().flat_map(|w| w.to_be_bytes())).chain(ip);
    frame.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    frame
}

#[inline(never)]
fn counted_rx(filter: &mut ReceiveFilter, frames: &[Frame; BURST]) -> usize {
    let mut accepted = 0;
    for frame in frames {
        accepted += usize::from(filter.accepts(frame));
    }
    accepted
}

#[inline(never)]
fn counted_tx(check: &mut SpoofCheck, frames: &[Frame; BURST]) -> usize {
    let mut permitted = 0;
    for frame in frames {
        permitted += usize::from(check.permits(frame));
    }
    permitted
}

fn rx(filter: &mut ReceiveFilter, dst: fn(u16) -> MacAddr, words: &[u16], count: u32) -> Outcome {
    let frames = std::array::from_fn(|i| frame(dst(i as u16), words)); // below 32
    let rejects = counted_rx(filter, &frames) == 0;
    for _ in 1..count / BURST as u32 {
        assert_eq!(counted_rx(black_box(filter), &frames), if rejects { 0 } else { BURST });
    }
    Ok(())
}

fn tx(check: &mut SpoofCheck, count: u32) -> Outcome {
    let frames = std::array::from_fn(|_| frame(MacAddr::BROADCAST, UNTAGGED));
    for _ in 0..count / BURST as u32 {
        assert_eq!(counted_tx(black_box(check), &frames), BURST);
    }
    Ok(())
}
