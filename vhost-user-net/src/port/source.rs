//! `--net source:SIZE`.

use std::io;

use net_filter::MacAddr;
use virtio_net_core::NetHeader;
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;

use super::slots::{COUNT, SLOT, Slots};
use crate::cli::FrameSize;

/// Frames that are made at a time; then others have their turn.
const BURST: usize = COUNT / 2;
/// Frames of the mix, until it begins anew: too long an order for a processor to learn by heart.
const MIXED: usize = 1023;
/// Lengths in the mix, in equal shares.
const MIX: [u16; 3] = [64, 576, 1500];
/// Ethernet, IPv4 and UDP.
const HEADERS: usize = 42;
/// Where the frames come from, as their source address says.
const SENDER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// Always has frames for the guest, as `txonly` of DPDK's test program has: UDP from a benchmark network
/// (RFC 2544), in buffers that are there already, with headers that are written anew for each frame. What the guest
/// sends is thrown away.
#[derive(Debug)]
pub(super) struct SourceQueue {
    buffers: Slots,
    frames: Box<[Template]>,
    /// The template of the next frame.
    next: usize,
    /// Lengths of the frames of this burst.
    lens: [usize; BURST],
    /// Frames made and frames placed, ever: of this burst, those between wait.
    made: usize,
    placed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Template {
    len: usize,
    headers: [u8; HEADERS],
}

impl SourceQueue {
    /// Frames of this size to `to`.
    pub(super) fn new(size: FrameSize, to: MacAddr) -> Self {
        let frames = match size {
            FrameSize::Bytes(len) => vec![Template::new(len, to)],
            FrameSize::Mix => mix().map(|len| Template::new(len, to)).collect(),
        };
        Self { buffers: Slots::new(), frames: frames.into(), next: 0, lens: [0; BURST], made: 0, placed: 0 }
    }

    /// Writes the headers of a burst. All of them, before the first frame is copied to the guest: a copy that follows at
    /// once waits until the headers have got through to the cache, and until everything has that was written before.
    #[inline]
    fn make(&mut self) {
        for len in &mut self.lens {
            let Some(template) = self.frames.get(self.next) else { return };
            if let Some(front) = self.buffers.get(self.made).first_chunk_mut() {
                *front = template.headers;
            }
            *len = template.len;
            self.made = self.made.wrapping_add(1);
            let next = self.next.wrapping_add(1);
            self.next = if next < self.frames.len() { next } else { 0 };
        }
    }
}

/// The lengths of the mix in an order without a pattern, the same each time.
fn mix() -> impl Iterator<Item = u16> {
    let mut lengths: Vec<u16> = MIX.into_iter().cycle().take(MIXED).collect();
    let mut random = 0x9e37_79b9_u32;
    for i in (1..lengths.len()).rev() {
        // Marsaglia's xorshift.
        random ^= random.wrapping_shl(13);
        random ^= random.wrapping_shr(17);
        random ^= random.wrapping_shl(5);
        let other = usize::try_from(random).unwrap_or(0).checked_rem(i.saturating_add(1)).unwrap_or(0);
        lengths.swap(i, other);
    }
    lengths.into_iter()
}

impl Template {
    fn new(len: u16, to: MacAddr) -> Self {
        let packet = len.saturating_sub(14).to_be_bytes();
        let datagram = len.saturating_sub(34).to_be_bytes();
        let mut ip = [0x45, 0, packet[0], packet[1], 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2];
        let check = checksum(&ip);
        if let Some(field) = ip.get_mut(10..12) {
            field.copy_from_slice(&check);
        }
        // Port 9 throws away; no checksum (RFC 768).
        let udp = [0, 9, 0, 9, datagram[0], datagram[1], 0, 0];
        let all = [&to.0[..], &SENDER.0, &[8, 0], &ip, &udp].concat();
        let mut headers = [0; HEADERS];
        for (to, from) in headers.iter_mut().zip(all) {
            *to = from;
        }
        Self { len: usize::from(len).min(SLOT), headers }
    }
}

/// RFC 1071, of whole words.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let (words, _) = bytes.as_chunks();
    let sum = words.iter().fold(0_u32, |sum, word| sum.wrapping_add(u16::from_be_bytes(*word).into()));
    let folded = (sum & 0xffff).wrapping_add(sum >> 16);
    let [.., high, low] = (!(folded & 0xffff).wrapping_add(folded >> 16)).to_be_bytes();
    [high, low]
}

impl FrameSink for SourceQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        Taken { count: burst.len(), failed: 0 }
    }
}

impl FrameSource for SourceQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        if self.placed == self.made {
            self.make();
        }
        while self.placed != self.made {
            let len = self.lens.get(self.placed & (BURST - 1)).copied().unwrap_or(0);
            let frame = self.buffers.get(self.placed).get(..len).unwrap_or_default();
            if room.put(&NetHeader::NONE, frame) == Placed::NoRoom {
                break;
            }
            self.placed = self.placed.wrapping_add(1);
        }
        Ok(Supply::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_has_equal_shares_and_no_pattern() {
        let lengths: Vec<u16> = mix().collect();
        for size in MIX {
            assert_eq!(lengths.iter().filter(|len| **len == size).count(), MIXED / MIX.len());
        }
        // A frame of each size follows each size, about as often as any other.
        for (a, b) in MIX.into_iter().flat_map(|a| MIX.map(|b| (a, b))) {
            let pairs = lengths.windows(2).filter(|w| *w == [a, b]).count();
            assert!((80..150).contains(&pairs), "{pairs} times {b} after {a}");
        }
    }

    #[test]
    fn headers_are_true_of_the_frame() {
        let headers = Template::new(1500, MacAddr([2, 1, 2, 3, 4, 5])).headers;
        assert_eq!(headers[..14], [2, 1, 2, 3, 4, 5, 2, 0, 0, 0, 0, 0xfe, 8, 0]);
        assert_eq!(checksum(&headers[14..34]), [0, 0], "with its checksum in it, a header sums up to nothing");
        assert_eq!((&headers[16..18], &headers[38..40]), (&1486_u16.to_be_bytes()[..], &1466_u16.to_be_bytes()[..]));
    }
}
