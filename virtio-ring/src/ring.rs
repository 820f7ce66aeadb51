//! What every ring is to the code that uses it, whatever its format.

use crate::chain::Front;
use crate::error::{ChainFault, Fault, RingError};
use crate::mem::{GuestAddr, GuestMemory};
use crate::notification::{HintError, NotificationData};

/// One buffer of a chain, before translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element {
    /// Where the buffer begins.
    pub addr: GuestAddr,
    /// Length in bytes.
    pub len: u32,
    /// True if the device writes to it, false if it reads from it.
    pub writable: bool,
}

/// Takes the elements of a chain, in order, while the ring walks it.
pub trait ChainSink {
    /// Takes one element.
    ///
    /// # Errors
    /// Anything that makes the chain useless; the walk ends there. With a [missing](Fault::missing) translation the chain
    /// is not useless but not usable yet: what the sink has of it is to be forgotten, as it comes again from its beginning.
    fn push(&mut self, element: Element) -> Result<(), ChainFault>;
}

/// The right and the duty to complete one chain: not `Clone`, given back to the ring by `complete` or `rewind`.
///
/// Four bytes, so that it fits beside a request in whatever asynchronous machinery a back end has.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a chain that is not completed is lost to the driver"]
pub struct Token {
    /// Split: the head's index. Packed: the buffer id.
    pub(crate) id: u16,
    /// Slots of the ring that the chain takes, less one; and [`Token::WRITABLE`].
    pub(crate) shape: u16,
}

impl Token {
    const WRITABLE: u16 = 1 << 15;

    /// A chain of `count` slots, from 1 to 32768.
    #[inline]
    pub(crate) const fn new(id: u16, count: u16, writable: bool) -> Self {
        Self { id, shape: count.wrapping_sub(1) | if writable { Self::WRITABLE } else { 0 } }
    }

    /// Slots of the ring that the chain takes.
    #[inline]
    pub(crate) const fn count(&self) -> u16 {
        (self.shape & !Self::WRITABLE).wrapping_add(1)
    }

    /// True if the device could write to the chain. In order, the used entry of any other chain may be skipped (virtio
    /// 1.3, 2.7.9 and 2.8.9): what is skipped counts as written to its last byte.
    #[inline]
    pub(crate) const fn is_writable(&self) -> bool {
        self.shape & Self::WRITABLE != 0
    }
}

/// Whether the peer wants to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a peer that is not notified may sleep forever"]
pub enum Notify {
    /// Send a notification: a kick from the driver, a call from the device.
    Needed,
    /// The peer does not need one.
    Suppressed,
}

impl Notify {
    /// True for [`Notify::Needed`].
    #[inline]
    pub const fn is_needed(self) -> bool {
        matches!(self, Self::Needed)
    }
}

/// Where a device stands in a ring, in the format of vhost's `VHOST_GET_VRING_BASE`.
///
/// Split ring: the next available index in the low 16 bits; the used index is in the ring itself. Packed ring: the next
/// available slot in bits 0 to 14 and its wrap counter in bit 15, the next used slot in bits 16 to 30 and its wrap
/// counter in bit 31.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[doc(alias = "vhost_vring_state")]
pub struct QueueState(pub u32);

impl QueueState {
    /// A split ring that was never used.
    pub const SPLIT: Self = Self(0);
    /// A packed ring that was never used: both wrap counters are 1.
    pub const PACKED: Self = Self(0x8000_8000);
}

/// Geometry and features of one queue. Frozen once a ring is made from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueConfig {
    /// Entries.
    pub size: u16,
    /// Descriptor table; packed: the descriptor ring.
    pub desc: GuestAddr,
    /// Driver area: the available ring; packed: the driver's event word.
    pub driver: GuestAddr,
    /// Device area: the used ring; packed: the device's event word.
    pub device: GuestAddr,
    /// `VIRTIO_F_EVENT_IDX` was negotiated.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC` was negotiated.
    pub indirect: bool,
    /// `VIRTIO_F_IN_ORDER` was negotiated.
    pub in_order: bool,
}

