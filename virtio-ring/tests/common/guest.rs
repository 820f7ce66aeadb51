//! Guest memory of several regions, written and read with plain bytes: what a hostile peer can do to a ring.

use virtio_ring::{Access, GuestAddr, GuestMemory, HeapMemory, QueueConfig, Region, RegionMemory, SplitSizes};

/// Regions, each kept alive by the heap memory that it is made of.
pub(crate) type Memory = RegionMemory<HeapMemory>;

/// Rings, tables and buffers.
pub(crate) const LOW: (u64, usize) = (0, 0x10_0000);
/// Begins where `LOW` ends, elsewhere in host memory.
pub(crate) const ADJACENT: (u64, usize) = (0x10_0000, 0x1_0000);
/// Behind a hole.
pub(crate) const HIGH: (u64, usize) = (0x20_0000, 0x1_0000);
/// The last bytes of the address space but one.
pub(crate) const TOP: (u64, usize) = (0xFFFF_FFFF_FFFF_0000, 0xFFFF);

pub(crate) const RING: u64 = 0x1000;
pub(crate) const TABLE: u64 = 0x4_0000;
pub(crate) const BUFFER: u64 = 0x8_0000;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Memory of the four regions.
pub(crate) fn memory() -> Memory {
    let regions = [LOW, ADJACENT, HIGH, TOP].map(|(guest, len)| region(guest, len));
    RegionMemory::new(regions.into()).unwrap()
}

#[expect(unsafe_code, reason = "names host memory by its address")]
fn region(guest: u64, len: usize) -> Region<HeapMemory> {
    let keep = HeapMemory::zeroed(GuestAddr(0), len).unwrap();
    let host = keep.translate(GuestAddr(0), len, Access::Write).unwrap().as_ptr();
    // SAFETY: `keep` holds `len` bytes at `host` and hands out no reference to them.
    unsafe { Region::new(GuestAddr(guest), len, host, keep) }.unwrap()
}

/// A queue whose areas follow each other from `RING` on.
pub(crate) fn config(size: u16, event_idx: bool, indirect: bool) -> QueueConfig {
    let sizes = SplitSizes::new(size);
    let driver = RING + sizes.desc as u64;
    let device = (driver + sizes.driver as u64).next_multiple_of(4);
    QueueConfig {
        size,
        desc: GuestAddr(RING),
        driver: GuestAddr(driver),
        device: GuestAddr(device),
        event_idx,
        indirect,
        in_order: false,
    }
}

/// Writes bytes, over as many regions as it takes.
pub(crate) fn poke(mem: &impl GuestMemory, mut addr: u64, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let n = mem.translate(GuestAddr(addr), bytes.len(), Access::Write).unwrap().write(bytes);
        addr += n as u64;
        bytes = &bytes[n..];
    }
}

/// Reads bytes, over as many regions as it takes.
pub(crate) fn bytes(mem: &impl GuestMemory, mut addr: u64, len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    let mut left = all.as_mut_slice();
    while !left.is_empty() {
        let n = mem.translate(GuestAddr(addr), left.len(), Access::Read).unwrap().read(left);
        addr += n as u64;
        left = &mut left[n..];
    }
    all
}

pub(crate) fn word16(mem: &impl GuestMemory, addr: u64) -> u16 {
    u16::from_le_bytes(bytes(mem, addr, 2).try_into().unwrap())
}

pub(crate) fn word32(mem: &impl GuestMemory, addr: u64) -> u32 {
    u32::from_le_bytes(bytes(mem, addr, 4).try_into().unwrap())
}

