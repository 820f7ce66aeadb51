//! Buffers of changing sizes, cut from a fixed piece of memory.

use alloc::vec::Vec;

use virtio_ring::GuestAddr;

/// Bytes of a cacheline.
const LINE: u32 = 64;

/// Cachelines of a block, if one buffer needs no more: 32 KiB as in Linux, and one line more, so that the buffers of
/// neighbouring blocks do not fall into the same cache sets.
const BLOCK_LINES: u32 = 513;

/// A buffer, named by its first address: no two that are out share a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) addr: GuestAddr,
    pub(super) len: u32,
}

/// The length of a buffer for `len` bytes: an odd number of cachelines, at least three. No two buffers share a line, and
/// those of one size fall into all cache sets in turn, as they do not with a power of two between them.
pub(super) const fn stride(len: u32) -> u32 {
    let lines = len.div_ceil(LINE) | 1;
    let lines = if lines < 3 { 3 } else { lines };
    lines.saturating_mul(LINE)
}

/// True if a buffer of `len` bytes will do where `wanted` bytes are wanted: an eighth more or less.
pub(super) const fn suits(len: u32, wanted: u32) -> bool {
    len.abs_diff(wanted) <= wanted / 8
}

/// Bytes of a block for buffers of at most `longest` bytes, which is a [`stride`].
const fn block_len(longest: u32) -> u32 {
    let usual = BLOCK_LINES.saturating_mul(LINE);
    if longest > usual { longest } else { usual }
}

/// Buffers of a block.
fn slots(block_len: u32, stride: u32) -> u32 {
    block_len.checked_div(stride).unwrap_or(0).min(u64::BITS)
}

/// Bytes of memory for `count` buffers that are at most `longest` bytes long, which is a [`stride`]: they are there
/// however the sizes changed before.
pub(super) fn memory_len(longest: u32, count: u16) -> u64 {
    let block = block_len(longest);
    let blocks = u32::from(count).div_ceil(slots(block, longest).max(1));
    // One more, so that there is one to begin with when the size changes.
    u64::from(block).saturating_mul(u64::from(blocks).saturating_add(1))
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// Bytes from one buffer to the next; may change while none is out.
    stride: u32,
    /// A bit for each buffer that is out.
    used: u64,
}

/// Cuts blocks into buffers of one size each; once all buffers of a block came back, it is cut anew.
///
/// A hole that a buffer leaves is filled again, so that one buffer that stays out blocks nothing but itself.
#[derive(Debug)]
pub(super) struct Cutter {
    base: GuestAddr,
    block_len: u32,
    blocks: Vec<Block>,
    /// Blocks with room, each once.
    open: Vec<u32>,
}

impl Cutter {
    /// `len` bytes of memory from `base` on, for buffers of at most `longest` bytes, which is a [`stride`].
    pub(super) fn new(base: GuestAddr, len: u64, longest: u32) -> Self {
        let block_len = block_len(longest);
        let count = len.checked_div(block_len.into()).and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX);
        Self {
            base,
            block_len,
            blocks: (0..count).map(|_| Block::default()).collect(),
            open: (0..count).rev().collect(),
        }
    }

    /// A buffer that [suits](suits) `wanted` bytes, which is a [`stride`]; `None` if there is no such room.
    pub(super) fn cut(&mut self, wanted: u32) -> Option<Piece> {
        self.cut_at(self.room(wanted)?, wanted)
    }

    /// True if [`cut`](Self::cut) would find a buffer.
    pub(super) fn has_room(&self, wanted: u32) -> bool {
        self.room(wanted).is_some()
    }

    /// Which of the open blocks has room: one that is begun, else a free one.
    fn room(&self, wanted: u32) -> Option<usize> {
        if wanted > self.block_len {
            return None;
        }
        let block = |i: &u32| self.blocks.get(*i as usize).copied().unwrap_or_default();
        let begun = self.open.iter().rposition(|i| block(i).used != 0 && suits(block(i).stride, wanted));
        begun.or_else(|| self.open.iter().rposition(|i| block(i).used == 0))
    }

    /// A buffer of whatever size there is room for, `wanted` bytes if a block is free.
    pub(super) fn cut_any(&mut self, wanted: u32) -> Option<Piece> {
        self.cut_at(self.open.len().checked_sub(1)?, wanted)
    }

    /// A buffer of an open block.
    fn cut_at(&mut self, at: usize, wanted: u32) -> Option<Piece> {
        let index = *self.open.get(at)?;
        let block = self.blocks.get_mut(index as usize)?;
        if block.used == 0 {
            block.stride = wanted;
        }
        let (slot, slots) = (block.used.trailing_ones(), slots(self.block_len, block.stride));
        if slot >= slots {
            return None;
        }
        let offset = u64::from(self.block_len).saturating_mul(index.into());
        let offset = offset.saturating_add(u64::from(block.stride).saturating_mul(slot.into()));
        let addr = self.base.checked_add(offset)?;
        block.used |= 1_u64.checked_shl(slot)?;
        let len = block.stride;
        if block.used.count_ones() >= slots {
            self.open.swap_remove(at);
        }
        Some(Piece { addr, len })
    }

    /// Takes a buffer back; false if it is none of those that are out.
    pub(super) fn give_back(&mut self, piece: Piece) -> bool {
        let Some((index, bit)) = self.find(piece) else { return false };
        let Some(block) = self.blocks.get_mut(index as usize) else { return false };
        if block.used.count_ones() >= slots(self.block_len, block.stride) {
            self.open.push(index);
        }
        block.used &= !bit;
        true
    }

    /// The block of a buffer that is out, and its bit.
    fn find(&self, piece: Piece) -> Option<(u32, u64)> {
        let offset = piece.addr.0.checked_sub(self.base.0)?;
        let index = u32::try_from(offset.checked_div(self.block_len.into())?).ok()?;
        let inside = offset.checked_rem(self.block_len.into())?;
        let block = self.blocks.get(index as usize).filter(|b| b.stride == piece.len)?;
        let slot = inside.checked_div(block.stride.into())?;
        let bit = 1_u64.checked_shl(u32::try_from(slot).ok()?)?;
        let is_out = inside.checked_rem(block.stride.into()) == Some(0) && block.used & bit != 0;
        is_out.then_some((index, bit))
    }
}

#[cfg(test)]
mod tests;
