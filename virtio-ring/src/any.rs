//! Either format, for embedders that learn it at run time.
//!
//! Hot loops are generic over [`DeviceRing`] and [`DriverRing`]: match once a burst and call them with what is inside.
//! The enums implement the traits as well, for everything that is not hot.

use crate::chain::Front;
use crate::error::{ChainFault, Fault, RingError};
use crate::mem::{GuestAddr, GuestMemory, RingMem};
use crate::notification::{HintError, NotificationData};
use crate::packed::{PackedDevice, PackedDriver};
use crate::repost::{Again, KeepRing, Keeping};
use crate::ring::{
    ChainSink, DeviceRing, DriverRing, Element, Full, Handle, Notify, QueueConfig, QueueState, Token, Used,
};
use crate::split::{SplitDevice, SplitDriver};

/// The format of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Format {
    /// Descriptor table, available ring, used ring.
    #[default]
    Split,
    /// One ring of descriptors: `VIRTIO_F_RING_PACKED`.
    Packed,
}

impl Format {
    /// The state of a ring that was never used.
    #[must_use]
    pub const fn start(self) -> QueueState {
        match self {
            Self::Split => QueueState::SPLIT,
            Self::Packed => QueueState::PACKED,
        }
    }

    /// A ring of this format laid out from `base` on; and the first address behind it.
    #[must_use]
    pub fn layout(self, base: GuestAddr, size: u16) -> (QueueConfig, GuestAddr) {
        match self {
            Self::Split => QueueConfig::split(base, size),
            Self::Packed => QueueConfig::packed(base, size),
        }
    }
}

/// The device's side of a ring of either format.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants say it")]
pub enum AnyDevice<A> {
    Split(SplitDevice<A>),
    Packed(PackedDevice<A>),
}

/// The driver's side of a ring of either format.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants say it")]
pub enum AnyDriver<A> {
    Split(SplitDriver<A>),
    Packed(PackedDriver<A>),
}

/// Calls the same method on whichever ring it is.
macro_rules! either {
    ($self:ident, $ring:ident => $call:expr) => {
        match $self {
            Self::Split($ring) => $call,
            Self::Packed($ring) => $call,
        }
    };
}

impl<A: RingMem> AnyDevice<A> {
    /// Starts a queue where `state` says.
    ///
    /// # Errors
    /// [`RingError`] if size, addresses or state cannot be.
    pub fn new<M: GuestMemory<Area = A>>(
        mem: &M,
        format: Format,
        config: &QueueConfig,
        state: QueueState,
    ) -> Result<Self, RingError> {
        Ok(match format {
            Format::Split => Self::Split(SplitDevice::new(mem, config, state)?),
            Format::Packed => Self::Packed(PackedDevice::new(mem, config, state)?),
        })
    }
}

impl<A: RingMem> AnyDevice<A> {
    /// Starts a queue where a vhost-user front end says: see [`PackedDevice::resume`].
    ///
    /// # Errors
    /// [`RingError`] if size, addresses or state cannot be.
    pub fn resume<M: GuestMemory<Area = A>>(
        mem: &M,
        format: Format,
        config: &QueueConfig,
        state: QueueState,
    ) -> Result<Self, RingError> {
        Ok(match format {
            Format::Split => Self::Split(SplitDevice::new(mem, config, state)?),
            Format::Packed => Self::Packed(PackedDevice::resume(mem, config, state)?),
        })
    }
}

impl<A> AnyDevice<A> {
    /// Which it is.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self {
            Self::Split(_) => Format::Split,
            Self::Packed(_) => Format::Packed,
        }
    }
}

impl<A: RingMem> AnyDriver<A> {
    /// Sets up an empty ring.
    ///
    /// # Errors
    /// [`RingError`] if size or addresses cannot be.
    pub fn new<M: GuestMemory<Area = A>>(mem: &M, format: Format, config: &QueueConfig) -> Result<Self, RingError> {
        Ok(match format {
            Format::Split => Self::Split(SplitDriver::new(mem, config)?),
            Format::Packed => Self::Packed(PackedDriver::new(mem, config)?),
        })
    }

    /// Puts chains of 2 to `entries` elements into indirect tables at `addr`: see [`SplitDriver::with_indirect`].
    ///
    /// # Errors
    /// [`RingError`] if the tables are misaligned or not in memory.
    pub fn with_indirect<M: GuestMemory<Area = A>>(
        self,
        mem: &M,
        addr: GuestAddr,
        entries: u16,
    ) -> Result<Self, RingError> {
        Ok(match self {
            Self::Split(ring) => Self::Split(ring.with_indirect(mem, addr, entries)?),
            Self::Packed(ring) => Self::Packed(ring.with_indirect(mem, addr, entries)?),
        })
    }

    /// The violation that stopped this ring, if one did.
    #[must_use]
    pub const fn fault(&self) -> Option<RingError> {
        either!(self, ring => ring.fault())
    }
}

impl<A: RingMem> DeviceRing for AnyDevice<A> {
    fn front(&mut self) -> Option<Front> {
        either!(self, ring => ring.front())
    }