/// A chain at the front of the ring. Dropped, it stays there.
#[must_use = "a chain that is only peeked at stays in the ring"]
pub struct Peeked<'r, R: DeviceRing> {
    pub(crate) ring: &'r mut R,
    pub(crate) token: Token,
    pub(crate) faulty: bool,
}

impl<R: DeviceRing> Peeked<'_, R> {
    /// What is wrong with the chain, if anything: it is then to be completed with length 0.
    #[inline]
    pub fn fault(&self) -> Option<ChainFault> {
        // The fault itself stays with the ring: a good chain pays for one bit.
        if self.faulty { self.ring.chain_fault() } else { None }
    }

    /// True if something is wrong with the chain: see [`fault`](Self::fault).
    #[inline]
    pub const fn is_faulty(&self) -> bool {
        self.faulty
    }

    /// Takes the chain: the next peek sees the one behind it.
    #[inline]
    pub fn accept(self) -> Token {
        self.ring.accept(&self.token);
        self.token
    }
}

/// The device's side of a ring.
pub trait DeviceRing: Sized {
    /// Walks the next available chain into `sink` without taking it. `None` if the ring is empty, or if the chain waits
    /// for a translation: see [`missing`](Self::missing).
    ///
    /// # Errors
    /// [`RingError`] once, when the driver broke the ring; after that the ring looks empty. The error stays at
    /// [`fault`](Self::fault).
    // Always inline: the result is larger than registers, and its parts are all that a caller wants.
    #[inline(always)]
    fn peek<M: GuestMemory, S: ChainSink>(
        &mut self,
        mem: &M,
        sink: &mut S,
    ) -> Result<Option<Peeked<'_, Self>>, RingError> {
        let Some(front) = self.front() else { return self.idle().map(|()| None) };
        // `look`, written out: the usual way then carries no test for a chain that is not there after all.
        let Some(element) = front.single() else {
            let walked = self.walk(mem, sink, front.head, front.words);
            let Some((token, faulty)) = walked else { return self.idle().map(|()| None) };
            return Ok(Some(Peeked { token, ring: self, faulty }));
        };
        let faulty = match sink.push(element) {
            Ok(()) => false,
            Err(fault) if self.note(fault) => true,
            Err(_) => return Ok(None),
        };
        Ok(Some(Peeked { token: front.token(), ring: self, faulty }))
    }

    /// Serves up to `most` chains on the spot: [`peek`](Self::peek), [`accept`](Peeked::accept) and
    /// [`complete`](Self::complete) in one loop, for a device that is done with a chain once it has seen it. The elements
    /// of each chain go to `sink`; `done` then says how many bytes were written to it, and has to say 0 if there is a
    /// fault. Returns how many chains were served; [`flush`](Self::flush) makes them visible.
    ///
    /// The driver's index is read only if nothing is known to be available, so fewer than there are may be served; and a
    /// chain that waits for a translation ends the loop untouched. In order (`VIRTIO_F_IN_ORDER`) no token may be held
    /// meanwhile: chains are used in the order in which they were available.
    ///
    /// If `sink` or `done` panics, the chains of this call are lost, and the ring has to be reset.
    ///
    /// # Errors
    /// [`RingError`] once, when the driver broke the ring and no chain was served before.
    #[inline(always)]
    fn serve<M: GuestMemory, S: ChainSink>(
        &mut self,
        mem: &M,
        sink: &mut S,
        most: usize,
        mut done: impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> Result<usize, RingError> {
        // A driver that makes slots available again before they are published must not keep this loop going.
        let most = most.min(self.size().into());
        let mut count: usize = 0;
        while count < most {
            let (served, front) = self.singles(sink, most.wrapping_sub(count), &mut done);
            count = count.wrapping_add(served); // at most `most`
            // What is left at the front has another shape.
            let Some(front) = front else { break };
            let Some((token, faulty)) = self.look(mem, sink, front) else { break };
            let fault = if faulty { self.chain_fault() } else { None };
            let written = done(sink, fault);
            self.accept(&token);
            self.complete(token, written);
            count = count.wrapping_add(1);
        }
        if count == 0 {
            self.idle()?;
        }
        Ok(count)
    }

    /// Serves up to `most` chains of one direct descriptor: the fast part of [`serve`](Self::serve). How many, and the
    /// chain of another shape that ended that, if one did.
    #[doc(hidden)]
    fn singles<S: ChainSink>(
        &mut self,
        sink: &mut S,
        most: usize,
        done: &mut impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> (usize, Option<Front>);

    /// Accepts up to `most` chains of one direct descriptor, of buffers to be written or read, in one loop, as long as `take`
    /// wants them: the fast part of [`Chains::fill`](crate::Chains::fill). How many, and the chain that ended that, if one
    /// did: it has another shape, or `take` answered false.
    #[doc(hidden)]
    fn accept_singles<const WRITABLE: bool>(
        &mut self,
        most: usize,
        take: impl FnMut(Token, GuestAddr, u32) -> bool,
    ) -> (usize, Option<Front>);

    /// Shows the chain behind `front` to `sink`: the second half of [`peek`](Self::peek). The chain, and whether it is
    /// faulty; `None` if the driver broke the ring, or if a translation is missing.
    #[doc(hidden)]
    #[inline(always)]
    fn look<M: GuestMemory, S: ChainSink>(&mut self, mem: &M, sink: &mut S, front: Front) -> Option<(Token, bool)> {
        let Some(element) = front.single() else { return self.walk(mem, sink, front.head, front.words) };
        let faulty = match sink.push(element) {
            Ok(()) => false,
            Err(fault) if self.note(fault) => true,
            Err(_) => return None,
        };
        Some((front.token(), faulty))
    }

    /// The head of the next available chain: the first half of [`peek`](Self::peek).
    #[doc(hidden)]
    fn front(&mut self) -> Option<Front>;

    /// Why there is no [`front`](Self::front), or none that can be walked: nothing is available, the driver broke the ring,
    /// or a translation is missing.
    ///
    /// # Errors
    /// As `peek`: a violation, once.
    #[doc(hidden)]
    fn idle(&mut self) -> Result<(), RingError>;

    /// Walks the chain at the front, whatever its shape: see [`look`](Self::look).
    #[doc(hidden)]
    // The front in its parts: as a whole it would be passed in memory, and be put there for chains that need no walk.
    fn walk<M: GuestMemory, S: ChainSink>(
        &mut self,
        mem: &M,
        sink: &mut S,
        head: u16,
        words: (u64, u64),
    ) -> Option<(Token, bool)>;

    /// Keeps the fault of a chain for [`chain_fault`](Self::chain_fault); true unless the chain only waits for a
    /// translation.
    #[doc(hidden)]
    fn note(&mut self, fault: ChainFault) -> bool;

    /// Moves past a chain that was peeked at: what [`Peeked::accept`] calls.
    #[doc(hidden)]
    fn accept(&mut self, token: &Token);

    /// Gives back the chain that was accepted last: the next peek sees it again. Several chains are given back newest
    /// first.
    fn rewind(&mut self, token: Token);

    /// Writes the used entry of a chain, not yet visible to the driver. `written` is the number of bytes written to
    /// the chain, from its first writable byte on without a gap. In order (`VIRTIO_F_IN_ORDER`) chains are completed as they
    /// were accepted, the oldest first: [`Reorder`](crate::Reorder) sees to it for back ends that finish otherwise.
    fn complete(&mut self, token: Token, written: u32);

    /// Completes each of these: [`complete`](Self::complete) in one loop, whose positions stay in registers. If the iterator
    /// panics, the ring has to be reset.
    #[inline]
    fn complete_each(&mut self, chains: impl Iterator<Item = (Token, u32)>) {
        for (token, written) in chains {
            self.complete(token, written);
        }
    }

    /// Makes every completed chain visible at once, and says whether the driver wants a call for them:
    /// [`publish`](Self::publish) and [`notify`](Self::notify).
    #[inline]
    fn flush(&mut self) -> Notify {
        self.publish();
        self.notify()
    }

    /// Makes every completed chain visible at once, and leaves open whether the driver wants a call: one store. Before this
    /// side waits for anything [`notify`](Self::notify) has to follow, or the driver may sleep forever; unless it is known
    /// never to sleep.
    fn publish(&mut self);

    /// Says whether the driver wants a call for what has become visible since this was last asked: one fence and one load,
    /// which wait until every store before them is done.
    fn notify(&mut self) -> Notify;

    /// Asks the driver for kicks. False if chains became available meanwhile: serve them first, or sleep forever.
    ///
    /// A chain that waits for a translation is available: `arm` says false as long as it is at the front. See
    /// [`missing`](Self::missing) for what to wait for instead.
    #[must_use = "false means that there is work to do before sleeping"]
    fn arm(&mut self) -> bool;

    /// Tells the driver that kicks are not needed.
    fn disarm(&mut self);

    /// What is not translated yet, if that is why the last look at the ring ([`peek`](Self::peek), [`serve`](Self::serve)
    /// or a [`fill`](crate::Chains::fill) that ended with room left) gave nothing although a chain is there.
    ///
    /// The chain is untouched at the front, and holds back those behind it: ask for the translation, and look again when
    /// it has come. Until then kicks tell nothing new: a device may sleep without [`arm`](Self::arm), as long as the
    /// answer wakes it. After a look that gave a chain this says nothing.
    #[doc(alias = "VIRTIO_F_ACCESS_PLATFORM")]
    #[doc(alias = "VHOST_IOTLB_MISS")]
    fn missing(&self) -> Option<Fault>;

    /// Begins anew, as after a reset of the queue (virtio 1.3, 2.6.1): what is held is dropped, a violation is forgotten,
    /// the device stands where a ring of its format [starts](crate::Format::start). Nothing is read or written: the
    /// memory is the driver's again, which sets it up anew before it makes anything available.
    ///
    /// Every [`Token`] of before is void: completed or given back, it would be another chain's. Use
    /// [`Chains::reset`](crate::Chains::reset) for a pool. For another geometry or another place make a new ring.
    #[doc(alias = "VIRTIO_F_RING_RESET")]
    fn reset(&mut self);

    /// Whether the data of a notification can be true, and how much it says is available beyond what was accepted: chains
    /// of a split ring, slots of a packed one; 0 if it is nothing new. Reads nothing of the ring, and changes nothing.
    ///
    /// # Errors
    /// [`HintError`]: the data is to be counted and ignored.
    #[doc(alias = "VIRTIO_F_NOTIFICATION_DATA")]
    fn hint(&self, data: NotificationData) -> Result<u16, HintError>;

    /// Where the device stands: the first chain that was not accepted. Whoever goes on from there knows nothing of what is
    /// completed and not visible, or visible and not asked about: [`flush`](Self::flush) first.
    fn state(&self) -> QueueState;

    /// Entries of the ring.
    fn size(&self) -> u16;

    /// The violation that stopped this ring, if one did.
    fn fault(&self) -> Option<RingError>;

    /// What was wrong with the last faulty chain: what [`Peeked::fault`] calls.
    #[doc(hidden)]
    fn chain_fault(&self) -> Option<ChainFault>;
}

/// A chain that the driver added: names it until the device has used it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle(pub u16);

/// The ring has not enough free descriptors for a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("ring has {free} free descriptors, {needed} are needed")]
pub struct Full {
    /// Descriptors that are free.
    pub free: u16,
    /// Descriptors that the chain takes.
    pub needed: usize,
}

/// A chain that the device has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// The chain.
    pub handle: Handle,
    /// Bytes that the device says it wrote; never more than the chain's writable bytes.
    pub len: u32,
}

