//! The order of a ring for back ends that finish out of it.

use alloc::collections::VecDeque;

use crate::ring::{DeviceRing, Token};

/// Names a chain that a [`Reorder`] has the token of: four bytes, not `Clone`, as the token itself.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a chain that is not completed holds up all that come behind it"]
pub struct Ticket(u32);

#[derive(Debug)]
struct Entry {
    token: Token,
    /// How much was written, once it is done.
    written: Option<u32>,
}

/// Tokens in the order in which they were accepted, completed in that order whatever finishes first.
///
/// A device that negotiated `VIRTIO_F_IN_ORDER` uses chains in the order in which they were made available (virtio 1.3,
/// 2.7.9 and 2.8.9). A back end that finishes in another one exchanges each [`Token`] for a [`Ticket`], in the order of
/// acceptance, and completes tickets as it likes: the ring sees a completion once all before it are done. Nothing is
/// allocated after [`new`](Self::new), and a ring without one pays nothing.
///
/// ```
/// use virtio_ring::{DeviceRing, DriverRing, Element, Format, GuestAddr, HeapMemory, PackedDevice, PackedDriver};
/// use virtio_ring::{Chains, QueueConfig, Reorder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mem = HeapMemory::zeroed(GuestAddr(0), 1 << 16)?;
/// let (config, _end) = QueueConfig::packed(GuestAddr(0x1000), 4);
/// let config = QueueConfig { in_order: true, ..config };
/// let mut driver = PackedDriver::new(&mem, &config)?;
/// let mut device = PackedDevice::new(&mem, &config, Format::Packed.start())?;
/// let first = driver.add(&[Element { addr: GuestAddr(0x8000), len: 64, writable: true }])?;
/// let second = driver.add(&[Element { addr: GuestAddr(0x9000), len: 64, writable: true }])?;
/// let _ = driver.flush();
///
/// let mut chains = Chains::new(mem, 4);
/// let mut order = Reorder::new(device.size());
/// chains.fill(&mut device)?;
/// let slow = order.accept(chains.pop().ok_or("two chains")?).map_err(|_| "room for the whole ring")?;
/// let fast = order.accept(chains.pop().ok_or("two chains")?).map_err(|_| "room for the whole ring")?;
/// assert_eq!(order.complete(&mut device, fast, 2), Ok(0), "not its turn yet");
/// assert_eq!(order.complete(&mut device, slow, 1), Ok(2), "both");
/// let _ = device.flush();
/// assert_eq!(driver.poll_used()?.map(|u| (u.handle, u.len)), Some((first, 1)));
/// assert_eq!(driver.poll_used()?.map(|u| (u.handle, u.len)), Some((second, 2)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reorder {
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// Ticket of the oldest.
    first: u32,
    size: usize,
}

impl Reorder {
    /// Room for the chains of a ring of `size` entries.
    #[must_use]
    pub fn new(size: u16) -> Self {
        Self { entries: VecDeque::with_capacity(size.into()), first: 0, size: size.into() }
    }

    /// Chains that the ring has not got back yet, done or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the token of the chain that was accepted next.
    ///
    /// # Errors
    /// The token, if there are as many as the ring has entries: it is not of this ring.
    pub fn accept(&mut self, token: Token) -> Result<Ticket, Token> {
        if self.entries.len() >= self.size {
            return Err(token);
        }
        let ticket = Ticket(self.first.wrapping_add(self.entries.len() as u32)); // at most 32768
        self.entries.push_back(Entry { token, written: None });
        Ok(ticket)
    }

    /// Notes that a chain is done, with `written` bytes, and completes on `ring` all whose turn has come; returns how
    /// many. They become visible with the ring's next [`flush`](DeviceRing::flush).
    ///
    /// # Errors
    /// The ticket, if it names no chain that waits: it is another one's, or its chain was completed. Nothing has changed.
    pub fn complete<R: DeviceRing>(&mut self, ring: &mut R, ticket: Ticket, written: u32) -> Result<usize, Ticket> {
        let at = ticket.0.wrapping_sub(self.first) as usize;
        match self.entries.get_mut(at) {
            Some(entry) if entry.written.is_none() => entry.written = Some(written),
            _ => return Err(ticket),
        }
        let mut completed = 0_usize;
        while let Some(written) = self.entries.front().and_then(|e| e.written)
            && let Some(entry) = self.entries.pop_front()
        {
            ring.complete(entry.token, written);
            self.first = self.first.wrapping_add(1);
            completed = completed.wrapping_add(1); // at most 32768
        }
        Ok(completed)
    }

    /// Takes the chain back that was accepted last, to be rewound.
    ///
    /// # Errors
    /// The ticket, if another chain was accepted last, or this one is done.
    pub fn undo(&mut self, ticket: Ticket) -> Result<Token, Ticket> {
        let at = ticket.0.wrapping_sub(self.first) as usize;
        let is_last = at.checked_add(1) == Some(self.entries.len());
        if !is_last || self.entries.back().is_some_and(|e| e.written.is_some()) {
            return Err(ticket);
        }
        self.entries.pop_back().map(|e| e.token).ok_or(ticket)
    }
}
