//! The notification protocol, once for both formats and both sides.
//!
//! The two functions here hold the only full fences of the crate. Each fence of one side is the partner of a fence of
//! the other: a side that publishes stores its index, fences, and loads the peer's event word; a side that goes to
//! sleep stores its event word, fences, and loads the peer's index. With both fences, at least one of the two sees
//! the other's store, so either a notification is sent or the sleeper stays awake.

use crate::ring::Notify;

/// What has become visible to the peer since it was last looked at whether that wants to be told.
///
/// The look may be put off, over many publications even, as long as it comes before this side waits for anything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unasked(u32);

impl Unasked {
    /// So many entries more.
    #[inline]
    pub(crate) const fn add(&mut self, entries: u16) {
        self.0 = self.0.saturating_add(entries as u32);
    }

    /// How many entries back an event of the peer can lie, or 0 if nothing has become visible. No more than a whole ring: a
    /// peer that waits for an entry has gone no further, and without it nothing beyond a lap can be published.
    #[inline]
    pub(crate) fn take(&mut self, size: u16) -> u16 {
        core::mem::take(&mut self.0).min(size as u32) as u16
    }
}

/// The words of one side that the protocol needs.
pub(crate) trait Side {
    /// An index, or a place in a ring.
    type Place: Copy;

    /// A full fence between an earlier store and a later load of this side.
    fn fence(&self);
    /// Loads the peer's event word: does it want to know that the index moved from `old` to `new`?
    fn peer_wants(&self, old: Self::Place, new: Self::Place) -> bool;
    /// Stores this side's event word: tell me about everything from here on.
    fn ask(&mut self);
    /// Loads the peer's index: is there anything to do?
    fn has_work(&mut self) -> bool;
}

/// To be called after everything from `old` up to `new` was published.
#[inline]
pub(crate) fn must_notify<S: Side>(side: &S, old: S::Place, new: S::Place) -> Notify {
    // Partner: the fence in `arm` of the other side.
    side.fence();
    if side.peer_wants(old, new) { Notify::Needed } else { Notify::Suppressed }
}

/// True if this side may sleep.
#[inline]
pub(crate) fn arm<S: Side>(side: &mut S) -> bool {
    side.ask();
    // Partner: the fence in `must_notify` of the other side.
    side.fence();
    !side.has_work()
}

/// True if an index that moved from `old` to `new` passed `event` (virtio 1.3, 2.7.7.2 and 2.7.10).
#[doc(alias = "vring_need_event")]
#[inline]
pub(crate) const fn passed(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests;