/// The driver's side of a ring.
pub trait DriverRing {
    /// Adds a chain, not yet visible to the device: readable elements first, at least one element.
    ///
    /// # Errors
    /// [`Full`]: reap used chains first.
    fn add(&mut self, elements: &[Element]) -> Result<Handle, Full>;

    /// Adds each element as a chain of its own, as long as there are elements and free descriptors: [`add`](Self::add) in
    /// one loop, whose positions stay in registers. `added` gets the handle of each; an element is only asked for if there
    /// is room for it. Returns how many were added. If one of the two panics, the ring has to be reset.
    #[inline]
    fn add_each(&mut self, mut elements: impl Iterator<Item = Element>, mut added: impl FnMut(Handle)) -> usize {
        let mut count: usize = 0;
        while self.free_slots() > 0
            && let Some(element) = elements.next()
            && let Ok(handle) = self.add(&[element])
        {
            added(handle);
            count = count.wrapping_add(1); // at most the ring's size
        }
        count
    }

    /// Makes every added chain visible at once, and says whether the device wants a kick for them:
    /// [`publish`](Self::publish) and [`notify`](Self::notify).
    #[inline]
    fn flush(&mut self) -> Notify {
        self.publish();
        self.notify()
    }

    /// Makes every added chain visible at once, and leaves open whether the device wants a kick: one store. Before this side
    /// waits for anything [`notify`](Self::notify) has to follow, or the device may sleep forever; unless it is known never
    /// to sleep.
    fn publish(&mut self);

