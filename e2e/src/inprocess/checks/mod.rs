//! The checks of the agent, on this stack.

mod address;
mod tcp;
mod udp;

use super::stack::Stack;
use guest_agent::{Check, Line, Step, Verdict, feature_names};
use virtio_net_core::Features;

pub(super) fn run(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    match step.check {
        Check::Features => Ok(features(stack, step)),
        Check::Link => link(stack, step),
        Check::Counters => Ok(counters(stack, step)),
        Check::Dhcp => address::dhcp(stack, step),
        Check::Ping4 | Check::Ping6 => address::ping(stack, step),
        Check::Dns => udp::dns(stack, step),
        Check::TcpEcho => tcp::echo(stack, step),
        Check::TcpUp => tcp::up(stack, step),
        Check::TcpDown => tcp::down(stack, step),
        Check::FileUp => tcp::file_up(stack, step),
        Check::FileDown => tcp::file_down(stack, step),
        Check::UdpEcho => udp::echo(stack, step),
        Check::UdpUp => udp::up(stack, step),
        Check::UdpDown => udp::down(stack, step),
        Check::Idle => Err("this guest does not idle".to_owned()),
        Check::Resize => Err("this guest's rings keep their size".to_owned()),
        Check::Talk => Err("this guest takes no commands".to_owned()),
        Check::UdpFlood | Check::UdpSink => {
            Err("this guest makes no loads: they measure its kernel as well".to_owned())
        }
    }
}

/// The features in words, by the table that was written from the standard.
fn features(stack: &Stack, step: &Step) -> Line {
    let acked = stack.card.acked().bits();
    let bits: String = (0..u128::BITS).map(|n| if acked.wrapping_shr(n) & 1 == 1 { '1' } else { '0' }).collect();
    let names = feature_names(&bits);
    if !stack.card.acked().contains(Features::VERSION_1) {
        return Line::fail(step.name(), "the device does not offer VERSION_1");
    }
    Line::new(step.name(), Verdict::Pass).value(names.len() as f64, "bits").detail("names", names)
}

fn link(stack: &Stack, step: &Step) -> Result<Line, String> {
    let (card, acked) = (&stack.card, stack.card.acked());
    let config = card.config();
    let mac = config.mac.map(|b| format!("{b:02x}")).join(":");
    let [first, ..] = config.mac;
    if !acked.contains(Features::MAC) || first & 1 != 0 || config.mac == [0; 6] {
        return Err(format!("MAC address {mac} is not that of a station"));
    }
    // VIRTIO_NET_S_LINK_UP; without the feature a link is always up (virtio 1.3, 5.1.4).
    let up = !acked.contains(Features::STATUS) || config.status & 1 == 1;
    if !up {
        return Err(format!("status is {:#x}: no link", config.status));
    }
    Ok(Line::new(step.name(), Verdict::Pass)
        .value(card.mtu().into(), "bytes")
        .detail("mac", mac)
        .detail("carrier", "1")
        .detail("queue_pairs", 1))
}

fn counters(stack: &Stack, step: &Step) -> Line {
    let (driver, dropped) = stack.card.stats();
    let errors = driver.malformed.saturating_add(dropped);
    Line::new(step.name(), Verdict::Info)
        .value(errors as f64, "errors")
        .detail("rx_packets", driver.received)
        .detail("tx_packets", driver.sent)
        .detail("rx_dropped", dropped)
        .detail("rx_frame_errors", driver.malformed)
}
