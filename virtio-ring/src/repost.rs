//! Chains that are reaped and posted again: what a driver does with the receive buffers that it has copied out of.

mod notes;

use crate::error::RingError;
use crate::notification::NotificationData;
use crate::ring::{DriverRing, Element, Full, Handle, Notify, Used};
pub use notes::Keeping;
use notes::{Notes, State};

/// A driver's ring that chains can be kept on: what [`Reposting`] is made of.
///
/// The methods are for [`Reposting`], which sees to it that they are only called for chains that are kept.
pub trait KeepRing: DriverRing {
    /// What this ring needs remembered for a chain to be posted again.
    #[doc(hidden)]
    fn keeping(&self) -> Keeping;

    /// Reaps the next used chain without its descriptors: how many those are.
    #[doc(hidden)]
    fn reap_kept(&mut self) -> Result<Option<(Used, u16)>, RingError>;

    /// Frees the `count` descriptors of a chain that was reaped so.
    #[doc(hidden)]
    fn release_kept(&mut self, handle: Handle, count: u16);

    /// Makes a chain that was reaped so available again, where it is.
    #[doc(hidden)]
    fn repost_kept(&mut self, chain: Again<'_>);

    /// In a circle: makes a copy of a chain that was reaped so available at the next free descriptors. The caller has
    /// checked that there are enough, and releases what the chain had.
    #[doc(hidden)]
    fn repost_elsewhere(&mut self, chain: Again<'_>) -> Handle;
}

/// A chain to be posted again.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    pub(crate) handle: Handle,
    /// Descriptors of the ring that it has.
    pub(crate) count: u16,
    /// Its elements; none if they are in a table.
    pub(crate) elements: &'a [Element],
}

/// Why a chain cannot be posted again, or released. The ring is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// No chain of this name is kept: the device has it, or it was given back already.
    #[error("chain {} is not kept", handle.0)]
    NotKept {
        /// The chain named.
        handle: Handle,
    },
    /// The chain was added before there was a [`Reposting`], so nobody knows what its descriptors said. It stays kept.
    #[error("chain {} was added before chains could be kept", handle.0)]
    Unknown {
        /// The chain named.
        handle: Handle,
    },
    /// Split, in order: descriptors are used in the order of the table, and the next ones belong to a chain that was
    /// reaped earlier and is still kept. Decide about that one first; this one stays kept.
    #[error("chain {} has to wait for chain {}, which was used before it", handle.0, before.0)]
    OutOfTurn {
        /// The chain named.
        handle: Handle,
        /// The chain that comes first.
        before: Handle,
    },
}

/// A ring whose used chains can be kept, and posted again as they are.
///
/// [`poll_kept`](Self::poll_kept) reaps a chain and leaves its descriptors taken, until [`repost`](Self::repost) makes the
/// same buffers available again or [`release`](Self::release) frees them. What a repost writes:
///
/// | ring | to shared memory, per chain |
/// |---|---|
/// | split | the entry of the available ring: 2 bytes |
/// | split, in order | the same, if the ring was full and the chain is the next in the circle: virtio 1.3, 2.7.9 has the descriptors used in the order of the table. Else the descriptors as well, at another place: the chain has a new handle |
/// | packed | each descriptor, as the device wrote over it: 16 bytes |
/// | a chain in an indirect table | as a chain of one element; never the table |
///
/// For all of this a host-side copy of what was posted is used, never shared memory. A ring that is used without this
/// type pays nothing for it.
///
/// ```
/// use virtio_ring::{
///     DeviceRing, DriverRing, Element, GuestAddr, HeapMemory, KeptError, QueueConfig, Reposting, SplitDevice, SplitDriver,
/// };
/// # use virtio_ring::{ChainFault, ChainSink};
/// # struct Ignore;
/// # impl ChainSink for Ignore {
/// #     fn push(&mut self, _: Element) -> Result<(), ChainFault> { Ok(()) }
/// # }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mem = HeapMemory::zeroed(GuestAddr(0), 1 << 16)?;
/// let (config, _end) = QueueConfig::split(GuestAddr(0x1000), 8);
/// let mut driver = Reposting::new(SplitDriver::new(&mem, &config)?);
/// let mut device = SplitDevice::new(&mem, &config, Default::default())?;
///
/// let posted = driver.add(&[Element { addr: GuestAddr(0x8000), len: 2048, writable: true }])?;
/// let _ = driver.flush();
/// # let token = device.peek(&mem, &mut Ignore)?.ok_or("a chain is there")?.accept();
/// # device.complete(token, 60);
/// # let _ = device.flush();
/// // ... the device writes 60 bytes ...
/// let used = driver.poll_kept()?.ok_or("the chain is used")?;
/// assert_eq!((used.handle, used.len, driver.free_slots()), (posted, 60, 7));
/// // ... they are copied out, and the buffer goes back.
/// let again = driver.repost(used.handle)?;
/// let _ = driver.flush();
/// assert_eq!(driver.release(again), Err(KeptError::NotKept { handle: again }), "the device has it");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reposting<R> {
    ring: R,
    keeping: Keeping,
    chains: Notes,
}