    /// Says whether the device wants a kick for what has become visible since this was last asked: one fence and one load,
    /// which wait until every store before them is done.
    fn notify(&mut self) -> Notify;

    /// The next chain that the device has used, or `None`.
    ///
    /// # Errors
    /// [`RingError`] once, when the device broke the ring; after that nothing is used any more.
    fn poll_used(&mut self) -> Result<Option<Used>, RingError>;

    /// Takes back up to `most` chains that the device has used, each given to `each`: [`poll_used`](Self::poll_used) in one
    /// loop, whose positions stay in registers. Returns how many.
    ///
    /// The device's index is read only if nothing is known to be used, so fewer than there are may be taken. If `each`
    /// panics, the ring has to be reset.
    ///
    /// # Errors
    /// As [`poll_used`](Self::poll_used); what was taken back before has been given to `each`.
    #[inline]
    fn reap_each(&mut self, most: usize, mut each: impl FnMut(Used)) -> Result<usize, RingError> {
        for count in 0..most {
            let Some(used) = self.poll_used()? else { return Ok(count) };
            each(used);
        }
        Ok(most)
    }

    /// Asks the device for calls. False if chains were used meanwhile.
    #[must_use = "false means that there are used chains to reap before sleeping"]
    fn arm(&mut self) -> bool;

    /// Tells the device that calls are not needed.
    fn disarm(&mut self);

    /// Takes back every chain that was added and not reaped, once the device has reset the queue (virtio 1.3, 2.6.1), and
    /// begins anew: the ring's memory, free descriptors, event words and handles are those of a new ring, and a violation
    /// is forgotten. `taken` sees each handle once, in no particular order.
    ///
    /// What the device has used and nobody reaped is among them: reap first whatever may not be lost. For another geometry
    /// make a new ring after this.
    ///
    /// Not before the device says that the reset is done: until then it may still write to what is taken back.
    #[doc(alias = "VIRTIO_F_RING_RESET")]
    #[doc(alias = "virtqueue_detach_unused_buf")]
    fn reset(&mut self, taken: impl FnMut(Handle))
    where
        Self: Sized;

    /// What to write for queue number `queue` when a [`flush`](Self::flush) says that a notification is needed.
    #[doc(alias = "VIRTIO_F_NOTIFICATION_DATA")]
    fn notification_data(&self, queue: u16) -> NotificationData;

    /// Descriptors that are free.
    fn free_slots(&self) -> u16;

    /// Entries of the ring.
    fn size(&self) -> u16;
}
