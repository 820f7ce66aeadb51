//! The rules of a chain, which are the same in every format.

use crate::error::{ChainFault, Fault};
use crate::mem::{Access, GuestAddr, GuestMemory, GuestSlice};
use crate::ring::{ChainSink, Element, Token};

/// `VIRTQ_DESC_F_NEXT`: the chain goes on.
#[doc(alias = "VRING_DESC_F_NEXT")]
pub(crate) const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`: the device writes to this buffer.
#[doc(alias = "VRING_DESC_F_WRITE")]
pub(crate) const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`: the buffer is a table of descriptors.
#[doc(alias = "VRING_DESC_F_INDIRECT")]
pub(crate) const INDIRECT: u16 = 4;

/// Bytes of one descriptor in a table.
pub(crate) const DESC_LEN: usize = 16;
/// Most entries of a table.
const MAX_TABLE: u32 = 32_768;

/// One descriptor, read once into the host.
#[derive(Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

impl Descriptor {
    /// From the two little-endian words of the table, already in the host's order.
    #[inline]
    pub(crate) const fn from_words((addr, rest): (u64, u64)) -> Self {
        Self { addr, len: rest as u32, flags: (rest >> 32) as u16, next: (rest >> 48) as u16 }
    }

    /// The buffer that it describes.
    #[inline]
    pub(crate) const fn element(self) -> Element {
        Element { addr: GuestAddr(self.addr), len: self.len, writable: self.flags & WRITE != 0 }
    }

    #[inline]
    pub(crate) const fn into_words(self) -> (u64, u64) {
        (self.addr, self.len as u64 | (self.flags as u64) << 32 | (self.next as u64) << 48)
    }
}

/// The head of the next available chain, read once: what a walk begins with.
#[derive(Clone, Copy)]
pub struct Front {
    /// Split: the head's index. Packed: the buffer id, if the chain has one descriptor.
    pub(crate) head: u16,
    /// The descriptor as it is in the table of a split ring: two words go through registers, its fields would not.
    pub(crate) words: (u64, u64),
}

impl Front {
    /// The token of the chain, if it takes one slot.
    #[inline]
    pub(crate) const fn token(&self) -> Token {
        Token::new(self.head, 1, Descriptor::from_words(self.words).flags & WRITE != 0)
    }

    /// Address and length of the chain's only element, if it is one direct descriptor of a buffer to be written, or read.
    #[inline]
    pub(crate) const fn plain<const WRITABLE: bool>(&self) -> Option<(GuestAddr, u32)> {
        let d = Descriptor::from_words(self.words);
        let flags = if WRITABLE { WRITE } else { 0 };
        if d.flags & (NEXT | INDIRECT | WRITE) == flags { Some((GuestAddr(d.addr), d.len)) } else { None }
    }

    /// The chain's only element, if it is one direct descriptor. Such a chain breaks no rule that binds several.
    #[inline]
    pub(crate) const fn single(&self) -> Option<Element> {
        let d = Descriptor::from_words(self.words);
        if d.flags & (NEXT | INDIRECT) == 0 { Some(d.element()) } else { None }
    }
}

/// What has been seen of a chain so far.
pub(crate) struct Walk<'s, S> {
    sink: &'s mut S,
    writable: bool,
    bytes: u32,
}

impl<'s, S: ChainSink> Walk<'s, S> {
    #[inline]
    pub(crate) fn new(sink: &'s mut S) -> Self {
        Self { sink, writable: false, bytes: 0 }
    }

    /// True if the last element was writable.
    #[inline]
    pub(crate) const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Checks one element and hands it on.
    #[inline]
    pub(crate) fn element(&mut self, d: Descriptor) -> Result<(), ChainFault> {
        let e = d.element();
        if self.writable && !e.writable {
            return Err(ChainFault::ReadableBehindWritable { addr: e.addr });
        }
        self.writable = e.writable;
        self.bytes = self.bytes.checked_add(e.len).ok_or(ChainFault::TooManyBytes)?;
        self.sink.push(e)
    }

