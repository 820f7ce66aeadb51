//! Long frames that stay where the device wrote them.

use alloc::vec::Vec;

use virtio_ring::{GuestMemory, KeepRing};

use super::pool::{Filled, Held};
use super::{DriverError, NetDriver, read};
use crate::header::{BACKEND_HEADER_LEN, NetHeader};

/// A frame that the device delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// A short one, copied out; its buffer is posted again.
    Copied(&'a [u8]),
    /// A long one of so many bytes, in the buffers that the caller got.
    Held(usize),
}

impl<R: KeepRing, M: GuestMemory> NetDriver<R, M> {
    /// The next frame that the device delivered, with its header. If it is in one buffer and has at most `copy` bytes it
    /// is copied; else its buffers are added to `held`, to be [given back](Self::give_back) when they have been read.
    ///
    /// ```
    /// use virtio_net_core::Features;
    /// use virtio_net_core::driver::{BufferPlan, NetDriver, Received};
    /// use virtio_ring::{AnyDriver, Format, GuestAddr, HeapMemory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mem = HeapMemory::zeroed(GuestAddr(0), 1 << 20)?;
    /// let (rx, end) = Format::Packed.layout(GuestAddr(0), 64);
    /// let (tx, base) = Format::Packed.layout(end, 64);
    /// let ring = |queue| AnyDriver::new(&mem, Format::Packed, queue);
    /// let plan = BufferPlan { base, rx: 64, tx: 64, tx_frame: 1514 };
    /// let acked = Features::VERSION_1 | Features::MRG_RXBUF | Features::RING_PACKED;
    /// let mut driver = NetDriver::new(mem.clone(), ring(&rx)?, ring(&tx)?, &plan, acked)?;
    /// // ... the device is started, and frames come ...
    /// let mut held = Vec::with_capacity(64);
    /// while let Some((_header, frame)) = driver.receive_held(128, &mut held)? {
    ///     match frame {
    ///         Received::Copied(bytes) => drop(bytes.first()),
    ///         Received::Held(len) => assert_eq!(len, held.iter().map(|part| part.len() as usize).sum()),
    ///     }
    ///     for part in held.drain(..) {
    ///         assert!(driver.give_back(part).is_ok(), "it is this driver's");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn receive_held(
        &mut self,
        copy: usize,
        held: &mut Vec<Held>,
    ) -> Result<Option<(NetHeader, Received<'_>)>, DriverError> {
        while let Some(first) = self.rx.poll()? {
            let mut header = [0; BACKEND_HEADER_LEN];
            let len = first.len() as usize;
            let front = header.get_mut(..len.min(self.header_len).min(BACKEND_HEADER_LEN)).unwrap_or_default();
            read(&self.mem, first.addr(), front)?;
            let buffers = self.buffers(&header);
            if buffers == 1 && len >= self.header_len && len.saturating_sub(self.header_len) <= copy {
                self.frame.clear();
                if self.gather(first)? {
                    self.stats.received = self.stats.received.wrapping_add(1);
                    let frame = self.frame.get(self.header_len..).unwrap_or_default();
                    self.rx.learn(frame.len());
                    return Ok(Some((NetHeader::from_bytes(&header), Received::Copied(frame))));
                }
            } else if let Some(len) = self.hold(first, buffers, held)? {
                self.stats.received = self.stats.received.wrapping_add(1);
                self.rx.learn(len);
                return Ok(Some((NetHeader::from_bytes(&header), Received::Held(len))));
            }
            self.stats.malformed = self.stats.malformed.wrapping_add(1);
        }
        Ok(None)
    }

    /// Takes a buffer back that [`receive_held`](Self::receive_held) gave.
    ///
    /// # Errors
    /// The buffer, if it is another driver's.
    pub fn give_back(&mut self, held: Held) -> Result<(), Held> {
        self.rx.give_back(held)
    }

    /// Holds the buffers of a frame; its length without header. `None` if they contradict themselves: none is held then.
    fn hold(&mut self, first: Filled, buffers: u16, held: &mut Vec<Held>) -> Result<Option<usize>, DriverError> {
        let before = held.len();
        let mut len = first.len() as usize;
        let mut good = len >= self.header_len && buffers > 0;
        // It was polled from this pool, and so were those behind it.
        held.extend(self.rx.hold(first).ok().map(|h| h.skip(self.header_len as u32))); // at most 20
        for _ in 1..buffers {
            // All buffers of a frame become visible together (virtio 1.3, 5.1.6.4).
            let Some(more) = self.rx.poll()? else {
                good = false;
                break;
            };
            len = len.saturating_add(more.len() as usize);
            held.extend(self.rx.hold(more).ok());
        }
        if good {
            return Ok(Some(len.saturating_sub(self.header_len)));
        }
        for part in held.drain(before.min(held.len())..) {
            let _ = self.rx.give_back(part);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
