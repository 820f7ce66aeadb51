//! A first look at the chains of a burst: which of them are frames that may leave.

use virtio_ring::{Chain, GuestSlice, View};

use super::{TxFilter, TxFormat};
use crate::backend::{Front, HEAD_LEN, MAX_FRAME, Mark, TxBurst};
use crate::header::{BACKEND_HEADER_LEN, GSO_NONE, NEEDS_CSUM, NetHeader};

/// Shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Longest header: with a hash.
const MAX_HEADER: usize = 20;
/// Of a header's first eight bytes as a little-endian number, what makes it more than [`NetHeader::NONE`]: `NEEDS_CSUM`, and
/// any `gso_type`.
const SAYS_SOMETHING: u64 = 0xff00 | NEEDS_CSUM as u64;

/// What was found.
pub(super) struct Looked {
    /// Frames that may leave.
    pub(super) count: usize,
    /// Some of them ask something of the host end.
    pub(super) offloads: bool,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Copies the heads of all chains, checks and marks them.
#[inline]
pub(super) fn look<F: TxFilter + ?Sized>(
    view: &View<'_>,
    fronts: &mut [Front],
    format: &TxFormat,
    filter: &mut F,
) -> Looked {
    let chains = view.chains();
    let (mut rejected, mut offloads, mut bytes) = (0_usize, false, 0_u64);
    let mut places = fronts.iter_mut();
    for chain in chains {
        let Some(front) = places.next() else { break };
        let word = match plain(chain, &mut front.head, format) {
            Ok((head, len)) if filter.permits(head) => {
                front.mark = Mark::Plain;
                bytes = bytes.wrapping_add(len as u64);
                continue;
            }
            Ok(_) => Ok(()),
            Err(word) => Err(word),
        };
        match unusual(view, chain, front, (format, filter), word) {
            Some(len) => {
                offloads |= front.mark == Mark::Offload;
                bytes = bytes.wrapping_add(len as u64);
            }
            None => rejected = rejected.wrapping_add(1), // at most a burst
        }
    }
    Looked { count: chains.len().wrapping_sub(rejected), offloads, bytes }
}

/// What is not a plain frame, or is one that the filter does not let out: marks it, and returns its length if it may leave.
#[inline(never)]
fn unusual<F: TxFilter + ?Sized>(
    view: &View<'_>,
    chain: &Chain,
    front: &mut Front,
    (format, filter): (&TxFormat, &mut F),
    found: Result<(), Option<u64>>,
) -> Option<usize> {
    let found = match found {
        Ok(()) => Err(Mark::Filtered),
        Err(word) => other(view, chain, front, format, word),
    };
    match found {
        Ok(len) if passes(filter, front.head.get(..len).unwrap_or(&front.head), &front.header) => return Some(len),
        Ok(_) => front.mark = Mark::Filtered,
        Err(mark) => front.mark = mark,
    }
    None
}

/// True if the frame may leave with this header.
fn passes<F: TxFilter + ?Sized>(filter: &mut F, head: &[u8], header: &NetHeader) -> bool {
    // The headers of what is to be segmented were looked at with that.
    let completes = header.flags & NEEDS_CSUM != 0 && header.gso_type == GSO_NONE;
    filter.permits(head) && (!completes || filter.permits_checksum(head, header.csum_start, header.csum_offset))
}

/// Bytes of the first frames of a burst.
#[cold]
pub(super) fn bytes_of(burst: &TxBurst<'_>, frames: usize) -> u64 {
    burst.iter().take(frames).fold(0, |n, frame| n.wrapping_add(frame.len() as u64))
}

/// A frame in one piece whose header says nothing, as most are: copies its head, and returns that and the frame's length. Of
/// any other the first eight bytes, if they were read.
#[inline]
fn plain<'h>(chain: &Chain, head: &'h mut [u8; HEAD_LEN], format: &TxFormat) -> Result<(&'h [u8], usize), Option<u64>> {
    let seg = chain.usual().ok_or(None)?;
    let word = seg.load64().ok_or(None)?;
    // Nothing is left of what is too short for a header, and that is too short for a frame.
    let frame = seg.skip(format.header_len);
    if word & SAYS_SOMETHING != 0 || !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
        return Err(Some(word));
    }
    Ok((frame.read_front(head), frame.len()))
}

/// Everything else: marks it if it is a frame, and returns its length. `word` is what was read of it already: no byte of a
/// header is read twice.
fn other(
    view: &View<'_>,
    chain: &Chain,
    front: &mut Front,
    format: &TxFormat,
    word: Option<u64>,
) -> Result<usize, Mark> {
    if chain.is_faulty() {
        return Err(Mark::BadChain);
    }
    let len = (chain.readable_len() as usize).wrapping_sub(format.header_len);
    if !(MIN_FRAME..=MAX_FRAME).contains(&len) {
        return Err(Mark::BadFrame);
    }
    let mut copy = [0; MAX_HEADER + HEAD_LEN];
    let n = len.min(HEAD_LEN);
    let (known, unknown) = copy.split_at_mut(if word.is_some() { size_of::<u64>() } else { 0 });
    if let Some(word) = word {
        known.copy_from_slice(&word.to_le_bytes());
    }
    let most = format.header_len.saturating_add(n).saturating_sub(known.len());
    gather(view.readable(chain), known.len(), unknown.get_mut(..most).unwrap_or_default());
    // Behind a header of ten bytes the last two of these are the frame's: they are not looked at.
    let header = copy.first_chunk::<BACKEND_HEADER_LEN>().map_or(NetHeader::NONE, NetHeader::from_bytes);
    let head = copy.get(format.header_len..).and_then(|f| f.get(..n)).unwrap_or_default();
    front.head.get_mut(..n).unwrap_or_default().copy_from_slice(head);
    front.header = format.offloads.check(header, head, len).map_err(|_| Mark::BadFrame)?;
    front.mark = if front.header == NetHeader::NONE { Mark::Plain } else { Mark::Offload };
    Ok(len)
}

/// Copies the bytes of the segments from `skip` on until `to` is full.
fn gather(segs: &[GuestSlice<'_>], mut skip: usize, mut to: &mut [u8]) {
    for seg in segs {
        if to.is_empty() {
            break;
        }
        let n = seg.skip(skip).read(to);
        skip = skip.saturating_sub(seg.len());
        to = to.get_mut(n..).unwrap_or_default();
    }
}
