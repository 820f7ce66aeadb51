//! The driver's side of a net device: what a guest does, for guests that are a thread and not a machine.

mod average;
mod cutter;
mod keep;
pub mod pool;

use alloc::vec;
use alloc::vec::Vec;

use virtio_ring::{Access, Element, Fault, Full, GuestAddr, GuestMemory, KeepRing, Notify, RingError, Used};

use crate::backend::MAX_FRAME;
use crate::features::Features;
use crate::header::{BACKEND_HEADER_LEN, NetHeader};
pub use keep::Received;
use pool::{BufferSizes, Filled, ReceivePool};

/// Bytes of a receive buffer without mergeable buffers and large offloads: a frame of 1500 bytes with header and tags.
const SINGLE_LEN: usize = 2176;

/// Where a [`NetDriver`] keeps its buffers, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferPlan {
    /// First guest address.
    pub base: GuestAddr,
    /// Receive buffers; at most as many as the receive ring has entries are posted. Mergeable ones are as long as the
    /// average frame needs: see [`BufferSizes::mergeable`].
    pub rx: u16,
    /// Transmit buffers, each for one frame.
    pub tx: u16,
    /// Longest frame to send, in bytes.
    pub tx_frame: usize,
}

/// Counters of a driver. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DriverStats {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Received buffers that contradict themselves: too short, or a `num_buffers` that does not follow.
    pub malformed: u64,
}

/// Why a driver cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The device broke a ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The buffers are not in memory.
    #[error(transparent)]
    Memory(#[from] Fault),
    /// A frame longer than the transmit buffers.
    #[error("frame of {len} bytes, the transmit buffers hold {max}")]
    TooLong {
        /// Bytes of the frame.
        len: usize,
        /// Bytes that fit.
        max: usize,
    },
}

/// A net driver on one queue pair.
#[derive(Debug)]
pub struct NetDriver<R, M> {
    rx: ReceivePool<R>,
    tx: R,
    mem: M,
    header_len: usize,
    mergeable: bool,
    tx_frame: usize,
    tx_base: GuestAddr,
    /// Buffer of each transmit handle.
    tx_owner: Vec<u16>,
    tx_free: Vec<u16>,
    /// The frame under way, gathered in one piece.
    frame: Vec<u8>,
    stats: DriverStats,
}

impl<R: KeepRing, M: GuestMemory> NetDriver<R, M> {
    /// Bytes of memory that `plan` takes with these features.
    #[must_use]
    pub fn memory_len(plan: &BufferPlan, acked: Features) -> usize {
        let rx = usize::try_from(rx_sizes(acked, plan.rx).memory_len(plan.rx)).unwrap_or(usize::MAX);
        rx.saturating_add(plan.tx_frame.saturating_add(acked.header_len()).saturating_mul(plan.tx.into()))
    }

    /// Posts the receive buffers. They are visible to the device after the first [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`DriverError::Memory`] if `plan` is not in `mem`.
    pub fn new(mem: M, rx: R, tx: R, plan: &BufferPlan, acked: Features) -> Result<Self, DriverError> {
        let rx_bytes = rx_sizes(acked, plan.rx).memory_len(plan.rx);
        let fault = Fault::forbidden(plan.base, rx_bytes, Access::Write);
        let tx_base = plan.base.checked_add(rx_bytes).ok_or(fault)?;
        let tx_size = tx.size();
        let posted = plan.rx.min(rx.size());
        let rx = ReceivePool::new(rx, plan.base, rx_bytes, posted, rx_sizes(acked, posted));
        Ok(Self {
            rx,
            tx,
            mem,
            header_len: acked.header_len(),
            mergeable: acked.contains(Features::MRG_RXBUF),
            tx_frame: plan.tx_frame,
            tx_base,
            tx_owner: vec![0; tx_size.into()],
            tx_free: (0..plan.tx).rev().collect(),
            frame: Vec::with_capacity(MAX_FRAME.saturating_add(acked.header_len())),
            stats: DriverStats::default(),
        })
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &DriverStats {
        &self.stats
    }

    /// True if a frame can be sent now. Reaps what the device has sent.
    ///
    /// # Errors
    /// [`DriverError::Ring`] if the device broke the ring.
    pub fn can_send(&mut self) -> Result<bool, DriverError> {
        while let Some(Used { handle, .. }) = self.tx.poll_used()? {
            let buffer = self.tx_owner.get(usize::from(handle.0)).copied().unwrap_or_default();
            self.tx_free.push(buffer);
        }
        Ok(!self.tx_free.is_empty() && self.tx.free_slots() > 0)
    }

    /// Sends one frame, visible to the device after [`flush`](Self::flush). False if there is no room now.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn send(&mut self, header: &NetHeader, frame: &[u8]) -> Result<bool, DriverError> {
        if frame.len() > self.tx_frame {
            return Err(DriverError::TooLong { len: frame.len(), max: self.tx_frame });
        }
        if self.tx_free.is_empty() && !self.can_send()? {
            return Ok(false);
        }
        let Some(buffer) = self.tx_free.pop() else { return Ok(false) };
        let addr = offset(self.tx_base, buffer, self.tx_frame.saturating_add(self.header_len))?;
        let len = self.header_len.saturating_add(frame.len());
        let mut front = [0_u8; 20];
        for (to, from) in front.iter_mut().zip(header.to_bytes(0).iter().take(self.header_len)) {
            *to = *from;
        }
        write(&self.mem, addr, front.get(..self.header_len).unwrap_or_default())?;
        write(&self.mem, GuestAddr(addr.0.saturating_add(self.header_len as u64)), frame)?;
        match self.tx.add(&[Element { addr, len: len as u32, writable: false }]) {
            Ok(handle) => {
                if let Some(owner) = self.tx_owner.get_mut(usize::from(handle.0)) {
                    *owner = buffer;
                }
                self.stats.sent = self.stats.sent.wrapping_add(1);
                Ok(true)
            }
            Err(Full { .. }) => {
                self.tx_free.push(buffer);
                Ok(false)
            }
        }
    }

