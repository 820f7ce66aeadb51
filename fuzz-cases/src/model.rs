//! The device's side as the specification has it, slow and short: what a device has to make of what it read.

use virtio_ring::{Format, MAX_SEGMENTS, QueueConfig, QueueState};

use crate::arena::{Arena, Run};
use crate::common::guest::{INDIRECT, NEXT, RawPacked, WRITE};
use crate::watched::Watched;

const AVAIL_USED: u16 = RawPacked::AVAIL | RawPacked::USED;

/// What a chain is made of.
pub(crate) enum Shape {
    /// Runs to read, runs to write.
    Good(Vec<Run>, Vec<Run>),
    Faulty,
    /// An indirect table in memory that changes while it is read.
    Unknown,
}

/// A chain that is available.
pub(crate) struct Chain {
    pub(crate) id: u16,
    /// Positions that it takes.
    pub(crate) count: u64,
    pub(crate) shape: Shape,
    /// The device may write to it, as far as it knows: its used entry must not be left out.
    pub(crate) writable: bool,
}

pub(crate) enum Next {
    Empty,
    Chain(Chain),
    Broken,
}

/// Where the device should be. Positions count entries (split) or slots (packed), laps included.
pub(crate) struct Model {
    pub(crate) format: Format,
    pub(crate) config: QueueConfig,
    pub(crate) mem: Watched,
    /// Indirect tables change while they are read.
    pub(crate) evil: bool,
    pub(crate) avail: u64,
    pub(crate) used: u64,
    /// Split: the driver's index as last read.
    idx: u16,
    pub(crate) broken: bool,
}

/// A descriptor: address, length, flags, and the index of the next or the buffer id.
#[derive(Clone, Copy)]
struct Desc(u64, u32, u16, u16);

impl Model {
    /// A ring that goes on at `state`, which a device has just accepted. Whoever served a split ring before left the used
    /// index in it.
    pub(crate) fn new(format: Format, config: QueueConfig, mem: Watched, state: QueueState) -> Self {
        let used = if format == Format::Split { mem.take(config.device.0 + 2) as u16 } else { 0 };
        let low = state.0 as u16;
        let mut model = Self { format, config, mem, evil: false, avail: 0, used: 0, idx: low, broken: false };
        let laps = 4 * 0x1_0000;
        (model.used, model.avail) = match format {
            Format::Split => (laps + u64::from(used), laps + u64::from(used) + u64::from(low.wrapping_sub(used))),
            Format::Packed => {
                let double = 2 * u64::from(config.size);
                let at = |bits: u16| u64::from(bits & 0x7FFF) + if bits & 0x8000 == 0 { double / 2 } else { 0 };
                let (used, avail) = (at((state.0 >> 16) as u16), at(low));
                (double + used, double + used + (double + avail - used) % double)
            }
        };
        model
    }

    /// A position as event words and states have it.
    pub(crate) fn bits(&self, position: u64) -> u16 {
        let size = u64::from(self.config.size);
        match self.format {
            Format::Split => position as u16,
            Format::Packed => (position % size) as u16 | if self.wrap(position) { 0x8000 } else { 0 },
        }
    }

    pub(crate) fn wrap(&self, position: u64) -> bool {
        (position / u64::from(self.config.size)).is_multiple_of(2)
    }

    pub(crate) fn slot(&self, position: u64) -> u64 {
        position % u64::from(self.config.size)
    }

    pub(crate) fn state(&self) -> QueueState {
        let used = if self.format == Format::Split { 0 } else { self.bits(self.used) };
        QueueState(u32::from(used) << 16 | u32::from(self.bits(self.avail)))
    }

    /// The next chain, of what the device read meanwhile.
    pub(crate) fn next(&mut self) -> Next {
        let next = match self.format {
            Format::Split => self.next_split(),
            Format::Packed => self.next_packed(),
        };
        match &next {
            Next::Chain(chain) => self.avail += chain.count,
            Next::Broken => self.broken = true,
            Next::Empty => {}
        }
        next
    }

    /// True if a device may be sure that there is no other chain to take: a split ring's once it `took` all up to the index
    /// that it read, a packed ring's while it has every slot.
    pub(crate) fn knows_of_no_more(&self, took: bool) -> bool {
        match self.format {
            Format::Split => took && self.idx == self.avail as u16,
            Format::Packed => self.broken || self.avail - self.used == u64::from(self.config.size),
        }
    }

    fn next_split(&mut self) -> Next {
        let size = self.config.size;
        if self.broken {
            return Next::Empty;
        }
        if self.idx == self.avail as u16 {
            let idx = self.mem.take(self.config.driver.0 + 2) as u16;
            if idx.wrapping_sub(self.used as u16) > size || idx.wrapping_sub(self.avail as u16) > size {
                return Next::Broken;
            }
            self.idx = idx;
            if idx == self.avail as u16 {
                return Next::Empty;
            }
        }
        let id = self.mem.take(self.config.driver.0 + 4 + 2 * self.slot(self.avail)) as u16;
        if id >= size {
            return Next::Broken;
        }
        let mut walk = Walk::default();
        let done = self.walk_split(&mut walk, id);
        Next::Chain(walk.chain(id, 1, done))
    }

    /// `None` if the chain breaks a rule.
    fn walk_split(&self, walk: &mut Walk, id: u16) -> Option<()> {
        let mut d = self.descriptor(id);
        for _ in 0..self.config.size {
            if d.2 & INDIRECT != 0 {
                return self.table(walk, d);
            }
            walk.element(d)?;
            if d.2 & NEXT == 0 {
                return Some(());
            }
            if d.3 >= self.config.size {
                return None;
            }
            d = self.descriptor(d.3);
        }
        None
    }