    /// Walks the table that a split ring's `d` names (virtio 1.3, 2.7.5.3). Its `WRITE` flag means nothing.
    pub(crate) fn indirect<M: GuestMemory>(&mut self, mem: &M, d: Descriptor) -> Result<(), ChainFault> {
        let table = Table::new(mem, d)?;
        let size = table.size;
        let mut index = 0;
        // As many steps as the table has entries are enough for every chain without a loop.
        for _ in 0..size {
            let entry = Descriptor::from_words(table.read(index)?);
            if entry.flags & INDIRECT != 0 {
                return Err(ChainFault::Indirect);
            }
            self.element(entry)?;
            if entry.flags & NEXT == 0 {
                return Ok(());
            }
            if entry.next >= size {
                return Err(ChainFault::Next { next: entry.next, size });
            }
            index = entry.next;
        }
        Err(ChainFault::TooLong { max: size })
    }

    /// Walks the table that a packed ring's `d` names: all of it, in order; of the flags only `WRITE` counts (virtio 1.3,
    /// 2.8.7).
    pub(crate) fn packed_table<M: GuestMemory>(&mut self, mem: &M, d: Descriptor) -> Result<(), ChainFault> {
        let table = Table::new(mem, d)?;
        for index in 0..table.size {
            let (addr, rest) = table.read(index)?;
            self.element(Descriptor { addr, len: rest as u32, flags: (rest >> 48) as u16 & WRITE, next: 0 })?;
        }
        Ok(())
    }
}

/// An indirect table in guest memory; it may lie across regions.
struct Table<'m, M> {
    mem: &'m M,
    addr: GuestAddr,
    len: usize,
    /// Entries: 1 to 32768.
    size: u16,
    /// The table's translated prefix.
    prefix: GuestSlice<'m>,
}

impl<'m, M: GuestMemory> Table<'m, M> {
    fn new(mem: &'m M, d: Descriptor) -> Result<Self, ChainFault> {
        let entries = d.len.div_euclid(DESC_LEN as u32);
        if entries == 0 || entries > MAX_TABLE || !d.len.is_multiple_of(DESC_LEN as u32) {
            return Err(ChainFault::IndirectLen { len: d.len });
        }
        let (addr, len) = (GuestAddr(d.addr), d.len as usize);
        let prefix = mem.translate(addr, len, Access::Read)?;
        Ok(Self { mem, addr, len, size: entries as u16, prefix })
    }

    /// Reads entry `index`, which is below the table's size, once: two words in the host's order.
    #[inline]
    fn read(&self, index: u16) -> Result<(u64, u64), ChainFault> {
        let offset = usize::from(index).wrapping_mul(DESC_LEN); // below 2^19
        let mut bytes = [0_u8; DESC_LEN];
        if self.prefix.len() == self.len {
            self.prefix.skip(offset).read(&mut bytes);
        } else {
            self.read_across(offset, &mut bytes)?;
        }
        let word = u128::from_le_bytes(bytes);
        Ok((word as u64, (word >> 64) as u64))
    }

    #[cold]
    fn read_across(&self, offset: usize, bytes: &mut [u8; DESC_LEN]) -> Result<(), ChainFault> {
        let mut left: &mut [u8] = bytes;
        let mut addr = self.addr.checked_add(offset as u64);
        while !left.is_empty() {
            let at = addr.ok_or(ChainFault::TooManyBytes)?;
            let part = self.mem.translate(at, left.len(), Access::Read)?;
            let n = part.read(left);
            if n == 0 {
                // Against its contract; but no reason to go on forever.
                return Err(Fault::forbidden(at, left.len() as u64, Access::Read).into());
            }
            addr = at.checked_add(n as u64);
            left = left.get_mut(n..).unwrap_or_default();
        }
        Ok(())
    }
}
