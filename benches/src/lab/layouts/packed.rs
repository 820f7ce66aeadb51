//! The packed ring of virtio 1.1 and later.

use std::error::Error;

use virtio_ring::{PackedDevice, PackedDriver, QueueConfig};

use super::split::quiet;
use super::{area, line};
use crate::lab::report::{Lines, Picture, Writer};
use crate::lab::{Layout, Poster, Setup};
use crate::{Area, bare, ours};

type Driver = ours::Driver<PackedDriver<Area>>;
type Device = ours::Device<PackedDevice<Area>>;
type Sides = Result<(Driver, Device), Box<dyn Error>>;

fn open(setup: &Setup<'_>, in_order: bool) -> Sides {
    let config = QueueConfig { event_idx: setup.sleeps, in_order, ..setup.arena.packed() };
    let (mut driver, mut device) = ours::packed(setup.arena, &config)?;
    // Sides that poll need not ask whether the other wants to be notified.
    (driver.asks, device.asks) = (setup.sleeps, setup.sleeps);
    Ok(quiet(setup, driver, device))
}

fn areas(size: u16, when: &str) -> Vec<Lines> {
    let event = "before sleeping; read once a burst by the other side";
    vec![
        Lines {
            writer: Writer::Both,
            when: format!("driver once a buffer, device {when}"),
            ..area("descriptor ring", "descriptor, 16 B", 16, size)
        },
        Lines { when: event.into(), ..line("driver event suppression", "4 B") },
        Lines { writer: Writer::Device, when: event.into(), ..line("device event suppression", "4 B") },
    ]
}

const RULE: &str = "A transfer is a line that one side wrote and the other then reads. Each burst is posted, used and \
    reaped before its lines are written again; taking a line back that the other side only read is not counted.";

/// Used descriptors in place: every line there and back.
#[derive(Debug)]
pub struct Packed;

impl Layout for Packed {
    const NAME: &'static str = "packed";
    const IDEA: &'static str = "one ring of descriptors that the device overwrites when it has used them";
    type Driver = Driver;
    type Device = Device;

    fn open(setup: &Setup<'_>) -> Sides {
        open(setup, false)
    }

    fn poster(setup: &Setup<'_>) -> Option<Poster> {
        bare::packed_poster(setup)
    }

    fn picture(size: u16) -> Picture {
        Picture {
            layout: Self::NAME.to_owned(),
            idea: Self::IDEA.to_owned(),
            areas: areas(size, "once a buffer"),
            transfers_burst_1: 2.0,
            transfers_burst_32: (8.0 + 8.0) / 32.0,
            count: format!(
                "{RULE} Burst 1: the descriptor's line there and back: 2. Burst 32: 8 lines there, the same 8 back."
            ),
        }
    }
}

/// In order: one used descriptor a burst.
#[derive(Debug)]
pub struct PackedInOrder;

impl Layout for PackedInOrder {
    const NAME: &'static str = "packed-in-order";
    const IDEA: &'static str =
        "the packed ring whose buffers are used in order: one used descriptor gives back a burst";
    type Driver = Driver;
    type Device = Device;

    fn open(setup: &Setup<'_>) -> Sides {
        open(setup, true)
    }

    fn poster(setup: &Setup<'_>) -> Option<Poster> {
        bare::packed_poster(setup)
    }

    fn picture(size: u16) -> Picture {
        Picture {
            layout: Self::NAME.to_owned(),
            idea: Self::IDEA.to_owned(),
            areas: areas(size, "once a burst"),
            transfers_burst_1: 2.0,
            transfers_burst_32: (8.0 + 1.0) / 32.0,
            count: format!(
                "{RULE} Burst 1: the descriptor's line there and back: 2. Burst 32: 8 lines there, the one with the \
                 used descriptor back."
            ),
        }
    }
}