    fn descriptor(&self, index: u16) -> Desc {
        let at = self.config.desc.0 + 16 * u64::from(index);
        let (addr, rest) = (self.mem.take(at), self.mem.take(at + 8));
        Desc(addr, rest as u32, (rest >> 32) as u16, (rest >> 48) as u16)
    }

    fn next_packed(&mut self) -> Next {
        let at = |position| self.config.desc.0 + 16 * self.slot(position);
        let tail = self.mem.take(at(self.avail) + 8);
        let fresh = if self.wrap(self.avail) { RawPacked::AVAIL } else { RawPacked::USED };
        let held = self.avail - self.used;
        if (tail >> 48) as u16 & AVAIL_USED != fresh || held >= self.config.size.into() || self.broken {
            return Next::Empty;
        }
        let read = |tail: u64, position| {
            Desc(self.mem.take(at(position)), tail as u32, (tail >> 48) as u16, (tail >> 32) as u16)
        };
        let mut d = read(tail, self.avail);
        let mut walk = Walk::default();
        let mut good = Some(());
        for count in 1..=u64::from(self.config.size) - held {
            if good.is_some() {
                good = if d.2 & INDIRECT == 0 { walk.element(d) } else { self.table(&mut walk, d) };
            }
            if d.2 & NEXT == 0 {
                return Next::Chain(walk.chain(d.3, count, good));
            }
            let position = self.avail + count;
            d = read(self.mem.take(at(position) + 8), position);
        }
        Next::Broken
    }

    /// An indirect table (virtio 1.3, 2.7.5.3 and 2.8.7).
    fn table(&self, walk: &mut Walk, Desc(addr, len, flags, _): Desc) -> Option<()> {
        let entries = len / 16;
        if !self.config.indirect || flags & NEXT != 0 || entries == 0 || entries > 32_768 || !len.is_multiple_of(16) {
            return None;
        }
        if self.evil {
            walk.unknown = true;
            return Some(());
        }
        Arena::runs(addr, 1)?;
        let mut index = 0;
        for i in 1..=entries {
            let entry = self.mem.arena.read(addr.checked_add(16 * u64::from(index))?, 16)?;
            let word = u128::from_le_bytes(entry.try_into().ok()?);
            let d = Desc(word as u64, (word >> 64) as u32, (word >> 96) as u16, (word >> 112) as u16);
            if self.format == Format::Packed {
                walk.element(Desc(d.0, d.1, d.3 & WRITE, 0))?;
                index = i;
                continue;
            }
            if d.2 & INDIRECT != 0 {
                return None;
            }
            walk.element(d)?;
            if d.2 & NEXT == 0 {
                return Some(());
            }
            index = Some(u32::from(d.3)).filter(|next| *next < entries)?;
        }
        (self.format == Format::Packed).then_some(())
    }

    /// Publication of `old..self.used`: the driver wants to be told, by what the device read of its wishes.
    pub(crate) fn wanted(&self, old: u64) -> bool {
        let contains = |event: u16| (old..self.used).any(|p| self.bits(p) == event);
        if old == self.used {
            return false;
        }
        match (self.format, self.config.event_idx) {
            (Format::Split, false) => self.mem.take(self.config.driver.0) & 1 == 0,
            (Format::Split, true) => {
                contains(self.mem.take(self.config.driver.0 + 4 + 2 * u64::from(self.config.size)) as u16)
            }
            (Format::Packed, _) => {
                let word = self.mem.take(self.config.driver.0);
                let offset = word as u16;
                match word >> 16 & 3 {
                    1 => false,
                    2 if offset & 0x7FFF < self.config.size => contains(offset),
                    _ => true,
                }
            }
        }
    }

    /// `arm` found work, by what the device read after it asked.
    pub(crate) fn has_work(&self) -> bool {
        match self.format {
            Format::Split if self.broken => false,
            Format::Split => self.mem.take(self.config.driver.0 + 2) as u16 != self.avail as u16,
            Format::Packed => {
                if self.broken || self.avail - self.used >= self.config.size.into() {
                    return false;
                }
                let tail = self.mem.take(self.config.desc.0 + 16 * self.slot(self.avail) + 8);
                let fresh = if self.wrap(self.avail) { RawPacked::AVAIL } else { RawPacked::USED };
                (tail >> 48) as u16 & AVAIL_USED == fresh
            }
        }
    }
}

/// What has been seen of a chain.
#[derive(Default)]
struct Walk {
    readable: Vec<Run>,
    writable: Vec<Run>,
    bytes: u32,
    last_is_writable: bool,
    unknown: bool,
}

impl Walk {
    fn element(&mut self, Desc(addr, len, flags, _): Desc) -> Option<()> {
        let writable = flags & WRITE != 0;
        if self.last_is_writable && !writable {
            return None;
        }
        self.last_is_writable = writable;
        self.bytes = self.bytes.checked_add(len)?;
        let runs = Arena::runs(addr, len.into())?;
        if self.readable.len() + self.writable.len() + runs.len() > MAX_SEGMENTS {
            return None;
        }
        if writable { &mut self.writable } else { &mut self.readable }.extend(runs);
        Some(())
    }

    fn chain(self, id: u16, count: u64, done: Option<()>) -> Chain {
        let writable = self.last_is_writable || done.is_none();
        let shape = match done {
            None => Shape::Faulty,
            Some(()) if self.unknown => Shape::Unknown,
            Some(()) => Shape::Good(self.readable, self.writable),
        };
        Chain { id, count, shape, writable }
    }
}
