//! The hostile driver's half of a session: it only has memory.

use virtio_ring::{DeviceRing, Format, QueueConfig};

use super::{RING_BYTES, Session};
use crate::arena::{BUFFER, SEAM, TABLE, TOP};
use crate::common::guest::{INDIRECT, NEXT, RING, RawPacked, WRITE, descriptor};

impl<D: DeviceRing, F> Session<'_, D, F> {
    pub(super) fn config(&self) -> QueueConfig {
        self.model.config
    }

    fn address(&mut self) -> u64 {
        match self.input.below(8) {
            0..=2 => BUFFER + u64::from(self.input.u16()) % (SEAM - BUFFER),
            3 => SEAM - u64::from(self.input.u8()),
            4 => TABLE + 16 * u64::from(self.input.u8()),
            5 => RING + u64::from(self.input.u16()) % RING_BYTES as u64,
            6 => TOP + u64::from(self.input.u16()) % 0x1000,
            _ => self.input.u64(),
        }
    }

    fn length(&mut self) -> u32 {
        match self.input.below(4) {
            0 | 1 => self.input.u8().into(),
            2 => self.input.u16().into(),
            _ => self.input.u32(),
        }
    }

    /// Address, length, flags, and the index of the next or the buffer id.
    fn fields(&mut self) -> (u64, u32, u16, u16) {
        let flags = self.input.u8();
        let next = match flags >> 6 {
            0 => self.input.u16(),
            _ => u16::from(self.input.u8()) % self.config().size,
        };
        if flags & 4 != 0 && flags & 8 == 0 {
            // Most of what says that it is a table is one.
            return (TABLE, 16 * u32::from(self.input.u8() % 8), flags.into(), next);
        }
        let (addr, len) = (self.address(), self.length());
        // Not longer than it takes: a table of all of memory tells no more than one of 256 entries.
        let len = if flags & 4 != 0 && len <= 0x8_0000 { len % 0x1000 } else { len };
        (addr, len, (flags & 7).into(), next)
    }

    /// The flags that make the slot at `position` available.
    fn fresh(&self, position: u64) -> u16 {
        if self.model.wrap(position) { RawPacked::AVAIL } else { RawPacked::USED }
    }

    fn put(&self, slot: u64, (addr, len, flags, next): (u64, u32, u16, u16)) {
        let entry = match self.model.format {
            Format::Split => descriptor(addr, len, flags, next),
            Format::Packed => descriptor(addr, len, next, flags),
        };
        self.mem.arena.poke(self.config().desc.0 + 16 * slot, &entry);
    }

    /// A chain of one or two buffers.
    pub(super) fn offer_good(&mut self) {
        let size = u64::from(self.config().size);
        let first = self.input.u8();
        let (slot, len) = (u64::from(first) % size, u32::from(self.input.u8()));
        let two = first & 0x80 != 0 && size > 1;
        let buffer = |i: u64| BUFFER + 64 * (2 * slot + i);
        let (head, tail) = (if two { NEXT } else { WRITE }, WRITE);
        if self.model.format == Format::Split {
            let next = (slot + 1) % size;
            if two {
                self.put(next, (buffer(1), len, tail, 0));
            }
            self.put(slot, (buffer(0), len, head, next as u16));
            return self.publish(slot as u16);
        }
        let at = self.offered;
        if two {
            let second = (buffer(1), len, tail | self.fresh(at + 1), slot as u16);
            self.put(self.model.slot(at + 1), second);
        }
        self.put(self.model.slot(at), (buffer(0), len, head | self.fresh(at), slot as u16));
        self.offered += if two { 2 } else { 1 };
    }

    /// Any descriptor; in a packed ring it may be available with it.
    pub(super) fn write_descriptor(&mut self) {
        let slot = u64::from(self.input.u8());
        let (addr, len, flags, next) = self.fields();
        if self.model.format == Format::Split {
            return self.put(slot % u64::from(self.config().size), (addr, len, flags, next));
        }
        let at = self.offered + slot % 8;
        self.put(self.model.slot(at), (addr, len, flags | self.fresh(at), next));
    }

    /// Makes a descriptor available, whatever is there.
    pub(super) fn offer(&mut self) {
        let head = self.input.u8();
        if self.model.format == Format::Packed {
            self.offered += u64::from(head % 8);
            return;
        }
        // Now and then a descriptor that is none.
        let head = if head >= 0xF8 { u16::from(head) << 8 } else { u16::from(head) % self.config().size };
        self.publish(head);
    }

    fn publish(&mut self, head: u16) {
        let entry = self.config().driver.0 + 4 + 2 * self.model.slot(self.offered);
        self.mem.arena.poke(entry, &head.to_le_bytes());
        self.offered += 1;
        self.mem.arena.poke(self.config().driver.0 + 2, &(self.offered as u16).to_le_bytes());
    }

    pub(super) fn write_table(&mut self) {
        let index = u64::from(self.input.u8() % 8);
        let (addr, len, flags, next) = self.fields();
        let (third, fourth) = match self.model.format {
            Format::Split => (flags & !(INDIRECT * u16::from(flags & 8 == 0)), next % 8),
            Format::Packed => (next, flags),
        };
        self.mem.arena.poke(TABLE + 16 * index, &descriptor(addr, len, third, fourth));
    }

    /// Any bytes anywhere in the ring.
    pub(super) fn raw(&mut self) {
        let at = RING + u64::from(self.input.u16()) % RING_BYTES as u64;
        let word = self.input.u16().to_le_bytes();
        self.mem.arena.poke(at, &word);
    }
}
