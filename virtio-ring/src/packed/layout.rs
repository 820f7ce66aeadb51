//! Where the words of a packed ring are: the one place that turns slots into offsets.
//!
//! A descriptor is two words: the address, and the *tail*: length, id and flags in one. The tail is loaded and stored
//! as a whole, so that one access carries the flags that hand the descriptor over and all that goes with them.
#![expect(unsafe_code, reason = "calls the unsafe accessors of the memory seam")]

use super::place::Place;
use crate::chain::{DESC_LEN, INDIRECT, NEXT, WRITE};
use crate::error::RingError;
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::ring::{Element, QueueConfig};

/// Largest packed ring (virtio 1.3, 2.8).
const MAX_SIZE: u16 = 32_768;
/// Bytes of `struct pvirtq_event_suppress`.
const EVENT_LEN: usize = 4;

/// `VIRTQ_DESC_F_AVAIL`
#[doc(alias = "VRING_PACKED_DESC_F_AVAIL")]
pub(super) const AVAIL: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`
#[doc(alias = "VRING_PACKED_DESC_F_USED")]
pub(super) const USED: u16 = 1 << 15;

/// `RING_EVENT_FLAGS_ENABLE`
const EVENT_ENABLE: u16 = 0;
/// `RING_EVENT_FLAGS_DISABLE`
const EVENT_DISABLE: u16 = 1;
/// `RING_EVENT_FLAGS_DESC`
const EVENT_DESC: u16 = 2;

/// Length, id and flags of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tail(u64);

impl Tail {
    #[inline]
    pub(super) const fn new(len: u32, id: u16, flags: u16) -> Self {
        Self(len as u64 | (id as u64) << 32 | (flags as u64) << 48)
    }

    #[inline]
    pub(super) const fn len(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(super) const fn id(self) -> u16 {
        (self.0 >> 32) as u16
    }

    #[inline]
    pub(super) const fn flags(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The descriptor with its address, in the words of a split ring's: length, flags.
    #[inline]
    pub(super) const fn words(self, addr: u64) -> (u64, u64) {
        (addr, self.len() as u64 | (self.flags() as u64) << 32)
    }

    /// True if the driver made this slot available on the lap of `place`.
    #[inline]
    pub(super) const fn is_avail(self, place: Place) -> bool {
        place.is_avail(self.flags())
    }

    /// The same for a chain of one direct descriptor: what breaks no rule, and is not to be walked.
    #[inline]
    pub(super) const fn is_avail_single(self, place: Place) -> bool {
        self.flags() & (AVAIL | USED | NEXT | INDIRECT) == place.avail_flags()
    }

    /// The same for one whose buffer is to be written, or read.
    #[inline]
    pub(super) const fn is_avail_plain<const WRITABLE: bool>(self, place: Place) -> bool {
        let write = if WRITABLE { WRITE } else { 0 };
        self.flags() & (AVAIL | USED | NEXT | INDIRECT | WRITE) == place.avail_flags() | write
    }

    /// The buffer at `addr` that this tail goes with.
    #[inline]
    pub(super) const fn element(self, addr: u64) -> Element {
        Element { addr: GuestAddr(addr), len: self.len(), writable: self.flags() & WRITE != 0 }
    }

    /// True if the device used this slot on the lap of `place`.
    #[inline]
    pub(super) const fn is_used(self, place: Place) -> bool {
        place.is_used(self.flags())
    }

    /// This tail, available at `place`. It has none of the two flags yet.
    #[inline]
    pub(super) const fn available(self, place: Place) -> Self {
        Self(self.0 | (place.avail_flags() as u64) << 48)
    }

    /// This tail, used at `place`. It has none of the two flags yet.
    #[inline]
    pub(super) const fn used(self, place: Place) -> Self {
        Self(self.0 | (place.used_flags() as u64) << 48)
    }
}

/// What one side wants to be told (virtio 1.3, 2.8.10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Always,
    Never,
    /// When this slot is passed.
    At(Place),
}

/// Which of the two event words.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    /// Written by the driver, about used descriptors.
    Driver,
    /// Written by the device, about available descriptors.
    Device,
}

/// The three areas of a packed ring.
#[derive(Debug)]
pub(super) struct Layout<A> {
    desc: A,
    driver: A,
    device: A,
    size: u16,
}

#[expect(clippy::arithmetic_side_effects, reason = "slots are below 32768, so no offset leaves 2^20")]
impl<A: RingMem> Layout<A> {
    /// Translates the areas of a queue and checks size, alignment and lengths.
    pub(super) fn map<M: GuestMemory<Area = A>>(mem: &M, config: &QueueConfig) -> Result<Self, RingError> {
        let size = config.size;
        if size == 0 || size > MAX_SIZE {
            return Err(RingError::PackedSize { size });
        }
        let area = |addr: GuestAddr, len: usize, align: usize| {
            let area = mem.ring_area(addr, len)?;
            if area.len() < len {
                return Err(RingError::AreaTooShort { len: area.len(), expected: len });
            }
            if !addr.0.is_multiple_of(align as u64) || !area.is_aligned(align) {
                return Err(RingError::Misaligned { addr, align });
            }
            Ok(area)
        };
        Ok(Self {
            desc: area(config.desc, usize::from(size) * DESC_LEN, 16)?,
            driver: area(config.driver, EVENT_LEN, 4)?,
            device: area(config.device, EVENT_LEN, 4)?,
            size,
        })
    }

    /// The areas by value, for a loop over a burst: see [`RingMem::view`].
    #[inline]
    pub(super) fn view(&self) -> Layout<A::View<'_>> {
        let (desc, driver, device) = (self.desc.view(), self.driver.view(), self.device.view());
        debug_assert_eq!(desc.len(), self.desc.len());
        Layout { desc, driver, device, size: self.size }
    }

    #[inline]
    pub(super) const fn size(&self) -> u16 {
        self.size
    }

    /// The tail of a slot; what its owner wrote before it is readable after this load.
    #[inline]
    pub(super) fn tail(&self, place: Place) -> Tail {
        // SAFETY: a place's slot is below the size of its ring, so this is the second word of a descriptor inside of the
        // area, which is aligned to 16: see `map`.
        Tail(u64::from_le(unsafe { self.desc.load64_acquire(place.offset() + 8) }))
    }

    /// Hands a slot over: everything written before is visible to whoever sees this.
    #[inline]
    pub(super) fn set_tail(&self, place: Place, tail: Tail) {
        // SAFETY: as in `tail`.
        unsafe { self.desc.store64_release(place.offset() + 8, tail.0.to_le()) };
    }

    #[inline]
    pub(super) fn addr(&self, place: Place) -> u64 {
        // SAFETY: as in `tail`, the first word.
        u64::from_le(unsafe { self.desc.read64(place.offset()) })
    }

    #[inline]
    pub(super) fn set_addr(&self, place: Place, addr: u64) {
        // SAFETY: as in `addr`.
        unsafe { self.desc.write64(place.offset(), addr.to_le()) };
    }

    /// What `owner` wants to be told: one load for both halves of the word.
    #[inline]
    pub(super) fn event(&self, owner: Owner) -> Event {
        let area = self.area(owner);
        // SAFETY: the only word of an area of 4 bytes that is aligned to 4: see `map`.
        let word = u32::from_le(unsafe { area.load32_relaxed(0) });
        match (word >> 16) as u16 & 3 {
            EVENT_DISABLE => Event::Never,
            // An offset outside of the ring says nothing: better one notification too many.
            EVENT_DESC => Place::from_bits(word as u16, self.size).map_or(Event::Always, Event::At),
            // 3 is reserved: taken as ENABLE.
            _ => Event::Always,
        }
    }

    #[inline]
    pub(super) fn set_event(&self, owner: Owner, event: Event) {
        let (bits, flags) = match event {
            Event::Always => (0, EVENT_ENABLE),
            Event::Never => (0, EVENT_DISABLE),
            Event::At(place) => (place.to_bits(), EVENT_DESC),
        };
        let word = u32::from(bits) | u32::from(flags) << 16;
        let area = self.area(owner);
        // SAFETY: as in `event`.
        unsafe { area.store32_relaxed(0, word.to_le()) };
    }

    #[inline]
    const fn area(&self, owner: Owner) -> &A {
        match owner {
            Owner::Driver => &self.driver,
            Owner::Device => &self.device,
        }
    }

    #[inline]
    pub(super) fn full_fence(&self) {
        self.desc.full_fence();
    }
}