/// The sixteen bytes of a descriptor.
pub(crate) fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> Vec<u8> {
    [&addr.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
}

/// The words of a split ring, written without any rule.
#[derive(Clone, Copy)]
pub(crate) struct RawRing(pub(crate) QueueConfig);

impl RawRing {
    pub(crate) fn desc(&self, mem: &impl GuestMemory, i: u16, (addr, len, flags, next): (u64, u32, u16, u16)) {
        poke(mem, self.0.desc.0 + 16 * u64::from(i), &descriptor(addr, len, flags, next));
    }

    pub(crate) fn avail_entry(&self, mem: &impl GuestMemory, index: u16, head: u16) {
        let slot = u64::from(index % self.0.size);
        poke(mem, self.0.driver.0 + 4 + 2 * slot, &head.to_le_bytes());
    }

    pub(crate) fn set_avail_idx(&self, mem: &impl GuestMemory, idx: u16) {
        poke(mem, self.0.driver.0 + 2, &idx.to_le_bytes());
    }

    pub(crate) fn avail_idx(&self, mem: &impl GuestMemory) -> u16 {
        word16(mem, self.0.driver.0 + 2)
    }

    pub(crate) fn used_flags(&self, mem: &impl GuestMemory) -> u16 {
        word16(mem, self.0.device.0)
    }

    pub(crate) fn used_idx(&self, mem: &impl GuestMemory) -> u16 {
        word16(mem, self.0.device.0 + 2)
    }

    pub(crate) fn set_used_idx(&self, mem: &impl GuestMemory, idx: u16) {
        poke(mem, self.0.device.0 + 2, &idx.to_le_bytes());
    }

    fn used_at(&self, index: u16) -> u64 {
        self.0.device.0 + 4 + 8 * u64::from(index % self.0.size)
    }

    pub(crate) fn used_entry(&self, mem: &impl GuestMemory, index: u16) -> (u32, u32) {
        let at = self.used_at(index);
        (word32(mem, at), word32(mem, at + 4))
    }

    pub(crate) fn set_used_entry(&self, mem: &impl GuestMemory, index: u16, id: u32, len: u32) {
        let entry = [id.to_le_bytes(), len.to_le_bytes()].concat();
        poke(mem, self.used_at(index), &entry);
    }

    /// Addresses of the used ring: all that a device may write of a ring.
    pub(crate) fn used_range(&self) -> core::ops::Range<u64> {
        let start = self.0.device.0;
        start..start + SplitSizes::new(self.0.size).device as u64
    }
}

/// The words of a packed ring, written without any rule.
#[derive(Clone, Copy)]
pub(crate) struct RawPacked(pub(crate) QueueConfig);

impl RawPacked {
    pub(crate) const AVAIL: u16 = 1 << 7;
    pub(crate) const USED: u16 = 1 << 15;

    fn at(&self, slot: u16) -> u64 {
        self.0.desc.0 + 16 * u64::from(slot)
    }

    /// Writes address, length, id and flags of a slot.
    pub(crate) fn desc(&self, mem: &impl GuestMemory, slot: u16, (addr, len, id, flags): (u64, u32, u16, u16)) {
        poke(mem, self.at(slot), &addr.to_le_bytes());
        self.set_tail(mem, slot, (len, id, flags));
    }

    pub(crate) fn set_tail(&self, mem: &impl GuestMemory, slot: u16, (len, id, flags): (u32, u16, u16)) {
        let tail = [&len.to_le_bytes()[..], &id.to_le_bytes(), &flags.to_le_bytes()].concat();
        poke(mem, self.at(slot) + 8, &tail);
    }

    /// Length, id and flags of a slot.
    pub(crate) fn tail(&self, mem: &impl GuestMemory, slot: u16) -> (u32, u16, u16) {
        let at = self.at(slot);
        (word32(mem, at + 8), word16(mem, at + 12), word16(mem, at + 14))
    }

    /// True if a device may write the byte at `addr`: its event word, and all of a slot but the address.
    pub(crate) fn may_write(&self, addr: u64) -> bool {
        let slot = addr.wrapping_sub(self.0.desc.0);
        (self.0.device.0..self.0.device.0 + 4).contains(&addr) || slot < 16 * u64::from(self.0.size) && slot % 16 >= 8
    }
}

/// Every byte of `memory()`, to be compared later.
pub(crate) fn snapshot(mem: &Memory) -> Vec<(u64, Vec<u8>)> {
    [LOW, ADJACENT, HIGH, TOP].iter().map(|&(guest, len)| (guest, bytes(mem, guest, len))).collect()
}

/// Guest addresses of bytes that changed between two snapshots.
pub(crate) fn changed(before: &[(u64, Vec<u8>)], after: &[(u64, Vec<u8>)]) -> Vec<u64> {
    const PAGE: usize = 4096;
    let mut all = Vec::new();
    for ((guest, old), (_, new)) in before.iter().zip(after) {
        for (page, (old, new)) in old.chunks(PAGE).zip(new.chunks(PAGE)).enumerate().filter(|(_, (a, b))| a != b) {
            let differing = old.iter().zip(new).enumerate().filter(|(_, (a, b))| a != b);
            all.extend(differing.map(|(i, _)| guest + (page * PAGE + i) as u64));
        }
    }
    all
}
