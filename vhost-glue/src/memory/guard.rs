//! Surviving a file that is cut short after it was mapped.
//!
//! An access to a page that the file does not have any more is a `SIGBUS`. The handler here puts a page of zeros in its
//! place, if it is a page of guest memory; what the driver made of its rings then is its own affair.
#![expect(unsafe_code, reason = "handles a signal, and maps pages while it does")]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};

/// Slots that are made at a time.
const SLOTS: usize = 512;

/// Slots, and where more of them are. There is always one chunk; others come when all slots are taken, and none ever
/// goes: a signal handler may be reading it.
struct Chunk {
    slots: [Slot; SLOTS],
    /// Null, or a chunk that lives for ever.
    next: AtomicPtr<Chunk>,
}

/// One mapping, to be read by a signal handler.
pub(super) struct Slot {
    /// Odd while the rest changes.
    version: AtomicUsize,
    start: AtomicUsize,
    /// 0: free.
    len: AtomicUsize,
    /// Size of the file's pages in bytes.
    page: AtomicUsize,
}

static TABLE: Chunk = Chunk::new();
/// Held by whoever changes `TABLE`; never by the handler.
static CHANGE: Mutex<()> = Mutex::new(());
/// What was done about the signal before.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

impl Chunk {
    const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS], next: AtomicPtr::new(ptr::null_mut()) }
    }

    /// This chunk and those after it.
    fn chain(&'static self) -> impl Iterator<Item = &'static Self> {
        std::iter::successors(Some(self), |chunk| {
            let next = chunk.next.load(Ordering::Acquire);
            // SAFETY: null, or stored by `free_slot` below, which leaks the chunk that it points to.
            unsafe { next.as_ref() }
        })
    }

    /// All slots there are.
    fn all(&'static self) -> impl Iterator<Item = &'static Slot> {
        self.chain().flat_map(|chunk| &chunk.slots)
    }

    /// A slot that guards nothing. To be called with `CHANGE` held.
    fn free_slot(&'static self) -> &'static Slot {
        if let Some(slot) = self.all().find(|slot| slot.len.load(Ordering::SeqCst) == 0) {
            return slot;
        }
        let more: &'static Self = Box::leak(Box::new(Self::new()));
        let last = self.chain().last().unwrap_or(self);
        // The handler that sees it sees its slots.
        last.next.store(ptr::from_ref(more).cast_mut(), Ordering::Release);
        let [first, ..] = &more.slots;
        first
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            page: AtomicUsize::new(0),
        }
    }

    /// To be called with `CHANGE` held.
    fn set(&self, start: usize, len: usize, page: usize) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.start.store(start, Ordering::SeqCst);
        self.len.store(len, Ordering::SeqCst);
        self.page.store(page, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// First address and length of the page of this mapping that holds `addr`.
    ///
    /// The slot of a mapping that the calling thread is using does not change meanwhile.
    fn page_of(&self, addr: usize) -> Option<(usize, usize)> {
        let version = self.version.load(Ordering::SeqCst);
        let (start, len) = (self.start.load(Ordering::SeqCst), self.len.load(Ordering::SeqCst));
        let page = self.page.load(Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let steady = version.is_multiple_of(2) && version == self.version.load(Ordering::SeqCst);
        let offset = addr.checked_sub(start).filter(|offset| steady && *offset < len)?;
        let first = offset.checked_sub(offset.checked_rem(page)?)?;
        Some((start.checked_add(first)?, page.min(len.checked_sub(first)?)))
    }
}

/// Guards a mapping of at least one byte until it leaves.
pub(super) fn enter(start: usize, len: usize, page: usize) -> &'static Slot {
    let _held = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = TABLE.free_slot();
    slot.set(start, len, page);
    slot
}

/// To be called before the mapping goes.
pub(super) fn leave(slot: &Slot) {
    let _held = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
    slot.set(0, 0, 0);
}

/// Lets this process survive front ends that cut the files of guest memory short: installs a handler for `SIGBUS`,
/// which passes on what is not about guest memory to the handler before it. Best called once, early, by a program whose
/// business this is; a library that embeds a device may have a handler of its own.
///
/// # Errors
/// What the system says.
pub fn guard_against_truncation() -> io::Result<()> {
    let _held = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
    if !PREVIOUS.load(Ordering::SeqCst).is_null() {
        return Ok(());
    }
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a `sigaction` of zeros is a valid one: no flags, empty mask, default action.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = on_bus_error as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: asks for the present action; the place for it is one of that type.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the call above, and valid as zeros before that.
    let previous = unsafe { previous.assume_init() };
    // Never freed: the handler may need it at any time.
    PREVIOUS.store(Box::into_raw(Box::new(previous)), Ordering::SeqCst);
    // SAFETY: the handler has the signature that `SA_SIGINFO` asks for, and does only what a handler may.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// No lock, no allocation, and `errno` as it was: this may interrupt anything.
extern "C" fn on_bus_error(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a handler with `SA_SIGINFO` a valid structure, which nobody else knows of.
    let info = unsafe { &*info };
    // SAFETY: for this signal the field is an address, or a number of the sender's choice that is not used.
    let addr = unsafe { info.si_addr() }.addr();
    // SAFETY: the address of this thread's `errno`.
    let errno_place = unsafe { libc::__errno_location() };
    // SAFETY: valid for this thread.
    let errno = unsafe { errno_place.read() };
    let sent = info.si_code <= 0;
    let page = TABLE.all().find_map(|slot| slot.page_of(addr)).filter(|_| !sent);
    if !page.is_some_and(|(start, len)| replace(start, len)) {
        pass_on(sent);
    }
    // SAFETY: as for the read.
    unsafe { errno_place.write(errno) };
}

/// Puts zeros where a page was lost.
fn replace(start: usize, len: usize) -> bool {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
    let at = ptr::with_exposed_provenance_mut(start);
    // SAFETY: the range is part of a mapping in `TABLE`, so it is a `Mapping`'s; the thread that this interrupted has
    // just used it, so it holds the `Arc` that keeps it, and nobody unmaps it meanwhile.
    let mapped = unsafe { libc::mmap(at, len, prot, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// Not about guest memory: whatever was in place before takes over, with the next try of the same access.
fn pass_on(sent: bool) {
    let previous = PREVIOUS.load(Ordering::SeqCst);
    // SAFETY: set before the handler was installed, and never freed.
    unsafe { libc::sigaction(libc::SIGBUS, previous, ptr::null_mut()) };
    if sent {
        // SAFETY: sends this thread the signal that it was sent, to be delivered when the handler returns.
        unsafe { libc::raise(libc::SIGBUS) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_slot_for_every_mapping() {
        // Addresses that no mapping has.
        const FIRST: usize = 1 << 60;
        const COUNT: usize = 3 * SLOTS;
        let start = |n: usize| FIRST.wrapping_add(n.wrapping_mul(1 << 20));
        let find = |n: usize| TABLE.all().find_map(|slot| slot.page_of(start(n).wrapping_add(0x1234)));
        let slots: Vec<&Slot> = (0..COUNT).map(|n| enter(start(n), 1 << 20, 4096)).collect();
        assert!((0..COUNT).all(|n| find(n) == Some((start(n).wrapping_add(0x1000), 4096))));
        let chunks = TABLE.chain().count();
        assert!(chunks >= 3, "{chunks}");
        slots.iter().skip(1).for_each(|slot| leave(slot));
        assert!(find(0).is_some() && (1..COUNT).all(|n| find(n).is_none()));
        // What was left is used again.
        let again: Vec<&Slot> = (1..COUNT).map(|n| enter(start(n), 1 << 20, 4096)).collect();
        assert_eq!(TABLE.chain().count(), chunks);
        again.iter().chain(slots.first()).for_each(|slot| leave(slot));
        assert!((0..COUNT).all(|n| find(n).is_none()));
    }
}
