//! Both rings of a front end, and frames in bursts.

use super::Layout;
use super::half::{Buffer, Half};
use super::link::{Link, RX, TX};
use super::memory::{BASE, Mapping};
use crate::Error;
use std::path::PathBuf;
use std::time::Duration;
use virtio_ring::{Access, GuestAddr, QueueConfig};

/// Length of a frame's header with `VIRTIO_F_VERSION_1`, without hash report.
const HEADER: usize = 12;
/// The two bytes of it that say how many buffers a frame takes.
const NUM_BUFFERS: usize = 10;
/// The longest frame that a device may give: Ethernet header and the longest IP packet.
const LONGEST: usize = 14 + 65_535;
const PAGE: u64 = 4096;

/// How a [`Front`] is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontSpec {
    /// Where the back end listens.
    pub socket: PathBuf,
    /// What is negotiated; a back end that does not offer it is an error.
    pub layout: Layout,
    /// Entries of each ring, a power of two.
    pub ring: u16,
    /// Bytes of the longest frame to send.
    pub frame: usize,
    /// Bytes of the longest frame that fits into one receive buffer; longer ones come only with mergeable buffers.
    pub room: usize,
}

impl FrontSpec {
    /// Rings of 256 entries, buffers for frames of 1514 bytes both ways.
    pub fn new(socket: impl Into<PathBuf>, layout: Layout) -> Self {
        Self { socket: socket.into(), layout, ring: 256, frame: 1514, room: 1514 }
    }
}

/// A front end whose rings run. Dropped, it hangs up without a word.
pub struct Front {
    socket: PathBuf,
    link: Link,
    rx: Half,
    tx: Half,
    mergeable: bool,
    longest: usize,
    /// What came back last: buffers, and bytes in each.
    filled: Vec<(Buffer, u32)>,
    /// The frame under way with its header, in one piece.
    frame: Vec<u8>,
    /// Bytes of it that are there, and buffers that are still to come.
    under_way: (usize, u16),
    kicks: u64,
}

impl Front {
    /// Connects, negotiates, starts both rings and fills the one for receiving. Calls are not asked for.
    ///
    /// # Errors
    /// [`Error::Front`]: what the back end lacks or refused.
    pub fn plug(spec: &FrontSpec) -> Result<Self, Error> {
        Self::start(spec).map_err(|reason| Error::Front { socket: spec.socket.clone(), reason })
    }

    fn start(spec: &FrontSpec) -> Result<Self, String> {
        let wanted = spec.layout.features();
        let mut link = Link::connect(&spec.socket, wanted, false)?;
        if link.acked != wanted {
            return Err(format!("it does not offer {:?}", wanted.difference(link.acked)));
        }
        let format = spec.layout.format();
        let [rx_stride, tx_stride] = [spec.room, spec.frame].map(stride);
        let (rx, end) = format.layout(BASE, spec.ring);
        let (tx, end) = format.layout(end, spec.ring);
        let Layout { event_idx, in_order, .. } = spec.layout;
        let [rx, tx] = [rx, tx].map(|queue| QueueConfig { event_idx, in_order, ..queue });
        let rx_base = end.0.next_multiple_of(PAGE);
        let buffers = |stride: usize| (stride as u64).saturating_mul(spec.ring.into());
        let tx_base = rx_base.saturating_add(buffers(rx_stride));
        let len = tx_base.saturating_add(buffers(tx_stride)).saturating_sub(BASE.0).next_multiple_of(PAGE);
        let len = usize::try_from(len).map_err(|e| e.to_string())?;
        let mapping = Mapping::new(len).map_err(|e| format!("guest memory: {e}"))?;
        let memory = Mapping::memory(&mapping).map_err(|e| e.to_string())?;
        let half = |queue, base, stride: usize| {
            Half::new(&memory, format, queue, GuestAddr(base), stride as u64).map_err(|e| format!("ring: {e}"))
        };
        let (mut rx_half, mut tx_half) = (half(&rx, rx_base, rx_stride)?, half(&tx, tx_base, tx_stride)?);
        while let Some(buffer) = rx_half.take() {
            rx_half.gather(buffer, None, true);
        }
        rx_half.add();
        rx_half.disarm();
        tx_half.disarm();
        link.start(&mapping, [&rx, &tx], format.start())?;
        let mut front = Self {
            socket: spec.socket.clone(),
            link,
            rx: rx_half,
            tx: tx_half,
            mergeable: spec.layout.mergeable,
            longest: spec.frame,
            filled: Vec::with_capacity(spec.ring.into()),
            frame: vec![0; LONGEST.saturating_add(HEADER).saturating_add(rx_stride)],
            under_way: (0, 0),
            kicks: 0,
        };
        front.kick_rx()?;
        Ok(front)
    }

