//! What the fuzz targets do, as ordinary functions of bytes.
//!
//! Each target is a session of one side of a ring, or of the net device, against a peer that the bytes script. `fuzz/` runs them under libFuzzer
//! (`cargo xtask fuzz`); the tests of this crate replay seeds, regressions and the corpus.
//!
//! What they look for, whatever the bytes are: a panic; a word that is read twice for one use, or not at all; a chain
//! that is not what is in the ring; more steps than a ring of that size is worth; a head that is not completed; a used
//! length that is not what was written; a byte written where nobody may; a notification too few or too many; a broken
//! ring that is not seen, or seen where there is none; formats that do not agree.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "to panic is what an oracle does"
)]

mod agree;
mod arena;
mod bursts;
mod common;
mod device;
mod driver;
mod input;
mod model;
mod net;
mod restore;
#[cfg(test)]
mod sabotage;
pub mod seeds;
mod watched;

use virtio_ring::Format;

/// What a session came to: seeds are there for something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Chains completed by the device, or reaped by the driver.
    pub completed: usize,
    /// Chains that broke a rule.
    pub faulty: usize,
    /// Rings that the peer broke.
    pub broken: usize,
    /// Set-ups that were refused.
    pub refused: usize,
    /// Devices that went on where another stopped.
    pub restarts: usize,
}

/// A target: its name, and what it does.
pub struct Target {
    /// Name of the binary and of the folders with seeds.
    pub name: &'static str,
    /// What is run against what.
    pub about: &'static str,
    /// Runs it; panics if something is wrong.
    pub run: fn(&[u8]) -> Tally,
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    Target { name: "split_device", about: "a split device against a hostile driver", run: split_device },
    Target { name: "packed_device", about: "a packed device against a hostile driver", run: packed_device },
    Target { name: "split_driver", about: "a split driver against a hostile device", run: split_driver },
    Target { name: "packed_driver", about: "a packed driver against a hostile device", run: packed_driver },
    Target { name: "restore", about: "a device started from hostile addresses, sizes and states", run: restore },
    Target {
        name: "evil_memory",
        about: "devices and drivers on memory that gives another value at each read",
        run: evil_memory,
    },
    Target { name: "agree", about: "the same good chains through both formats", run: agree },
    Target { name: "bursts", about: "loops over a burst, resets and kept chains on a hostile ring", run: bursts },
    Target { name: "transmit", about: "transmit headers and frames of any content and framing", run: transmit },
    Target { name: "receive", about: "frames and host ends' headers into buffers of any sizes", run: receive },
    Target { name: "control", about: "commands of any content and framing", run: control },
    Target { name: "filters", about: "receive rules against a model, source checks, DHCP", run: filters },
    Target { name: "state", about: "device states that were changed, parsed and restored", run: state },
    Target { name: "session", about: "vhost-user messages with descriptors attached", run: session },
];

/// A split device against a hostile driver.
pub fn split_device(data: &[u8]) -> Tally {
    device::run(Format::Split, data, &[], device::ours(Format::Split))
}

/// A packed device against a hostile driver.
pub fn packed_device(data: &[u8]) -> Tally {
    device::run(Format::Packed, data, &[], device::ours(Format::Packed))
}

/// A device of either format, started from hostile addresses, sizes and states.
pub fn restore(data: &[u8]) -> Tally {
    restore::run(data, restore::ours)
}

/// A split driver against a hostile device.
pub fn split_driver(data: &[u8]) -> Tally {
    driver::run(Format::Split, data, &[], driver::ours)
}

/// A packed driver against a hostile device.
pub fn packed_driver(data: &[u8]) -> Tally {
    driver::run(Format::Packed, data, &[], driver::ours)
}

/// A device or a driver whose memory may give another value at each read. The first byte says which; the second, how
/// much of the rest is script and how much tricks.
pub fn evil_memory(data: &[u8]) -> Tally {
    let (format, script, tricks) = evil_parts(data);
    if data.first().is_none_or(|kind| kind & 2 == 0) {
        device::run(format, script, tricks, device::ours(format))
    } else {
        driver::run(format, script, tricks, driver::ours)
    }
}

/// Both sides' loops over a burst, resets and kept chains, on a ring that somebody else writes to as well.
pub fn bursts(data: &[u8]) -> Tally {
    bursts::run(data)
}

/// The same script of good chains through both formats.
pub fn agree(data: &[u8]) -> Tally {
    agree::run(data, agree::ours)
}

/// Transmit headers and frames of any content, in chains of any framing.
pub fn transmit(data: &[u8]) -> Tally {
    net::transmit::run(data)
}

/// Frames, and what a host end says of them, into receive buffers of any sizes.
pub fn receive(data: &[u8]) -> Tally {
    net::receive::run(data)
}

/// Commands of any content and framing.
pub fn control(data: &[u8]) -> Tally {
    net::control::run(data)
}

/// Receive rules against a model, and what a guest sends against the source checks.
pub fn filters(data: &[u8]) -> Tally {
    net::filters::run(data)
}

/// States that somebody changed.
pub fn state(data: &[u8]) -> Tally {
    net::state::run(data)
}

/// vhost-user messages with descriptors attached.
pub fn session(data: &[u8]) -> Tally {
    net::session::run(data)
}

/// Format, script and tricks, at least one.
fn evil_parts(data: &[u8]) -> (Format, &[u8], &[u8]) {
    let [kind, share, rest @ ..] = data else { return (Format::Split, &[], &[0]) };
    let (script, tricks) = rest.split_at(rest.len() * usize::from(*share) / 256);
    let format = if kind & 1 == 0 { Format::Split } else { Format::Packed };
    (format, script, if tricks.is_empty() { &[0] } else { tricks })
}
