//! Memory behind an IOMMU, as a device with a translation cache sees it: what is not in the cache is not known *yet*.

use std::cell::RefCell;
use std::rc::Rc;

use virtio_ring::{Access, Fault, GuestAddr, GuestMemory, GuestSlice};

pub(crate) const PAGE: u64 = 4096;

/// What an entry allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Perm {
    None,
    Read,
    Write,
    Both,
}

impl Perm {
    fn allows(self, access: Access) -> bool {
        matches!((self, access), (Self::Both, _) | (Self::Read, Access::Read) | (Self::Write, Access::Write))
    }
}

/// Addresses from `first` to `last`, found at `guest` and on.
#[derive(Clone, Copy, Debug)]
struct Entry {
    first: u64,
    last: u64,
    guest: u64,
    perm: Perm,
}

#[derive(Default)]
struct Cache {
    entries: Vec<Entry>,
    misses: Vec<Fault>,
}

impl Cache {
    /// Takes a range out of all entries; what is left of an entry on either side stays.
    fn cut(&mut self, first: u64, last: u64) {
        let pieces = |e: Entry| {
            let low = (e.first < first).then(|| Entry { last: e.last.min(first.wrapping_sub(1)), ..e });
            let high = (e.last > last).then(|| {
                let begin = e.first.max(last.wrapping_add(1));
                Entry { first: begin, guest: e.guest.wrapping_add(begin - e.first), ..e }
            });
            [low, high].into_iter().flatten()
        };
        self.entries = self.entries.iter().copied().flat_map(pieces).collect();
    }

    /// Guest address of `at`, and how many bytes follow it in its entry, itself included (at most 2^64 - 1).
    fn find(&mut self, at: u64, len: u64, access: Access) -> Result<(u64, u64), Fault> {
        let Some(e) = self.entries.iter().find(|e| (e.first..=e.last).contains(&at)) else {
            let miss = Fault::missing(GuestAddr(at), len, access);
            self.misses.push(miss);
            return Err(miss);
        };
        if !e.perm.allows(access) {
            return Err(Fault::forbidden(GuestAddr(at), len, access));
        }
        Ok((e.guest.wrapping_add(at - e.first), (e.last - at).saturating_add(1)))
    }
}

/// A view of `inner` through a translation cache. Clones share the cache.
#[derive(Clone)]
pub(crate) struct Iotlb<M> {
    inner: M,
    cache: Rc<RefCell<Cache>>,
}

impl<M> Iotlb<M> {
    /// With an empty cache.
    pub(crate) fn new(inner: M) -> Self {
        Self { inner, cache: Rc::default() }
    }

    /// `VHOST_IOTLB_UPDATE`: `size` bytes from `iova` on are at `guest`. What was known of them is replaced. An entry of
    /// no bytes, or of bytes past the end, is none; false then.
    pub(crate) fn update(&self, iova: u64, size: u64, guest: u64, perm: Perm) -> bool {
        let Some(last) = size.checked_sub(1).and_then(|n| iova.checked_add(n)) else { return false };
        let mut cache = self.cache.borrow_mut();
        cache.cut(iova, last);
        cache.entries.push(Entry { first: iova, last, guest, perm });
        true
    }

    /// `VHOST_IOTLB_INVALIDATE`: nothing is known any more of `size` bytes from `iova` on. Chains translated before are to
    /// be given back first.
    pub(crate) fn invalidate(&self, iova: u64, size: u64) {
        if size > 0 {
            self.cache.borrow_mut().cut(iova, iova.saturating_add(size - 1));
        }
    }

    /// The misses since the last call.
    pub(crate) fn misses(&self) -> Vec<Fault> {
        std::mem::take(&mut self.cache.borrow_mut().misses)
    }
}

#[expect(unsafe_code, reason = "implements the seam")]
// SAFETY: every slice and area is `inner`'s, which no entry of the cache keeps or frees.
unsafe impl<M: GuestMemory> GuestMemory for Iotlb<M> {
    type Area = M::Area;

    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        let (guest, left) = self.cache.borrow_mut().find(addr.0, len as u64, access)?;
        let len = (len as u64).min(left) as usize;
        let forbidden = Fault::forbidden(addr, len as u64, access);
        self.inner.translate(GuestAddr(guest), len, access).map_err(|_| forbidden)
    }

    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<Self::Area, Fault> {
        let (mut at, mut left) = (addr.0, len as u64);
        let begin = self.cache.borrow_mut().find(at, left, Access::Write)?.0;
        while left > 0 {
            let mut cache = self.cache.borrow_mut();
            let (guest, n) = cache.find(at, left, Access::Write)?;
            cache.find(at, left, Access::Read)?;
            if guest.wrapping_sub(begin) != at - addr.0 {
                return Err(Fault::forbidden(GuestAddr(at), left, Access::Write));
            }
            let n = n.min(left);
            left -= n;
            at = at.wrapping_add(n);
        }
        self.inner.ring_area(GuestAddr(begin), len)
    }
}