    /// Adds as many of these frames as there is room for; returns how many. They are visible to the device after
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`Error::Front`]: the device broke the ring, or a frame is too long.
    pub fn send<'f>(&mut self, frames: impl ExactSizeIterator<Item = &'f [u8]>) -> Result<usize, Error> {
        self.try_send(frames).map_err(|reason| self.failed(reason))
    }

    fn try_send<'f>(&mut self, frames: impl ExactSizeIterator<Item = &'f [u8]>) -> Result<usize, String> {
        // Not earlier than necessary: while the device fills lines of the ring, reading them costs both sides.
        if self.tx.free() < frames.len() {
            self.tx.reap_to_free().map_err(|e| format!("transmit ring: {e}"))?;
        }
        let count = frames.len().min(self.tx.free());
        for frame in frames.take(count) {
            if frame.len() > self.longest {
                return Err(format!("frame of {} bytes, the buffers are for {}", frame.len(), self.longest));
            }
            let Some(buffer) = self.tx.take() else { break };
            let bytes = self.tx.bytes(buffer, 0, Access::Write).map_err(|e| e.to_string())?;
            bytes.write(&[0; HEADER]);
            bytes.skip(HEADER).write(frame);
            self.tx.gather(buffer, Some(frame.len().saturating_add(HEADER)), false);
        }
        self.tx.add();
        Ok(count)
    }

    /// Shows frames of up to `most` buffers that came, and makes the buffers available again: visible to the device after
    /// [`flush`](Self::flush). Returns how many frames.
    ///
    /// # Errors
    /// [`Error::Front`]: the device broke the ring, or a frame contradicts itself.
    pub fn receive(&mut self, most: usize, each: impl FnMut(&[u8])) -> Result<usize, Error> {
        self.try_receive(most, each).map_err(|reason| self.failed(reason))
    }

    fn try_receive(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> Result<usize, String> {
        let filled = &mut self.filled;
        filled.clear();
        self.rx.reap(most, |buffer, len| filled.push((buffer, len))).map_err(|e| format!("receive ring: {e}"))?;
        let mut count: usize = 0;
        for i in 0..self.filled.len() {
            let Some(&(buffer, len)) = self.filled.get(i) else { break };
            let frame = self.gather(buffer, len as usize)?;
            self.rx.gather(buffer, None, true);
            if let Some(end) = frame {
                each(self.frame.get(HEADER..end).unwrap_or_default());
                count = count.saturating_add(1);
            }
        }
        self.rx.add();
        Ok(count)
    }

    /// Adds a buffer to the frame under way. Where that ends if this was its last one.
    fn gather(&mut self, buffer: Buffer, len: usize) -> Result<Option<usize>, String> {
        let (at, missing) = self.under_way;
        let end = at.saturating_add(len);
        let Some(to) = self.frame.get_mut(at..end) else {
            return Err(format!("a frame of more than {LONGEST} bytes"));
        };
        self.rx.bytes(buffer, 0, Access::Read).map_err(|e| e.to_string())?.read(to);
        let missing = match missing {
            0 if len < HEADER => return Err(format!("a first buffer of {len} bytes, expected at least {HEADER}")),
            0 if self.mergeable => match self.frame.get(NUM_BUFFERS..HEADER) {
                Some(&[0, 0]) | None => return Err("a frame of 0 buffers".to_owned()),
                Some(&[low, high]) => u16::from_le_bytes([low, high]).saturating_sub(1),
                Some(_) => 0,
            },
            0 => 0,
            more => more.saturating_sub(1),
        };
        self.under_way = if missing == 0 { (0, 0) } else { (end, missing) };
        Ok((missing == 0).then_some(end))
    }

    /// Makes everything visible to the device, and kicks it where it wants that.
    ///
    /// # Errors
    /// [`Error::Front`]: the kick failed.
    pub fn flush(&mut self) -> Result<(), Error> {
        // A device that drops what it finds no buffer for must have the buffers before the frames.
        self.flush_rx()?;
        self.flush_tx()
    }

    /// As [`flush`](Self::flush), for frames alone.
    ///
    /// # Errors
    /// As there.
    pub fn flush_tx(&mut self) -> Result<(), Error> {
        if self.tx.flush() { self.kick(TX).map_err(|reason| self.failed(reason)) } else { Ok(()) }
    }

    /// As [`flush`](Self::flush), for receive buffers alone.
    ///
    /// # Errors
    /// As there.
    pub fn flush_rx(&mut self) -> Result<(), Error> {
        self.kick_rx().map_err(|reason| self.failed(reason))
    }

    fn kick_rx(&mut self) -> Result<(), String> {
        if self.rx.flush() { self.kick(RX) } else { Ok(()) }
    }

    fn kick(&mut self, ring: usize) -> Result<(), String> {
        self.kicks = self.kicks.wrapping_add(1);
        self.link.kick(ring)
    }

    /// How often the device was kicked.
    pub const fn kicks(&self) -> u64 {
        self.kicks
    }

    /// Sleeps until the device calls because a frame came, at most this long. Returns at once if one is there.
    ///
    /// # Errors
    /// [`Error::Front`]: it cannot be waited for.
    pub fn wait(&mut self, limit: Duration) -> Result<(), Error> {
        if self.rx.arm() {
            self.link.wait(limit).map_err(|reason| self.failed(reason))?;
        }
        self.rx.disarm();
        Ok(())
    }

    /// Stops both rings in good order and hangs up.
    ///
    /// # Errors
    /// [`Error::Front`]: the back end refused.
    pub fn unplug(mut self) -> Result<(), Error> {
        self.link.stop().map(|_| ()).map_err(|reason| self.failed(reason))
    }

    /// What went wrong, with where.
    #[cold]
    pub(super) fn failed(&self, reason: String) -> Error {
        Error::Front { socket: self.socket.clone(), reason }
    }
}

