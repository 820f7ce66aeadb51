//! Where the words of a split ring are: the one place that turns indices into offsets.
//!
//! Every accessor takes a [`Slot`], which is below the queue size by construction, so each offset is inside of the areas
//! whose lengths and alignment `new` checked.
#![expect(unsafe_code, reason = "calls the unsafe accessors of the memory seam")]

use crate::chain::{DESC_LEN, Descriptor};
use crate::cursor::Cursor;
use crate::error::RingError;
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::ring::QueueConfig;

const FLAGS: usize = 0;
const IDX: usize = 2;
const ENTRIES: usize = 4;
const USED_LEN: usize = 8;

/// Bit 0 of either `flags` word: do not notify me.
#[doc(alias = "VRING_AVAIL_F_NO_INTERRUPT")]
#[doc(alias = "VRING_USED_F_NO_NOTIFY")]
pub(super) const NO_NOTIFY: u16 = 1;

/// Lengths of the three areas in bytes for a queue size, event words included (virtio 1.3, 2.7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitSizes {
    /// Descriptor table, aligned to 16 bytes.
    pub desc: usize,
    /// Available ring, aligned to 2 bytes.
    pub driver: usize,
    /// Used ring, aligned to 4 bytes.
    pub device: usize,
}

impl SplitSizes {
    /// The lengths for `size` entries.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "a u16 times 16 fits any usize that Linux runs on")]
    pub const fn new(size: u16) -> Self {
        let size = size as usize;
        Self { desc: size * DESC_LEN, driver: 6 + 2 * size, device: 6 + USED_LEN * size }
    }
}

/// The three areas of a split ring.
#[derive(Debug)]
pub(super) struct Layout<A> {
    desc: A,
    avail: A,
    used: A,
    /// Queue size - 1, a power of two minus one; as wide as a cursor, so that masking is one instruction.
    mask: u32,
}

/// An entry of the table or of a ring: below the queue size of the layout that made it.
#[derive(Clone, Copy)]
pub(super) struct Slot(usize);

