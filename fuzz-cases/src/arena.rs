//! Small guest memory beside a shadow of what it should hold: whoever writes a byte that nobody may write is caught.
//!
//! Buffers are copied by inline assembly, which no sanitizer sees: so each region also has a guard before and behind it.
#![expect(unsafe_code, reason = "names host memory by its address")]

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use virtio_ring::{Access, GuestAddr, GuestMemory, GuestSlice, HeapMemory, Region};

use crate::common::guest::{Memory, bytes, poke};

/// Rings, tables and buffers; what begins where it ends is elsewhere in host memory; the end of the address space, but for
/// the last byte.
const REGIONS: [(u64, usize); 3] = [(0, SEAM as usize), (SEAM, 0x1000), (TOP, 0xFFF)];
/// Indirect tables.
pub(crate) const TABLE: u64 = 0x3000;
/// Buffers, to the end of the first region and beyond.
pub(crate) const BUFFER: u64 = 0x4000;
/// The first address behind the first region.
pub(crate) const SEAM: u64 = 0x8000;
pub(crate) const TOP: u64 = 0xFFFF_FFFF_FFFF_F000;
/// Bytes before and behind each region, which keep its alignment.
const GUARD: usize = 256;
const PATTERN: u8 = 0xA5;

/// A run of guest addresses inside one region: where it begins, and bytes.
pub(crate) type Run = (u64, usize);

/// Memory and shadow.
pub(crate) struct Arena {
    pub(crate) mem: Memory,
    /// Regions with their guards, as they are and as they should be.
    blocks: Vec<(HeapMemory, RefCell<Vec<u8>>)>,
}

thread_local! {
    /// The arena of the session before: under a sanitizer, fresh pages cost more than all the rest of a session.
    static KEPT: Rc<Arena> = Rc::new(Arena::new());
}

impl Arena {
    /// An arena that holds nothing but the pattern.
    pub(crate) fn fresh() -> Rc<Self> {
        let kept = KEPT.with(Rc::clone);
        // The other handle is the one that is kept.
        let arena = if Rc::strong_count(&kept) == 2 { kept } else { Rc::new(Self::new()) };
        for (block, shadow) in &arena.blocks {
            let mut shadow = shadow.borrow_mut();
            shadow.fill(PATTERN);
            poke(block, 0, &shadow);
        }
        arena
    }

    fn new() -> Self {
        let blocks: Vec<_> = REGIONS
            .iter()
            .map(|(_, len)| {
                let len = len + 2 * GUARD;
                (HeapMemory::zeroed(GuestAddr(0), len).unwrap(), RefCell::new(vec![0; len]))
            })
            .collect();
        let regions = REGIONS.iter().zip(&blocks).map(|(&(guest, len), (block, _))| {
            let host = block.translate(GuestAddr(0), 1, Access::Write).unwrap().as_ptr().wrapping_add(GUARD);
            // SAFETY: `block` holds `len` bytes at `host`, a guard further on, and hands out no reference to them.
            unsafe { Region::new(GuestAddr(guest), len, host, block.clone()) }.unwrap()
        });
        Self { mem: Memory::new(regions.collect()).unwrap(), blocks }
    }

    /// The runs of a range of guest memory; `None` if a byte of it is not mapped.
    pub(crate) fn runs(mut addr: u64, len: u64) -> Option<Vec<Run>> {
        let mut runs = Vec::new();
        let mut left = len;
        while left > 0 {
            let (region, offset) = locate(addr)?;
            let n = (REGIONS[region].1 as u64 - offset).min(left);
            runs.push((addr, n as usize));
            left -= n;
            addr = addr.wrapping_add(n);
        }
        Some(runs)
    }

    /// Bytes of guest memory, over regions; `None` if one is not mapped.
    pub(crate) fn read(&self, addr: u64, len: u64) -> Option<Vec<u8>> {
        Self::runs(addr, len)?;
        Some(bytes(&self.mem, addr, len as usize))
    }

    /// The peer writes, where it can.
    pub(crate) fn poke(&self, addr: u64, data: &[u8]) {
        let Some(runs) = Self::runs(addr, data.len() as u64) else { return };
        let mut rest = data;
        for (at, len) in runs {
            let (now, later) = rest.split_at(len);
            poke(&self.mem, at, now);
            self.expect(at, now);
            rest = later;
        }
    }

    /// From now on, these bytes should be there. A run does not leave its region.
    pub(crate) fn expect(&self, addr: u64, data: &[u8]) {
        let (region, offset) = locate(addr).expect("oracle: a buffer outside of memory");
        let at = GUARD + offset as usize;
        self.blocks[region].1.borrow_mut()[at..at + data.len()].copy_from_slice(data);
    }

    /// What is in these ranges of the first region is as it should be, whatever it is.
    pub(crate) fn settle(&self, ranges: impl IntoIterator<Item = Range<u64>>) {
        for range in ranges {
            let now = bytes(&self.mem, range.start, (range.end - range.start) as usize);
            self.expect(range.start, &now);
        }
    }

    /// The run that a translated slice is.
    pub(crate) fn run_of(&self, slice: &GuestSlice<'_>) -> Run {
        let at = slice.as_ptr() as usize;
        for ((block, _), (guest, len)) in self.blocks.iter().zip(REGIONS) {
            let host = block.translate(GuestAddr(0), 1, Access::Read).unwrap().as_ptr() as usize + GUARD;
            if at >= host && at + slice.len() <= host + len {
                return (guest + (at - host) as u64, slice.len());
            }
        }
        panic!("oracle: a slice outside of guest memory");
    }

    /// Nothing was written that should not have been.
    pub(crate) fn check(&self) {
        for ((block, shadow), (guest, _)) in self.blocks.iter().zip(REGIONS) {
            let shadow = shadow.borrow();
            let slice = block.translate(GuestAddr(0), shadow.len(), Access::Read).unwrap();
            let mut now = [0; 1024];
            for (page, shadow) in shadow.chunks(now.len()).enumerate() {
                let n = slice.skip(page * now.len()).read(&mut now).min(shadow.len());
                if now[..n] == *shadow {
                    continue;
                }
                let at = now.iter().zip(shadow).position(|(a, b)| a != b).unwrap_or_default();
                let addr = guest.wrapping_add((page * now.len() + at) as u64).wrapping_sub(GUARD as u64);
                panic!("oracle: written outside of posted buffers at {addr:#x}: {:#x}, not {:#x}", now[at], shadow[at]);
            }
        }
    }
}

/// Region and offset of an address.
fn locate(addr: u64) -> Option<(usize, u64)> {
    let offset = |(guest, len): (u64, usize)| Some(addr.wrapping_sub(guest)).filter(|o| *o < len as u64);
    REGIONS.iter().enumerate().find_map(|(i, r)| offset(*r).map(|o| (i, o)))
}
