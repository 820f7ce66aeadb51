//! A ring set up from hostile addresses, sizes and states: what is wrong is named, and what is not goes on.

use std::rc::Rc;

use virtio_ring::{AnyDevice, DeviceRing, Fault, Format, GuestAddr, QueueConfig, QueueState, RingError};

use crate::Tally;
use crate::arena::{Arena, TABLE};
use crate::common::guest::{RING, RawPacked, word16};
use crate::device::{self, RING_BYTES, Session, anywhere};
use crate::input::Input;
use crate::watched::{Watched, WatchedArea};

/// A set-up, and maybe a session on it. `make` starts the device; `resume` if it is to be as [`AnyDevice::resume`].
pub(crate) fn run<D, F>(data: &[u8], make: F) -> Tally
where
    D: DeviceRing,
    F: Fn(&Watched, (Format, bool), &QueueConfig, QueueState) -> Result<D, RingError>,
{
    let mut input = Input::new(data);
    let flags = input.u8();
    let format = if flags & 1 == 0 { Format::Split } else { Format::Packed };
    let resume = flags & 2 != 0;
    let arena = Arena::fresh();
    if flags & 4 != 0 {
        arena.poke(RING, &[0; 2 * RING_BYTES]);
    }
    let config = place(&mut input, format);
    let state = state(&mut input, format, config.size);
    for _ in 0..input.u8() % 64 {
        let at = match input.below(4) {
            0 => config.device.0.wrapping_add(2),
            1 => config.desc.0.wrapping_add(16 * u64::from(input.u8()) + 14),
            _ => RING + u64::from(input.u16()) % (2 * RING_BYTES as u64),
        };
        arena.poke(at, &input.u16().to_le_bytes());
    }
    let mem = Watched::new(Rc::clone(&arena), &[]);
    let effective = if resume { meant(format, &config, state, &arena) } else { state };
    let violations = violations(format, &config, effective, &arena);
    let device = match make(&mem, (format, resume), &config, state) {
        Err(error) => {
            assert!(violations.contains(&error), "oracle: {error:?}, but what is wrong is {violations:?}");
            arena.check();
            return Tally { refused: 1, ..Tally::default() };
        }
        Ok(device) => device,
    };
    assert_eq!(violations, [], "oracle: a ring that cannot be: {config:?} at {state:x?}");
    assert_eq!(device.size(), config.size);
    let kept = if format == Format::Split { QueueState(effective.0 & 0xFFFF) } else { effective };
    assert_eq!(device.state(), kept, "oracle: state");
    if overlap(format, &config) || config.size > 64 {
        return Tally { restarts: 1, ..Tally::default() };
    }
    let again = |mem: &Watched, config: &QueueConfig, state| make(mem, (format, false), config, state);
    let tally = Session::new(input, mem, (format, config), (again, device), kept).finish(false);
    Tally { restarts: tally.restarts + 1, ..tally }
}

/// A device of the crate.
pub(crate) fn ours(
    mem: &Watched,
    (format, resume): (Format, bool),
    config: &QueueConfig,
    state: QueueState,
) -> Result<AnyDevice<WatchedArea>, RingError> {
    let make = if resume { AnyDevice::resume } else { AnyDevice::new };
    make(mem, format, config, state)
}

fn place(input: &mut Input<'_>, format: Format) -> QueueConfig {
    let kind = input.u8();
    if kind & 1 == 0 {
        return device::set_up(input, format).config();
    }
    let size = if kind & 2 == 0 { input.u16() } else { 1 << (input.u8() % 16) };
    let (desc, driver, device) = (anywhere(input), anywhere(input), anywhere(input));
    let aligned = |addr: GuestAddr, to: u64| if kind & 4 == 0 { GuestAddr(addr.0 & !(to - 1)) } else { addr };
    QueueConfig {
        size,
        desc: aligned(desc, 16),
        driver: aligned(driver, 4),
        device: aligned(device, 4),
        event_idx: kind & 8 != 0,
        indirect: kind & 16 != 0,
        in_order: kind & 32 != 0,
    }
}

/// Any state, or one that may be true of a ring of that size.
fn state(input: &mut Input<'_>, format: Format, size: u16) -> QueueState {
    let place = |input: &mut Input<'_>| {
        let byte = input.u8();
        u32::from(byte & 0x7F) % u32::from(size).max(1) + (u32::from(byte >> 7) << 15)
    };
    match input.below(4) {
        0 => QueueState(input.u32()),
        1 => format.start(),
        2 => QueueState(place(input) | place(input) << 16),
        _ => QueueState(place(input)),
    }
}