    fn idle(&mut self) -> Result<(), RingError> {
        either!(self, ring => ring.idle())
    }

    fn walk<M: GuestMemory, S: ChainSink>(
        &mut self,
        mem: &M,
        sink: &mut S,
        head: u16,
        words: (u64, u64),
    ) -> Option<(Token, bool)> {
        either!(self, ring => ring.walk(mem, sink, head, words))
    }

    fn serve<M: GuestMemory, S: ChainSink>(
        &mut self,
        mem: &M,
        sink: &mut S,
        most: usize,
        done: impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> Result<usize, RingError> {
        either!(self, ring => ring.serve(mem, sink, most, done))
    }

    fn singles<S: ChainSink>(
        &mut self,
        sink: &mut S,
        most: usize,
        done: &mut impl FnMut(&mut S, Option<ChainFault>) -> u32,
    ) -> (usize, Option<Front>) {
        either!(self, ring => ring.singles(sink, most, done))
    }

    fn accept_singles<const WRITABLE: bool>(
        &mut self,
        most: usize,
        take: impl FnMut(Token, GuestAddr, u32) -> bool,
    ) -> (usize, Option<Front>) {
        either!(self, ring => ring.accept_singles::<WRITABLE>(most, take))
    }

    fn note(&mut self, fault: ChainFault) -> bool {
        either!(self, ring => ring.note(fault))
    }

    fn accept(&mut self, token: &Token) {
        either!(self, ring => ring.accept(token));
    }

    fn rewind(&mut self, token: Token) {
        either!(self, ring => ring.rewind(token));
    }

    fn complete(&mut self, token: Token, written: u32) {
        either!(self, ring => ring.complete(token, written));
    }

    fn complete_each(&mut self, chains: impl Iterator<Item = (Token, u32)>) {
        either!(self, ring => ring.complete_each(chains));
    }

    fn publish(&mut self) {
        either!(self, ring => ring.publish());
    }

    fn notify(&mut self) -> Notify {
        either!(self, ring => ring.notify())
    }

    fn arm(&mut self) -> bool {
        either!(self, ring => ring.arm())
    }

    fn disarm(&mut self) {
        either!(self, ring => ring.disarm());
    }

    fn missing(&self) -> Option<Fault> {
        either!(self, ring => ring.missing())
    }

    fn reset(&mut self) {
        either!(self, ring => ring.reset());
    }

    fn hint(&self, data: NotificationData) -> Result<u16, HintError> {
        either!(self, ring => ring.hint(data))
    }

    fn state(&self) -> QueueState {
        either!(self, ring => ring.state())
    }

    fn size(&self) -> u16 {
        either!(self, ring => ring.size())
    }

    fn fault(&self) -> Option<RingError> {
        either!(self, ring => ring.fault())
    }

    fn chain_fault(&self) -> Option<ChainFault> {
        either!(self, ring => ring.chain_fault())
    }
}

impl<A: RingMem> DriverRing for AnyDriver<A> {
    fn add(&mut self, elements: &[Element]) -> Result<Handle, Full> {
        either!(self, ring => ring.add(elements))
    }

    fn publish(&mut self) {
        either!(self, ring => ring.publish());
    }

    fn notify(&mut self) -> Notify {
        either!(self, ring => ring.notify())
    }

    fn add_each(&mut self, elements: impl Iterator<Item = Element>, added: impl FnMut(Handle)) -> usize {
        either!(self, ring => ring.add_each(elements, added))
    }

    fn reap_each(&mut self, most: usize, each: impl FnMut(Used)) -> Result<usize, RingError> {
        either!(self, ring => ring.reap_each(most, each))
    }

    fn poll_used(&mut self) -> Result<Option<Used>, RingError> {
        either!(self, ring => ring.poll_used())
    }

    fn arm(&mut self) -> bool {
        either!(self, ring => ring.arm())
    }

    fn disarm(&mut self) {
        either!(self, ring => ring.disarm());
    }

    fn reset(&mut self, taken: impl FnMut(Handle)) {
        either!(self, ring => ring.reset(taken));
    }

    fn notification_data(&self, queue: u16) -> NotificationData {
        either!(self, ring => ring.notification_data(queue))
    }

    fn free_slots(&self) -> u16 {
        either!(self, ring => ring.free_slots())
    }

    fn size(&self) -> u16 {
        either!(self, ring => ring.size())
    }
}

impl<A: RingMem> KeepRing for AnyDriver<A> {
    fn keeping(&self) -> Keeping {
        either!(self, ring => ring.keeping())
    }

    fn reap_kept(&mut self) -> Result<Option<(Used, u16)>, RingError> {
        either!(self, ring => ring.reap_kept())
    }

    fn release_kept(&mut self, handle: Handle, count: u16) {
        either!(self, ring => ring.release_kept(handle, count));
    }

    fn repost_kept(&mut self, chain: Again<'_>) {
        either!(self, ring => ring.repost_kept(chain));
    }

    fn repost_elsewhere(&mut self, chain: Again<'_>) -> Handle {
        either!(self, ring => ring.repost_elsewhere(chain))
    }
}