    /// The next frame that the device delivered, with its header. Its buffers are posted again.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn receive(&mut self) -> Result<Option<(NetHeader, &[u8])>, DriverError> {
        while let Some(first) = self.rx.poll()? {
            self.frame.clear();
            let mut header = [0; BACKEND_HEADER_LEN];
            let whole = self.gather(first)?;
            for (to, from) in header.iter_mut().zip(self.frame.iter()) {
                *to = *from;
            }
            let buffers = self.buffers(&header);
            let mut good = whole && self.frame.len() >= self.header_len && buffers > 0;
            for _ in 1..buffers {
                // All buffers of a frame become visible together (virtio 1.3, 5.1.6.4).
                let Some(more) = self.rx.poll()? else {
                    good = false;
                    break;
                };
                good &= self.gather(more)?;
            }
            if good {
                self.stats.received = self.stats.received.wrapping_add(1);
                let frame = self.frame.get(self.header_len..).unwrap_or_default();
                self.rx.learn(frame.len());
                return Ok(Some((NetHeader::from_bytes(&header), frame)));
            }
            self.stats.malformed = self.stats.malformed.wrapping_add(1);
        }
        Ok(None)
    }

    /// How many buffers the first one's header says that its frame takes.
    const fn buffers(&self, header: &[u8; BACKEND_HEADER_LEN]) -> u16 {
        let [.., n0, n1] = *header;
        if self.mergeable { u16::from_le_bytes([n0, n1]) } else { 1 }
    }

    /// Makes everything visible: whether the device wants a kick for the receive ring, and for the transmit ring.
    pub fn flush(&mut self) -> (Notify, Notify) {
        (self.rx.flush(), self.tx.flush())
    }

    /// Asks for a call when a frame comes. False if one came meanwhile.
    #[must_use = "false means that there are frames to receive before sleeping"]
    pub fn arm_rx(&mut self) -> bool {
        self.rx.arm()
    }

    /// Asks for a call when a sent frame's buffer comes back. False if one came meanwhile.
    #[must_use = "false means that there are buffers to reap before sleeping"]
    pub fn arm_tx(&mut self) -> bool {
        self.tx.arm()
    }

    /// Tells the device that no call is needed, on both rings.
    pub fn disarm(&mut self) {
        self.rx.disarm();
        self.tx.disarm();
    }

    /// Adds what the device wrote to `frame` and posts the buffer again. False if the frame became too long.
    fn gather(&mut self, filled: Filled) -> Result<bool, DriverError> {
        let at = self.frame.len();
        let end = at.saturating_add(filled.len() as usize);
        let fits = end <= MAX_FRAME.saturating_add(self.header_len);
        if fits {
            self.frame.resize(end, 0);
            let to = self.frame.get_mut(at..).unwrap_or_default();
            read(&self.mem, filled.addr(), to)?;
        }
        // It was polled from this pool.
        let _ = self.rx.repost(filled);
        Ok(fits)
    }
}

/// How long receive buffers are (virtio 1.3, 5.1.6.3.1): as frames need with merging, else as long as the longest frame
/// that the acknowledged offloads allow.
fn rx_sizes(acked: Features, count: u16) -> BufferSizes {
    let large = Features::GUEST_TSO4 | Features::GUEST_TSO6 | Features::GUEST_UFO;
    if acked.contains(Features::MRG_RXBUF) {
        BufferSizes::mergeable(acked.header_len(), count)
    } else if acked.intersects(large) {
        BufferSizes::fixed(MAX_FRAME.saturating_add(acked.header_len()))
    } else {
        BufferSizes::fixed(SINGLE_LEN)
    }
}

/// Address of buffer number `index`.
fn offset(base: GuestAddr, index: u16, len: usize) -> Result<GuestAddr, Fault> {
    let bytes = (len as u64).saturating_mul(index.into());
    base.checked_add(bytes).ok_or(Fault::forbidden(base, bytes, Access::Write))
}

/// Copies from guest memory, over as many regions as it takes.
fn read<M: GuestMemory>(mem: &M, addr: GuestAddr, mut to: &mut [u8]) -> Result<(), Fault> {
    let mut at = addr;
    while !to.is_empty() {
        let n = mem.translate(at, to.len(), Access::Read)?.read(to);
        at = GuestAddr(at.0.saturating_add(n as u64));
        to = to.get_mut(n..).unwrap_or_default();
    }
    Ok(())
}

/// Copies to guest memory, over as many regions as it takes.
fn write<M: GuestMemory>(mem: &M, addr: GuestAddr, mut from: &[u8]) -> Result<(), Fault> {
    let mut at = addr;
    while !from.is_empty() {
        let n = mem.translate(at, from.len(), Access::Write)?.write(from);
        at = GuestAddr(at.0.saturating_add(n as u64));
        from = from.get(n..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