impl<R: KeepRing> Reposting<R> {
    /// A ring whose chains can be kept: those that are added from now on.
    #[must_use]
    pub fn new(ring: R) -> Self {
        let (keeping, size) = (ring.keeping(), ring.size());
        Self { ring, keeping, chains: Notes::new(size) }
    }

    /// Chains that are kept.
    #[must_use]
    pub const fn kept(&self) -> u16 {
        self.chains.kept()
    }

    /// The ring itself.
    #[must_use]
    pub const fn ring(&self) -> &R {
        &self.ring
    }

    /// As [`poll_used`](DriverRing::poll_used), but the chain is kept: its descriptors stay taken until
    /// [`repost`](Self::repost) or [`release`](Self::release).
    ///
    /// # Errors
    /// [`RingError`] once, when the device broke the ring; after that nothing is used any more.
    pub fn poll_kept(&mut self) -> Result<Option<Used>, RingError> {
        let Some((used, count)) = self.ring.reap_kept()? else { return Ok(None) };
        self.chains.keep(used.handle.0, count, self.keeping);
        Ok(Some(used))
    }

    /// Makes the buffers of a kept chain available again, not yet visible to the device; the chain's handle from now on.
    ///
    /// The handle is another one only on a split ring in order.
    ///
    /// # Errors
    /// [`KeptError`]; nothing has changed then.
    pub fn repost(&mut self, handle: Handle) -> Result<Handle, KeptError> {
        let count = self.chains.count(handle)?;
        if self.keeping == Keeping::Circle {
            return self.repost_in_circle(handle, count);
        }
        let elements = if self.keeping == Keeping::Nothing { &[] } else { self.chains.elements(handle)? };
        self.ring.repost_kept(Again { handle, count, elements });
        self.chains.unkeep(handle.0);
        Ok(handle)
    }

    /// Frees the descriptors of a kept chain: its buffers are the caller's.
    ///
    /// # Errors
    /// [`KeptError::NotKept`].
    pub fn release(&mut self, handle: Handle) -> Result<(), KeptError> {
        let count = self.chains.count(handle)?;
        self.chains.forget(handle.0);
        if self.keeping == Keeping::Circle {
            self.chains.give_back(handle.0);
            self.drain();
        } else {
            self.ring.release_kept(handle, count);
            self.chains.unkeep(handle.0);
        }
        Ok(())
    }

    /// virtio 1.3, 2.7.9: descriptors are used in the order of the table.
    fn repost_in_circle(&mut self, handle: Handle, count: u16) -> Result<Handle, KeptError> {
        let before = self.chains.oldest().unwrap_or(handle);
        let free = self.ring.free_slots();
        if before == handle && free == 0 {
            let elements = self.chains.elements(handle).unwrap_or_default();
            self.ring.repost_kept(Again { handle, count, elements });
            self.chains.pop();
            self.drain();
            return Ok(handle);
        }
        if before != handle && free < count {
            return Err(KeptError::OutOfTurn { handle, before });
        }
        self.chains.elements(handle)?;
        self.chains.give_back(handle.0);
        // The oldest one's own descriptors are behind the free ones.
        self.drain();
        let elements = self.chains.elements(handle)?;
        let new = self.ring.repost_elsewhere(Again { handle, count, elements });
        self.chains.move_notes(handle.0, new.0);
        Ok(new)
    }

    /// Frees what was given back, up to the first chain that is still kept.
    fn drain(&mut self) {
        while let Some((handle, State::Returned(count))) = self.chains.front() {
            self.ring.release_kept(handle, count);
            self.chains.pop();
        }
    }
}

impl<R: KeepRing> DriverRing for Reposting<R> {
    fn add(&mut self, elements: &[Element]) -> Result<Handle, Full> {
        if self.keeping == Keeping::Nothing {
            return self.ring.add(elements);
        }
        let free = self.ring.free_slots();
        let handle = self.ring.add(elements)?;
        let in_table = usize::from(free.wrapping_sub(self.ring.free_slots())) != elements.len();
        let direct = if in_table { &[] } else { elements };
        self.chains.note(handle.0, direct);
        Ok(handle)
    }

    fn publish(&mut self) {
        self.ring.publish();
    }

    fn notify(&mut self) -> Notify {
        self.ring.notify()
    }

    fn poll_used(&mut self) -> Result<Option<Used>, RingError> {
        if self.keeping != Keeping::Circle || !self.chains.is_pending() {
            let used = self.ring.poll_used()?;
            if let Some(Used { handle, .. }) = used {
                self.chains.forget(handle.0);
            }
            return Ok(used);
        }
        let used = self.poll_kept()?;
        if let Some(Used { handle, .. }) = used {
            // It has just been kept.
            let _ = self.release(handle);
        }
        Ok(used)
    }

    fn arm(&mut self) -> bool {
        self.ring.arm()
    }

    fn disarm(&mut self) {
        self.ring.disarm();
    }

    /// What is kept is the caller's already, and not named; it can neither be posted again nor released any more.
    fn reset(&mut self, taken: impl FnMut(Handle)) {
        self.ring.reset(taken);
        self.chains = Notes::new(self.ring.size());
    }

    fn notification_data(&self, queue: u16) -> NotificationData {
        self.ring.notification_data(queue)
    }

    fn free_slots(&self) -> u16 {
        self.ring.free_slots()
    }

    fn size(&self) -> u16 {
        self.ring.size()
    }
}