macro_rules! word {
    ($(#[$doc:meta])* load $name:ident = $area:ident.$method:ident[$offset:expr]) => {
        $(#[$doc])*
        #[inline]
        pub(super) fn $name(&self) -> u16 {
            let offset: fn(&Self) -> usize = $offset;
            // SAFETY: a 16-bit word inside of the area and at an even offset: see `new`.
            u16::from_le(unsafe { self.$area.$method(offset(self)) })
        }
    };
    ($(#[$doc:meta])* store $name:ident = $area:ident.$method:ident[$offset:expr]) => {
        $(#[$doc])*
        #[inline]
        pub(super) fn $name(&self, value: u16) {
            let offset: fn(&Self) -> usize = $offset;
            // SAFETY: a 16-bit word inside of the area and at an even offset: see `new`.
            unsafe { self.$area.$method(offset(self), value.to_le()) }
        }
    };
}

#[expect(clippy::arithmetic_side_effects, reason = "slots are below 32768, so no offset leaves 2^20")]
impl<A: RingMem> Layout<A> {
    /// Checks size, alignment and lengths.
    pub(super) fn new(desc: A, avail: A, used: A, size: u16) -> Result<Self, RingError> {
        if !size.is_power_of_two() {
            return Err(RingError::Size { size });
        }
        let sizes = SplitSizes::new(size);
        let areas = [(&desc, sizes.desc, 16), (&avail, sizes.driver, 2), (&used, sizes.device, 4)];
        for (area, expected, align) in areas {
            if area.len() < expected {
                return Err(RingError::AreaTooShort { len: area.len(), expected });
            }
            if !area.is_aligned(align) {
                return Err(RingError::Misaligned { addr: GuestAddr(0), align });
            }
        }
        Ok(Self { desc, avail, used, mask: u32::from(size) - 1 })
    }

    /// Translates the areas of a queue.
    pub(super) fn map<M: GuestMemory<Area = A>>(mem: &M, config: &QueueConfig) -> Result<Self, RingError> {
        if !config.size.is_power_of_two() {
            return Err(RingError::Size { size: config.size });
        }
        for (addr, align) in [(config.desc, 16), (config.driver, 2), (config.device, 4)] {
            if !addr.0.is_multiple_of(align) {
                return Err(RingError::Misaligned { addr, align: align as usize });
            }
        }
        let sizes = SplitSizes::new(config.size);
        let desc = mem.ring_area(config.desc, sizes.desc)?;
        let avail = mem.ring_area(config.driver, sizes.driver)?;
        let used = mem.ring_area(config.device, sizes.device)?;
        Self::new(desc, avail, used, config.size)
    }

    /// The areas by value, for a loop over a burst: see [`RingMem::view`].
    #[inline]
    pub(super) fn view(&self) -> Layout<A::View<'_>> {
        let view = Layout { desc: self.desc.view(), avail: self.avail.view(), used: self.used.view(), mask: self.mask };
        debug_assert_eq!(view.desc.len(), self.desc.len());
        view
    }

    #[inline]
    pub(super) const fn size(&self) -> u16 {
        self.mask as u16 + 1 // at most 32767
    }

    /// The slot of a ring that a cursor stands at.
    #[inline]
    pub(super) const fn at(&self, cursor: Cursor) -> Slot {
        Slot((cursor.wide() & self.mask) as usize)
    }

    /// Descriptor `index` of the table, if it has one.
    #[inline]
    pub(super) const fn slot(&self, index: u16) -> Option<Slot> {
        if index as u32 <= self.mask { Some(Slot(index as usize)) } else { None }
    }

    #[inline]
    fn end_of_avail(&self) -> usize {
        ENTRIES + 2 * usize::from(self.size())
    }

    #[inline]
    fn end_of_used(&self) -> usize {
        ENTRIES + USED_LEN * usize::from(self.size())
    }

    word!(/// The driver's index; entries before it are readable after this load.
        load avail_idx_acquire = avail.load_acquire[|_| IDX]);
    word!(/// Publishes available entries and their descriptors.
        store set_avail_idx = avail.store_release[|_| IDX]);
    word!(/// The driver's flags.
        load avail_flags = avail.load_relaxed[|_| FLAGS]);
    word!(/// Sets the driver's flags.
        store set_avail_flags = avail.store_relaxed[|_| FLAGS]);
    word!(/// `used_event`: the driver wants a call when this entry is used.
        load used_event = avail.load_relaxed[Self::end_of_avail]);
    word!(/// Sets `used_event`.
        store set_used_event = avail.store_relaxed[Self::end_of_avail]);

    word!(/// The device's index; entries before it are readable after this load.
        load used_idx_acquire = used.load_acquire[|_| IDX]);
    word!(/// Publishes used entries.
        store set_used_idx = used.store_release[|_| IDX]);
    word!(/// The device's flags.
        load used_flags = used.load_relaxed[|_| FLAGS]);
    word!(/// Sets the device's flags.
        store set_used_flags = used.store_relaxed[|_| FLAGS]);
    word!(/// `avail_event`: the device wants a kick when this entry is available.
        load avail_event = used.load_relaxed[Self::end_of_used]);
    word!(/// Sets `avail_event`.
        store set_avail_event = used.store_relaxed[Self::end_of_used]);

    /// The head that an available entry names.
    #[inline]
    pub(super) fn avail_entry(&self, slot: Slot) -> u16 {
        // SAFETY: a slot below the size, so the entry ends before the event word, inside of the area; even offset.
        u16::from_le(unsafe { self.avail.read16(ENTRIES + 2 * slot.0) })
    }

    #[inline]
    pub(super) fn set_avail_entry(&self, slot: Slot, head: u16) {
        // SAFETY: as in `avail_entry`.
        unsafe { self.avail.write16(ENTRIES + 2 * slot.0, head.to_le()) }
    }

    /// Id and length of a used entry.
    #[inline]
    pub(super) fn used_entry(&self, slot: Slot) -> (u32, u32) {
        let at = ENTRIES + USED_LEN * slot.0;
        // SAFETY: a slot below the size, so the entry ends before the event word; multiple of 4 in an area aligned to 4.
        let id = unsafe { self.used.read32(at) };
        // SAFETY: as above.
        let len = unsafe { self.used.read32(at + 4) };
        (u32::from_le(id), u32::from_le(len))
    }

    #[inline]
    pub(super) fn set_used_entry(&self, slot: Slot, id: u32, len: u32) {
        let at = ENTRIES + USED_LEN * slot.0;
        // SAFETY: as in `used_entry`.
        unsafe { self.used.write32(at, id.to_le()) };
        // SAFETY: as in `used_entry`.
        unsafe { self.used.write32(at + 4, len.to_le()) };
    }

    /// The two words of a descriptor, each read once.
    #[inline]
    pub(super) fn descriptor_words(&self, slot: Slot) -> (u64, u64) {
        let at = DESC_LEN * slot.0;
        // SAFETY: a slot below the size, so the descriptor is inside of the table; multiple of 8 in an area aligned to 16.
        let addr = unsafe { self.desc.read64(at) };
        // SAFETY: as above.
        let rest = unsafe { self.desc.read64(at + 8) };
        (u64::from_le(addr), u64::from_le(rest))
    }

    #[inline]
    pub(super) fn set_descriptor(&self, slot: Slot, descriptor: Descriptor) {
        let at = DESC_LEN * slot.0;
        let (addr, rest) = descriptor.into_words();
        // SAFETY: as in `descriptor_words`.
        unsafe { self.desc.write64(at, addr.to_le()) };
        // SAFETY: as in `descriptor_words`.
        unsafe { self.desc.write64(at + 8, rest.to_le()) };
    }

    #[inline]
    pub(super) fn full_fence(&self) {
        self.used.full_fence();
    }
}