/// The three areas: address, bytes, alignment.
fn areas(format: Format, config: &QueueConfig) -> [(GuestAddr, u64, u64); 3] {
    let size = u64::from(config.size);
    let (driver, device) = match format {
        Format::Split => ((6 + 2 * size, 2), (6 + 8 * size, 4)),
        Format::Packed => ((4, 4), (4, 4)),
    };
    [(config.desc, 16 * size, 16), (config.driver, driver.0, driver.1), (config.device, device.0, device.1)]
}

fn overlap(format: Format, config: &QueueConfig) -> bool {
    let mut all = areas(format, config).map(|(addr, len, _)| (addr.0, addr.0 + len));
    all.sort_unstable();
    all.windows(2).any(|pair| pair[0].1 > pair[1].0) || all.iter().any(|(_, end)| *end > TABLE)
}

/// The state that a front end means which knows split rings only: see [`virtio_ring::PackedDevice::resume`].
fn meant(format: Format, config: &QueueConfig, state: QueueState, arena: &Arena) -> QueueState {
    let flags = |i| arena.read(config.desc.0.wrapping_add(16 * i + 14), 2).map_or(0, |b| u16::from(b[1]) << 8);
    let unused = || (0..u64::from(config.size)).all(|i| flags(i) & RawPacked::USED == 0);
    match state.0 {
        _ if format == Format::Split => state,
        0 if unused() => QueueState::PACKED,
        low @ 0..=0xFFFF => QueueState(low << 16 | low),
        _ => state,
    }
}

/// All that is wrong with a set-up, as a device may say it.
pub(crate) fn violations(format: Format, config: &QueueConfig, state: QueueState, arena: &Arena) -> Vec<RingError> {
    let size = config.size;
    let mut all = Vec::new();
    match format {
        Format::Split if !size.is_power_of_two() => all.push(RingError::Size { size }),
        Format::Packed if size == 0 || size > 32_768 => all.push(RingError::PackedSize { size }),
        _ => {}
    }
    for (addr, len, align) in areas(format, config) {
        if !addr.0.is_multiple_of(align) {
            all.push(RingError::Misaligned { addr, align: align as usize });
        }
        // In one piece of host memory.
        if Arena::runs(addr.0, len).is_none_or(|runs| runs.len() > 1) {
            all.push(RingError::Unmapped(Fault::forbidden(addr, len, virtio_ring::Access::Write)));
        }
    }
    if !all.is_empty() {
        return all;
    }
    let (avail, used) = (state.0 as u16, (state.0 >> 16) as u16);
    match format {
        Format::Split => {
            let used = word16(&arena.mem, config.device.0 + 2);
            if avail.wrapping_sub(used) > size {
                all.push(RingError::State { avail, used, size });
            }
        }
        Format::Packed => packed_state(config, (avail, used), arena, &mut all),
    }
    all
}

fn packed_state(config: &QueueConfig, (avail, used): (u16, u16), arena: &Arena, all: &mut Vec<RingError>) {
    let size = config.size;
    if avail & 0x7FFF >= size {
        all.push(RingError::PackedAvail { avail, size });
    }
    if used & 0x7FFF >= size {
        all.push(RingError::PackedUsed { used, size });
    }
    if !all.is_empty() {
        return;
    }
    // From slot to slot, as the device would go.
    let (mut at, mut held) = (used, 0_u32);
    let mut first_bad = None;
    while at != avail {
        let (_, _, flags) = RawPacked(*config).tail(&arena.mem, at & 0x7FFF);
        let fresh = if at & 0x8000 == 0 { RawPacked::USED } else { RawPacked::AVAIL };
        if flags & (RawPacked::AVAIL | RawPacked::USED) != fresh {
            first_bad = first_bad.or(Some(at & 0x7FFF));
        }
        held += 1;
        at = if at & 0x7FFF == size - 1 { (at & 0x8000) ^ 0x8000 } else { at + 1 };
    }
    if held > size.into() {
        all.push(RingError::PackedOrder { avail, used, size });
    } else if let Some(slot) = first_bad {
        all.push(RingError::PackedHeld { avail, used, slot });
    }
}