/// From one buffer for frames of this length to the next: lines of its own for each, and no power of two, which would put
/// the first lines of all buffers in the same few sets of a cache.
fn stride(frame: usize) -> usize {
    let lines = frame.saturating_add(HEADER).next_multiple_of(64);
    if lines.is_power_of_two() { lines.saturating_add(64) } else { lines }
}

/// A frame from a station to itself, which a back end that swaps addresses gives back unchanged, and whose filters let it
/// pass both ways. It carries a number, and no two bytes beside each other are alike behind it. At least 22 bytes.
pub fn frame_to_itself(mac: [u8; 6], number: u64, len: usize) -> Vec<u8> {
    let mut frame = [mac, mac].concat();
    // IEEE 802, for experiments.
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_le_bytes());
    let rest = len.saturating_sub(frame.len());
    frame.extend(
        (0..rest).map(|i| (number as u8).wrapping_add((i as u8).wrapping_mul(13)).wrapping_add((i >> 8) as u8)),
    );
    frame
}

/// The number in such a frame.
pub(super) fn number(frame: &[u8]) -> Option<u64> {
    frame.get(14..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_lines_of_their_own_and_are_no_power_of_two() {
        for (frame, expected) in [(64, 192), (1514, 1536), (2036, 2112), (9000, 9024)] {
            assert_eq!(stride(frame), expected, "{frame}");
        }
        for frame in 64..10_000 {
            let got = stride(frame);
            assert!(got >= frame + HEADER && got.is_multiple_of(64) && !got.is_power_of_two(), "{frame}: {got}");
        }
    }

    #[test]
    fn frames_have_their_number_and_their_length() {
        let frame = frame_to_itself([2, 0, 0, 0, 0, 1], 0x1234_5678_9abc, 64);
        assert_eq!((frame.len(), number(&frame)), (64, Some(0x1234_5678_9abc)));
        assert_eq!(frame[..6], frame[6..12]);
        assert_ne!(frame_to_itself([2, 0, 0, 0, 0, 1], 1, 64)[22..], frame[22..]);
        assert_eq!(number(&frame[..21]), None);
    }
}
