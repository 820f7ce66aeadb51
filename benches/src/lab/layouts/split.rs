//! The split ring of virtio 1.x, and what becomes of it with the features that change who writes what.

use std::error::Error;

use virtio_ring::{QueueConfig, SplitDevice, SplitDriver};

use super::{area, line};
use crate::lab::report::{Lines, Picture, Writer};
use crate::lab::{DeviceSide, DriverSide, Layout, Poster, Setup};
use crate::{Area, bare, ours};

type Driver = ours::Driver<SplitDriver<Area>>;
type Device = ours::Device<SplitDevice<Area>>;
type Sides = Result<(Driver, Device), Box<dyn Error>>;

/// Sides that poll need not ask whether the other wants to be notified.
fn open(setup: &Setup<'_>, in_order: bool) -> Sides {
    let config = QueueConfig { event_idx: setup.sleeps, in_order, ..setup.arena.config };
    let (mut driver, mut device) = ours::split(setup.arena, &config)?;
    (driver.asks, device.asks) = (setup.sleeps, setup.sleeps);
    Ok(quiet(setup, driver, device))
}

/// Sides that ask even when both poll: what the protocol costs while both are awake.
fn open_asking(setup: &Setup<'_>, event_idx: bool) -> Sides {
    let config = QueueConfig { event_idx, ..setup.arena.config };
    let (driver, device) = ours::split(setup.arena, &config)?;
    Ok(quiet(setup, driver, device))
}

/// Sides that poll do not want to be notified.
pub(crate) fn quiet<A: DriverSide, B: DeviceSide>(setup: &Setup<'_>, mut driver: A, mut device: B) -> (A, B) {
    if !setup.sleeps {
        driver.disarm();
        device.disarm();
    }
    (driver, device)
}

/// The areas; `used` says when used entries are written, `events` what the event words are for.
fn areas(size: u16, used: &str, events: &str) -> Vec<Lines> {
    let twice = "driver once a lap, device reads it";
    vec![
        Lines { when: format!("once a buffer: {twice}"), ..area("descriptor table", "descriptor, 16 B", 16, size) },
        Lines { when: "once a burst".into(), ..line("available index and flags", "2 B + 2 B, before the entries") },
        Lines { when: format!("once a buffer: {twice}"), ..area("available ring", "head, 2 B", 2, size) },
        Lines { when: events.into(), ..line("used_event", "2 B, behind the available entries") },
        Lines {
            writer: Writer::Device,
            when: "once a burst".into(),
            ..line("used index and flags", "2 B + 2 B, before the entries")
        },
        Lines { writer: Writer::Device, when: used.into(), ..area("used ring", "id and length, 8 B", 8, size) },
        Lines { writer: Writer::Device, when: events.into(), ..line("avail_event", "2 B, behind the used entries") },
    ]
}

const RULE: &str = "A transfer is a line that one side wrote and the other then reads. Each burst is posted, used and \
    reaped before its lines are written again; taking a line back that the other side only read is not counted.";

fn picture(name: &str, idea: &str, areas: Vec<Lines>, used_lines: f64) -> Picture {
    let entries = if used_lines > 1.0 { "4 of used entries" } else { "1 of used entries" };
    Picture {
        layout: name.to_owned(),
        idea: idea.to_owned(),
        areas,
        // Descriptor, available entry, available index, used entry, used index.
        transfers_burst_1: 5.0,
        transfers_burst_32: (8.0 + 1.0 + 1.0 + used_lines + 1.0) / 32.0,
        count: format!(
            "{RULE} Burst 1: descriptor, available entry, available index, used entry, used index: 5. Burst 32: 8 lines \
             of descriptors, 1 of available entries, 1 with the available index, {entries}, 1 with the used index."
        ),
    }
}

const EACH: &str = "once a buffer: device once a lap, driver reads it";

macro_rules! layout {
    ($(#[$doc:meta])* $layout:ident = $name:literal, $idea:literal, $open:expr, $picture:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $layout;

        impl Layout for $layout {
            const NAME: &'static str = $name;
            const IDEA: &'static str = $idea;
            type Driver = Driver;
            type Device = Device;

            fn open(setup: &Setup<'_>) -> Sides {
                let open: fn(&Setup<'_>) -> Sides = $open;
                open(setup)
            }

            fn poster(setup: &Setup<'_>) -> Option<Poster> {
                bare::split_poster(setup)
            }

            fn picture(size: u16) -> Picture {
                let paint: fn(u16) -> (Vec<Lines>, f64) = $picture;
                let (areas, used_lines) = paint(size);
                picture(Self::NAME, Self::IDEA, areas, used_lines)
            }
        }
    };
}

const BEFORE_SLEEP: &str = "before sleeping; read once a burst by the other side";

layout! {
    /// The split ring; sides that sleep have the event index.
    Split = "split",
    "a table of descriptors, a ring of heads to the device, a ring of used heads back, an index each",
    |setup| open(setup, false),
    |size| (areas(size, EACH, BEFORE_SLEEP), 4.0)
}

layout! {
    /// The split ring in order: one used entry a burst.
    SplitInOrder = "split-in-order",
    "the split ring whose buffers are used in order: one used entry gives back a whole burst",
    |setup| open(setup, true),
    |size| (areas(size, "once a burst", BEFORE_SLEEP), 1.0)
}

layout! {
    /// With `VIRTIO_F_EVENT_IDX` whether sides sleep or not.
    SplitUsedEvent = "split-used-event",
    "the split ring with each side's last-used index in the ring (EVENT_IDX), asked about after each burst even when both poll: a fence and a load",
    |setup| open_asking(setup, true),
    |size| (areas(size, EACH, BEFORE_SLEEP), 4.0)
}

layout! {
    /// Without `VIRTIO_F_EVENT_IDX` whether sides sleep or not.
    SplitFlags = "split-flags",
    "the split ring with a flag each way that suppresses notifications, asked about after each burst even when both poll: a fence and a load",
    |setup| open_asking(setup, false),
    |size| (areas(size, EACH, "never: flags do their work"), 4.0)
}
