//! Loss, as far as smoltcp 0.14 leaves it to a timer of a second and more.
//!
//! A guest loses segments although nothing on the way does: when the memory of its receive queue is used up it drops
//! what it has, or gets, within the window that it announced. smoltcp sees a loss only in three acknowledgments alike
//! to the window, which a receiver that goes on reading does not send; it repeats one segment then and knows of no
//! other hole (RFC 6582); it turns its timer off when a window that was closed opens again; and its timer runs for a
//! second at least, the double each time. Here losses are found by the rules of RFC 6675 and RFC 6582, and by a timer
//! fit for a wire without length. smoltcp is then told in its own words: by three duplicates of the last
//! acknowledgment it repeats the first segment that is missing.

use std::time::{Duration, Instant};

use crate::bytes::{array, set};
use crate::packet::{Packet, option, seal_ipv4, stretch};

/// A guest that has not acknowledged anything new for this long may have lost the last segments.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// That many times, each time after the double wait. Then smoltcp's own timers go on, also the one that gives up.
const MOST_TRIES: u8 = 8;
/// Duplicates that mean a loss (RFC 5681, 3.2).
const DUPLICATES: u8 = 3;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const HEADER: usize = 20;
const OPTION_SACK: u8 = 5;

/// What a segment says to the one who sends data the other way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    /// What it takes of the sequence space.
    len: u32,
}

impl Segment {
    fn read(frame: &[u8], packet: &Packet) -> Option<Self> {
        let payload = packet.transport(frame).len().checked_sub(packet.tcp_header(frame)?)?;
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, _, flags, w0, w1] = array(frame, packet.l4)?;
        let control = u32::from(flags & SYN != 0).saturating_add(u32::from(flags & FIN != 0));
        Some(Self {
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            flags,
            window: u16::from_be_bytes([w0, w1]),
            len: u32::try_from(payload).ok()?.saturating_add(control),
        })
    }
}

/// True if sequence number `a` is behind `b`.
const fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// True if a selective acknowledgment names something behind `ack`. One below it reports a duplicate (RFC 2883).
fn is_selective(frame: &[u8], packet: &Packet, ack: u32) -> bool {
    let Some(header) = packet.tcp_header(frame) else { return false };
    let options = packet.transport(frame).get(HEADER..header).unwrap_or_default();
    option(options, OPTION_SACK)
        .and_then(|(_, blocks)| array(blocks, 0))
        .is_some_and(|left| after(u32::from_be_bytes(left), ack))
}

/// What is known of one connection's data to the guest.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// First sequence number not acknowledged, and the one behind all that was sent. Unknown before the first segment.
    flight: Option<(u32, u32)>,
    window: u16,
    duplicates: u8,
    /// A recovery goes on until this is acknowledged.
    until: Option<u32>,
    /// When something new was acknowledged, or sent into an empty flight, or tried.
    since: Option<Instant>,
    tries: u8,
    /// The last acknowledgment, bare: a frame of headers only.
    bare: Vec<u8>,
    l4: usize,
}

impl Recovery {
    /// Takes note of a segment to the guest.
    pub(super) fn sent(&mut self, frame: &[u8], packet: &Packet, now: Instant) {
        let Some(segment) = Segment::read(frame, packet).filter(|s| s.flags & RST == 0 && s.len > 0) else { return };
        let end = segment.seq.wrapping_add(segment.len);
        let (una, sent) = self.flight.unwrap_or((segment.seq, segment.seq));
        if after(end, sent) {
            if una == sent {
                self.since = Some(now);
                self.tries = 0;
            }
            self.flight = Some((una, end));
        }
    }

    /// Takes note of a segment from the guest. True if the guest misses what comes first behind its acknowledgment.
    pub(super) fn heard(&mut self, frame: &[u8], packet: &Packet, now: Instant) -> bool {
        let Some((una, sent)) = self.flight else { return false };
        let Some(segment) = Segment::read(frame, packet).filter(|s| s.flags & (ACK | SYN | RST) == ACK) else {
            return false;
        };
        if after(una, segment.ack) || after(segment.ack, sent) {
            return false;
        }
        let before = core::mem::replace(&mut self.window, segment.window);
        self.keep(frame, packet, &segment);
        if after(segment.ack, una) {
            self.flight = Some((segment.ack, sent));
            self.duplicates = 0;
            self.since = Some(now);
            self.tries = 0;
            // RFC 6582, 3.2: what is acknowledged in part has another hole.
            self.until = self.until.filter(|until| after(*until, segment.ack));
            return self.until.is_some() && segment.window > 0;
        }
        if una == sent || segment.window == 0 {
            return false;
        }
        if before == 0 {
            // It has acknowledged what it had when it closed the window: the rest was dropped.
            return self.begin(sent);
        }
        if segment.len == 0 && (segment.window == before || is_selective(frame, packet, segment.ack)) {
            self.duplicates = self.duplicates.saturating_add(1);
        }
        self.duplicates == DUPLICATES && self.until.is_none() && self.begin(sent)
    }

    const fn begin(&mut self, sent: u32) -> bool {
        self.until = Some(sent);
        self.duplicates = 0;
        true
    }

    /// When the timer goes off, if it runs.
    pub(super) fn due(&self) -> Option<Instant> {
        let (una, sent) = self.flight?;
        if una == sent || self.window == 0 || self.bare.is_empty() || self.tries >= MOST_TRIES {
            return None;
        }
        self.since?.checked_add(FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.tries.into())?))
    }

    /// The timer has gone off.
    pub(super) fn overdue(&mut self, now: Instant) {
        self.since = Some(now);
        self.tries = self.tries.saturating_add(1);
        self.until = self.flight.map(|(_, sent)| sent);
    }

    /// Frames from the guest that make smoltcp repeat the first segment that was not acknowledged: the count of
    /// duplicates starts anew when the window changes.
    pub(super) fn duplicates(&mut self, mut frame: impl FnMut(&[u8])) {
        let at = self.l4.saturating_add(14);
        for window in [self.window ^ 1, self.window, self.window, self.window, self.window] {
            set(&mut self.bare, at, &window.to_be_bytes());
            frame(&self.bare);
        }
    }

    /// Keeps the acknowledgment without what it carries.
    fn keep(&mut self, frame: &[u8], packet: &Packet, segment: &Segment) {
        self.l4 = packet.l4;
        self.bare.clear();
        self.bare.extend_from_slice(frame.get(..packet.l4.saturating_add(HEADER)).unwrap_or_default());
        set(&mut self.bare, packet.l4.saturating_add(4), &segment.seq.wrapping_add(segment.len).to_be_bytes());
        set(&mut self.bare, packet.l4.saturating_add(12), &[0x50, ACK]);
        stretch(&mut self.bare);
        if packet.src.is_ipv4() {
            seal_ipv4(&mut self.bare, packet.l4);
        }
    }
}
