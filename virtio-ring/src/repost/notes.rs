//! What the host remembers of chains that are out or kept.

use alloc::vec::Vec;

use super::KeptError;
use crate::ring::{Element, Handle};

/// No chain, no element: rings have at most 32768.
const NONE: u16 = u16::MAX;

/// What a ring needs remembered.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeping {
    /// Descriptors stay as they are.
    Nothing,
    /// Descriptors have to be used in the order of the table.
    Circle,
    /// The device writes over descriptors: address too, if it likes, as a used descriptor's is unused (virtio 1.3, 2.8.4).
    Slots,
}

/// Where a chain stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Free, or the device's.
    Out,
    /// Reaped with its descriptors, so many.
    Kept(u16),
    /// In a circle: given back while an older one is kept, so its descriptors cannot be used yet.
    Returned(u16),
}

/// What the elements of a chain are.
#[derive(Clone, Copy, Debug)]
enum Noted {
    Unknown,
    /// In an indirect table, which the ring knows.
    Table,
    /// This one.
    One(Element),
    /// A list through the pool, which begins here.
    Many(u16),
}

#[derive(Clone, Copy, Debug)]
struct Chain {
    state: State,
    noted: Noted,
    /// In a circle: the chain that was reaped next.
    next: u16,
}

/// All chains, by handle.
#[derive(Debug)]
pub(super) struct Notes {
    chains: Vec<Chain>,
    /// Elements of chains of several: as many as there are descriptors, as each has one.
    pool: Vec<(Element, u16)>,
    free: u16,
    /// The elements of one chain in one piece.
    piece: Vec<Element>,
    kept: u16,
    /// In a circle: the chains that are kept or wait for older ones, in the order of the table.
    oldest: u16,
    newest: u16,
}

impl Notes {
    pub(super) fn new(size: u16) -> Self {
        let none = Element { addr: crate::mem::GuestAddr(0), len: 0, writable: false };
        let next = |i: u16| if i.wrapping_add(1) == size { NONE } else { i.wrapping_add(1) };
        Self {
            chains: alloc::vec![Chain { state: State::Out, noted: Noted::Unknown, next: NONE }; size.into()],
            pool: (0..size).map(|i| (none, next(i))).collect(),
            free: 0,
            piece: Vec::with_capacity(size.into()),
            kept: 0,
            oldest: NONE,
            newest: NONE,
        }
    }

    fn chain(&mut self, handle: u16) -> Option<&mut Chain> {
        self.chains.get_mut(usize::from(handle))
    }

    pub(super) const fn kept(&self) -> u16 {
        self.kept
    }

    /// True if a chain is kept, or waits for one.
    pub(super) const fn is_pending(&self) -> bool {
        self.kept > 0 || self.oldest != NONE
    }

    /// Notes what a chain was added with; no elements mean that they are in a table.
    pub(super) fn note(&mut self, handle: u16, elements: &[Element]) {
        let noted = match elements {
            [] => Noted::Table,
            [one] => Noted::One(*one),
            many => many.iter().rev().fold(Noted::Many(NONE), |list, e| self.put(list, *e)),
        };
        self.forget(handle);
        if let Some(chain) = self.chain(handle) {
            chain.noted = noted;
        }
    }

    /// Puts an element before a list.
    fn put(&mut self, list: Noted, e: Element) -> Noted {
        let (Noted::Many(next), at) = (list, self.free) else { return list };
        let Some(entry) = self.pool.get_mut(usize::from(at)) else { return list };
        self.free = core::mem::replace(entry, (e, next)).1;
        Noted::Many(at)
    }

    /// Forgets what a chain was added with.
    pub(super) fn forget(&mut self, handle: u16) {
        let Some(chain) = self.chain(handle) else { return };
        let Noted::Many(mut at) = core::mem::replace(&mut chain.noted, Noted::Unknown) else { return };
        while let Some((_, next)) = self.pool.get_mut(usize::from(at)) {
            let behind = core::mem::replace(next, self.free);
            self.free = core::mem::replace(&mut at, behind);
        }
    }

    /// The elements of a chain; none if they are in a table.
    pub(super) fn elements(&mut self, handle: Handle) -> Result<&[Element], KeptError> {
        let noted = self.chains.get(usize::from(handle.0)).map_or(Noted::Unknown, |c| c.noted);
        self.piece.clear();
        match noted {
            Noted::Unknown => return Err(KeptError::Unknown { handle }),
            Noted::Table => {}
            Noted::One(e) => self.piece.push(e),
            Noted::Many(mut at) => {
                while let Some((e, next)) = self.pool.get(usize::from(at)) {
                    self.piece.push(*e);
                    at = *next;
                }
            }
        }
        Ok(&self.piece)
    }

    /// The chain at `from` is at `to` from now on.
    pub(super) fn move_notes(&mut self, from: u16, to: u16) {
        let noted = self.chain(from).map(|c| core::mem::replace(&mut c.noted, Noted::Unknown));
        self.forget(to);
        if let (Some(chain), Some(noted)) = (self.chain(to), noted) {
            chain.noted = noted;
        }
    }

    /// Keeps a chain with its descriptors.
    pub(super) fn keep(&mut self, handle: u16, count: u16, keeping: Keeping) {
        let Some(chain) = self.chain(handle) else { return };
        (chain.state, chain.next) = (State::Kept(count), NONE);
        self.kept = self.kept.wrapping_add(1);
        if keeping == Keeping::Circle {
            let newest = core::mem::replace(&mut self.newest, handle);
            if self.oldest == NONE {
                self.oldest = handle;
            } else if let Some(chain) = self.chain(newest) {
                chain.next = handle;
            }
        }
    }

    /// Descriptors of a chain that is kept.
    pub(super) fn count(&self, handle: Handle) -> Result<u16, KeptError> {
        match self.chains.get(usize::from(handle.0)) {
            Some(Chain { state: State::Kept(count), .. }) => Ok(*count),
            _ => Err(KeptError::NotKept { handle }),
        }
    }

    /// A kept chain is not any more.
    pub(super) fn unkeep(&mut self, handle: u16) {
        if let Some(chain) = self.chain(handle)
            && let State::Kept(_) = core::mem::replace(&mut chain.state, State::Out)
        {
            self.kept = self.kept.wrapping_sub(1);
        }
    }

    /// In a circle: a kept chain's descriptors are to be freed in their turn.
    pub(super) fn give_back(&mut self, handle: u16) {
        if let Some(chain) = self.chain(handle)
            && let State::Kept(count) = chain.state
        {
            chain.state = State::Returned(count);
            self.kept = self.kept.wrapping_sub(1);
        }
    }

    /// In a circle: the chain that was reaped first of those pending.
    pub(super) fn front(&self) -> Option<(Handle, State)> {
        let chain = self.chains.get(usize::from(self.oldest))?;
        Some((Handle(self.oldest), chain.state))
    }

    pub(super) fn oldest(&self) -> Option<Handle> {
        self.front().map(|(handle, _)| handle)
    }

    /// In a circle: the front is not pending any more.
    pub(super) fn pop(&mut self) {
        let oldest = self.oldest;
        self.unkeep(oldest);
        self.oldest = self.chain(oldest).map_or(NONE, |c| core::mem::replace(&mut c.next, NONE));
    }
}
