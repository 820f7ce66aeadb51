//! V201 to V2xx: what a guest sends.

use virtio_net_core::backend::{FrameSink, MAX_FRAME, Taken, TxBurst};
use virtio_net_core::rx::RxPump;
use virtio_net_core::tx::{TxFilter, TxPump, TxStop};
use virtio_net_core::{Features, GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, NetHeader, rx_format, tx_format};
use virtio_ring::{Notify, QueueState, RingError, SplitDevice};

use crate::guest::{ADJACENT, BUFFER, HIGH, INDIRECT, LOW, Memory, NEXT, TABLE, WRITE, descriptor, poke};
use crate::rig::{Inbox, Open, Rig, Wire, frame, with_header};

struct Sender {
    rig: Rig,
    pump: TxPump<Memory>,
    wire: Wire,
}

impl Sender {
    fn new(size: u16, acked: Features) -> Self {
        let rig = Rig::new(size);
        let pump = TxPump::new(rig.mem.clone(), tx_format(acked));
        Self { rig, pump, wire: Wire::default() }
    }

    /// One pump; what is used afterwards, and how many frames went out.
    fn pump(&mut self) -> (Vec<(u32, u32)>, usize) {
        let before = self.wire.0.len();
        let Self { rig, pump, wire } = self;
        let outcome = rig.watched(|rig| pump.pump(&mut rig.ring, wire, &mut Open, 1024)).unwrap();
        assert_eq!(outcome.stop, TxStop::Empty);
        (self.rig.reap(), self.wire.0.len() - before)
    }

    /// A good frame in two buffers leaves whole.
    fn good(&mut self, header_len: usize) {
        let bytes = [vec![0; header_len], frame(200, 9)].concat();
        let at = BUFFER + 0x4000;
        poke(&self.rig.mem, at, &bytes);
        let head = self.rig.offer(&[(at, 50, 0), (at + 50, bytes.len() as u32 - 50, 0)]);
        assert_eq!(self.pump(), (vec![(head.into(), 0)], 1));
        assert_eq!(self.wire.0.last().unwrap(), &(NetHeader::NONE, frame(200, 9)));
    }

    /// The chain `head` is refused, and a good one goes through behind it.
    fn refused(&mut self, head: u16, header_len: usize) {
        assert_eq!(self.pump(), (vec![(head.into(), 0)], 0));
        self.good(header_len);
    }
}

#[test]
fn v201_every_length_below_a_header_and_a_frame() {
    for header_len in [10, 12, 20] {
        for total in 1..header_len as u32 + 14 {
            for buffers in [vec![(BUFFER, total, 0)], vec![(BUFFER, 1, 0), (BUFFER + 1, total - 1, 0)]] {
                let mut s = Sender::new(8, with_header(header_len));
                let head = s.rig.offer(&buffers);
                s.refused(head, header_len);
                assert_eq!((s.pump.stats().bad_frames, s.pump.stats().bad_chains), (1, 0), "{total} bytes");
            }
        }
        let mut s = Sender::new(8, with_header(header_len));
        s.rig.offer(&[(BUFFER, header_len as u32 + 14, 0)]);
        assert_eq!(s.pump().1, 1, "the shortest frame");
    }
}

#[test]
fn v202_frames_that_are_too_long() {
    for (len, good) in [(MAX_FRAME, true), (MAX_FRAME + 1, false), (65_590, false), (0x7_0000, false)] {
        let mut s = Sender::new(8, with_header(12));
        let head = s.rig.offer(&[(BUFFER, len as u32 + 12, 0)]);
        if good {
            assert_eq!(s.pump(), (vec![(head.into(), 0)], 1), "{len}");
            assert_eq!(s.wire.0[0].1.len(), len);
        } else {
            s.refused(head, 12);
        }
    }
    // A mebibyte, the same buffer again and again.
    let mut s = Sender::new(64, with_header(12));
    let head = s.rig.offer(&[(BUFFER, 0x1_0000, 0); 16]);
    s.refused(head, 12);
}

#[test]
fn v203_header_and_frame_split_at_every_byte() {
    for header_len in [10, 12, 20] {
        let bytes = [vec![0; header_len], frame(100, 3)].concat();
        for split in 1..bytes.len() {
            let mut s = Sender::new(8, with_header(header_len));
            // Apart from each other in memory.
            poke(&s.rig.mem, BUFFER, &bytes[..split]);
            poke(&s.rig.mem, BUFFER + 0x1000, &bytes[split..]);
            s.rig.offer(&[(BUFFER, split as u32, 0), (BUFFER + 0x1000, (bytes.len() - split) as u32, 0)]);
            assert_eq!(s.pump().1, 1);
            assert_eq!(s.wire.0, [(NetHeader::NONE, frame(100, 3))], "split at {split}");
        }
    }
}

#[test]
fn v204_header_in_twelve_buffers_and_frame_byte_by_byte() {
    let mut s = Sender::new(256, with_header(12));
    let bytes = [vec![0; 12], frame(150, 5)].concat();
    poke(&s.rig.mem, BUFFER, &bytes);
    let buffers: Vec<_> = (0..bytes.len() as u64).map(|i| (BUFFER + i, 1, 0)).collect();
    s.rig.offer(&buffers);
    assert_eq!(s.pump().1, 1);
    assert_eq!(s.wire.0, [(NetHeader::NONE, frame(150, 5))]);
}

#[test]
fn v205_empty_buffers_between() {
    let mut s = Sender::new(16, with_header(12));
    let bytes = [vec![0; 12], frame(60, 5)].concat();
    poke(&s.rig.mem, BUFFER, &bytes);
    let nothing = (HIGH.0 - 4096, 0, 0);
    s.rig.offer(&[nothing, (BUFFER, 5, 0), nothing, nothing, (BUFFER + 5, 67, 0), nothing]);
    assert_eq!(s.pump().1, 1);
    assert_eq!(s.wire.0, [(NetHeader::NONE, frame(60, 5))]);
}

#[test]
fn v206_writable_parts_are_not_sent_and_not_written() {
    let mut s = Sender::new(8, with_header(12));
    let head = s.rig.offer(&[(BUFFER, 200, WRITE)]);
    s.rig.posted.clear();
    s.refused(head, 12);
    let mut s = Sender::new(8, with_header(12));
    poke(&s.rig.mem, BUFFER, &[vec![0; 12], frame(60, 5)].concat());
    let head = s.rig.offer(&[(BUFFER, 72, 0), (BUFFER + 0x1000, 200, WRITE)]);
    s.rig.posted.clear();
    assert_eq!(s.pump(), (vec![(head.into(), 0)], 1));
    assert_eq!(s.wire.0, [(NetHeader::NONE, frame(60, 5))]);
}

#[test]
fn v207_bad_chains() {
    type SetUp = fn(&mut Rig) -> u16;
    let rows: [(&str, SetUp); 9] = [
        ("hole", |r| r.offer(&[(BUFFER, 12, 0), (HIGH.0 - 100, 100, 0)])),
        ("header in a hole", |r| r.offer(&[(HIGH.0 - 100, 12, 0), (BUFFER, 100, 0)])),
        ("region end", |r| r.offer(&[(HIGH.0 + HIGH.1 as u64 - 100, 101, 0)])),
        ("2^64", |r| r.offer(&[(u64::MAX - 11, 100, 0)])),
        ("readable behind writable", |r| r.offer(&[(BUFFER, 100, WRITE), (BUFFER, 100, 0)])),
        ("loop", |r| {
            r.raw.desc(&r.mem, 3, (BUFFER, 10, NEXT, 3));
            r.publish(3);
            3
        }),
        ("2^32 bytes", |r| r.offer(&[(BUFFER, 0x8_0000, 0), (BUFFER, u32::MAX, 0)])),
        ("table in a table", |r| {
            poke(&r.mem, TABLE, &descriptor(TABLE, 16, INDIRECT, 0));
            r.offer(&[(TABLE, 16, INDIRECT)])
        }),
        ("1025 segments", |r| segments(r, 1025)),
    ];
    for (name, set_up) in rows {
        let mut s = Sender::new(8, with_header(12));
        let head = set_up(&mut s.rig);
        s.rig.posted.clear();
        s.refused(head, 12);
        assert_eq!((s.pump.stats().bad_chains, s.pump.stats().bad_frames), (1, 0), "{name}");
    }
    let mut s = Sender::new(8, with_header(12));
    segments(&mut s.rig, 1024);
    assert_eq!(s.pump().1, 1, "1024 segments are a frame");
}

/// A chain of one-byte segments in a table.
fn segments(rig: &mut Rig, n: u16) -> u16 {
    let table: Vec<u8> = (1..=n).flat_map(|i| descriptor(BUFFER, 1, if i == n { 0 } else { NEXT }, i)).collect();
    poke(&rig.mem, TABLE, &table);
    rig.offer(&[(TABLE, u32::from(n) * 16, INDIRECT)])
}

#[test]
fn v208_over_two_regions() {
    let mut s = Sender::new(8, with_header(12));
    let bytes = [vec![0; 12], frame(300, 5)].concat();
    for at in [LOW.1 as u64 - 5, LOW.1 as u64 - 12, LOW.1 as u64 - 100, LOW.1 as u64 - 200] {
        assert_eq!(ADJACENT.0, LOW.1 as u64);
        poke(&s.rig.mem, at, &bytes);
        s.rig.offer(&[(at, bytes.len() as u32, 0)]);
        assert_eq!(s.pump().1, 1);
        assert_eq!(s.wire.0.pop().unwrap().1, frame(300, 5));
    }
}

#[test]
fn v209_bad_frames_among_good_ones() {
    // CVE-2024-41090: short frames batched with good ones.
    let mut s = Sender::new(64, with_header(12));
    let bytes = [vec![0; 12], frame(100, 5)].concat();
    poke(&s.rig.mem, BUFFER, &bytes);
    for round in 0..50 {
        let mut heads = Vec::new();
        for i in 0..40_u32 {
            let len = match i % 4 {
                0 | 2 => 112,
                1 => 12 + (i + round) % 14,
                _ => (i + round) % 12 + 1,
            };
            let flags = if i % 8 == 6 { WRITE } else { 0 };
            heads.push((u32::from(s.rig.offer(&[(BUFFER, len, flags)])), 0));
        }
        s.rig.posted.clear();
        let (used, sent) = s.pump();
        assert_eq!(used, heads, "all come back, in order");
        assert_eq!(sent, 15);
        assert!(s.wire.0.drain(..).all(|(_, f)| f == frame(100, 5)));
    }
}

/// Changes the frame as soon as its head was read, as a guest could.
struct Flips<'a> {
    mem: &'a Memory,
    at: u64,
}
impl TxFilter for Flips<'_> {
    fn permits(&mut self, head: &[u8]) -> bool {
        poke(self.mem, self.at, &[0xFF; 12 + 128]);
        head == &frame(400, 7)[..128]
    }
}

#[test]
fn v210_what_was_checked_is_what_leaves() {
    // CVE-2024-11614's fix read the header twice (285e6b8b18).
    let mut s = Sender::new(8, with_header(12));
    poke(&s.rig.mem, BUFFER, &[vec![0; 12], frame(400, 7)].concat());
    s.rig.offer(&[(BUFFER, 412, 0)]);
    let mem = s.rig.mem.clone();
    let mut filter = Flips { mem: &mem, at: BUFFER };
    s.pump.pump(&mut s.rig.ring, &mut s.wire, &mut filter, 1).unwrap();
    assert_eq!(s.wire.0, [(NetHeader::NONE, frame(400, 7))]);
}

#[test]
fn v211_headers_that_are_not_true() {
    let header = NetHeader { csum_start: 34, csum_offset: 6, ..NetHeader::NONE };
    let csum = NetHeader { flags: NEEDS_CSUM, ..header };
    let rows = [
        (
            "CVE-2010-0741: segmentation that was not acknowledged",
            NetHeader { gso_type: GSO_TCPV4, gso_size: 1000, ..csum },
            Features::CSUM,
        ),
        ("checksum that was not acknowledged", csum, Features::empty()),
        ("CVE-2024-11614: checksum behind the frame", NetHeader { csum_start: 0xFFFF, ..csum }, Features::CSUM),
        ("checksum field behind the frame", NetHeader { csum_offset: 0xFFFF, ..csum }, Features::CSUM),
        ("start and offset wrap", NetHeader { csum_start: 0xFFFF, csum_offset: 0xFFFF, ..csum }, Features::CSUM),
        (
            "7023f3e532: segments of no bytes",
            NetHeader { gso_type: GSO_TCPV4, gso_size: 0, ..csum },
            Features::CSUM | Features::HOST_TSO4,
        ),
        (
            "6fde9aa5: UDP segments of a frame that is not IP",
            NetHeader { gso_type: GSO_UDP_L4, gso_size: 100, ..csum },
            Features::CSUM | Features::HOST_USO,
        ),
        ("unknown type", NetHeader { gso_type: 0x7F, gso_size: 100, ..csum }, Features::CSUM | Features::HOST_TSO4),
    ];
    for (name, header, features) in rows {
        let mut s = Sender::new(8, Features::VERSION_1 | features);
        poke(&s.rig.mem, BUFFER, &[header.to_bytes(0).to_vec(), frame(2000, 7)].concat());
        let head = s.rig.offer(&[(BUFFER, 2012, 0)]);
        s.refused(head, 12);
        assert_eq!(s.pump.stats().bad_frames, 1, "{name}");
    }
}

/// Takes as many as it says, and claims what it wants.
struct Claims(Vec<Taken>);
impl FrameSink for Claims {
    fn submit(&mut self, _burst: &TxBurst<'_>) -> Taken {
        self.0.pop().unwrap_or_default()
    }
}

#[test]
fn v212_a_back_end_that_is_busy_or_lies() {
    let mut s = Sender::new(8, with_header(12));
    for _ in 0..4 {
        s.rig.offer(&[(BUFFER, 100, 0)]);
    }
    let claim = |count, failed| Claims(vec![Taken { count, failed }]);
    let busy = s.pump.pump(&mut s.rig.ring, &mut claim(0, 0), &mut Open, 64).unwrap();
    assert_eq!((busy.chains, busy.stop, busy.notify), (0, TxStop::Busy, Notify::Suppressed));
    let one = s.pump.pump(&mut s.rig.ring, &mut claim(1, 0), &mut Open, 64).unwrap();
    assert_eq!((one.chains, one.stop), (1, TxStop::Busy));
    assert_eq!(s.rig.reap(), [(0, 0)]);
    let lies = s.pump.pump(&mut s.rig.ring, &mut claim(usize::MAX, usize::MAX), &mut Open, 64).unwrap();
    assert_eq!((lies.chains, lies.stop), (3, TxStop::Empty));
    assert_eq!(s.rig.reap(), [(1, 0), (2, 0), (3, 0)]);
    s.good(12);
}

/// The guest adds a frame for every one that is taken.
struct Producer<'a>(&'a mut Rig, u64);
impl FrameSink for Producer<'_> {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        for _ in burst.iter() {
            self.0.offer(&[(BUFFER, 100, 0)]);
            self.1 += 1;
            assert!(self.1 < 10_000, "the pump does not come back");
        }
        Taken { count: burst.len(), failed: 0 }
    }
}

#[test]
fn v213_a_guest_that_is_always_ahead_does_not_keep_the_pump() {
    // CVE-2019-3900
    let mut s = Sender::new(256, with_header(12));
    for _ in 0..128 {
        s.rig.offer(&[(BUFFER, 100, 0)]);
    }
    let mut guest = Rig::new(1);
    guest.mem = s.rig.mem.clone();
    guest.raw = s.rig.raw;
    guest.avail = s.rig.avail;
    let outcome = s.pump.pump(&mut s.rig.ring, &mut Producer(&mut guest, 0), &mut Open, 256).unwrap();
    assert_eq!(outcome.stop, TxStop::Budget);
    assert!((256..512).contains(&outcome.chains), "{outcome:?}");
    // Bad frames count against the budget as well.
    let mut s = Sender::new(256, with_header(12));
    for _ in 0..256 {
        s.rig.offer(&[(BUFFER, 1, 0)]);
    }
    let outcome = s.pump.pump(&mut s.rig.ring, &mut s.wire, &mut Open, 64).unwrap();
    assert_eq!((outcome.stop, outcome.chains), (TxStop::Budget, 64));
}

#[test]
fn v214_a_broken_ring_gives_up_what_it_had() {
    let mut s = Sender::new(8, with_header(12));
    for _ in 0..3 {
        s.rig.offer(&[(BUFFER, 100, 0)]);
    }
    s.rig.publish(8);
    let (error, _) = s.pump.pump(&mut s.rig.ring, &mut s.wire, &mut Open, 64).unwrap_err();
    assert_eq!(error, RingError::Head { head: 8, size: 8 });
    assert_eq!(s.wire.0.len(), 3, "what came before is sent");
    assert_eq!(s.rig.reap(), [(0, 0), (1, 0), (2, 0)], "and comes back");
    let outcome = s.pump.pump(&mut s.rig.ring, &mut s.wire, &mut Open, 64).unwrap();
    assert_eq!((outcome.chains, outcome.stop), (0, TxStop::Empty));
    // A reset helps.
    let config = s.rig.raw.0;
    s.pump.chains().rewind(&mut s.rig.ring);
    s.rig.raw.set_avail_idx(&s.rig.mem, 0);
    s.rig.raw.set_used_idx(&s.rig.mem, 0);
    (s.rig.avail, s.rig.used) = (0, 0);
    s.rig.ring = SplitDevice::new(&s.rig.mem, &config, QueueState::default()).unwrap();
    s.good(12);
}

#[test]
fn v215_a_disabled_ring_is_emptied_and_nothing_leaves() {
    let mut s = Sender::new(8, with_header(12));
    let heads = [s.rig.offer(&[(BUFFER, 100, 0)]), s.rig.offer(&[(BUFFER, 3, 0)]), s.rig.offer(&[(HIGH.0 - 1, 1, 0)])];
    let outcome = s.pump.discard(&mut s.rig.ring, 64).unwrap();
    assert_eq!((outcome.chains, outcome.stop), (3, TxStop::Empty));
    assert_eq!(s.rig.reap(), heads.map(|h| (h.into(), 0)));
    s.good(12);
}

#[test]
fn v216_a_header_with_a_hash_in_chains_that_end_inside_of_it() {
    // CVE-2023-6693: a place of 12 bytes, and a header of 20 from a driver that takes hashes and merges.
    let acked = with_header(20) | Features::MRG_RXBUF;
    for total in 1..20 + 14 {
        for cut in 1..total {
            let mut s = Sender::new(8, acked);
            let head = s.rig.offer(&[(BUFFER, cut, 0), (BUFFER + 0x1000, total - cut, 0)]);
            s.refused(head, 20);
            assert_eq!(s.pump.stats().bad_frames, 1, "{total} bytes, cut at {cut}");
        }
    }
    // What a driver puts where the device reports hashes is nobody's, wherever it is cut.
    let header = [&NetHeader::NONE.to_bytes(0xffff)[..], &[0xff; 8]].concat();
    let bytes = [header, frame(100, 3)].concat();
    for cut in 1..bytes.len() {
        let mut s = Sender::new(8, acked);
        poke(&s.rig.mem, BUFFER, &bytes[..cut]);
        poke(&s.rig.mem, BUFFER + 0x1000, &bytes[cut..]);
        s.rig.offer(&[(BUFFER, cut as u32, 0), (BUFFER + 0x1000, (bytes.len() - cut) as u32, 0)]);
        assert_eq!(s.pump().1, 1);
        assert_eq!(s.wire.0, [(NetHeader::NONE, frame(100, 3))], "cut at {cut}");
    }
}

/// Sends every frame back at once, from within the sending.
struct Reflector<'a> {
    rig: &'a mut Rig,
    pump: &'a mut RxPump<Memory>,
    depth: u32,
}
impl FrameSink for Reflector<'_> {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        self.depth += 1;
        assert_eq!(self.depth, 1, "sending is not begun again from within");
        let mut wire = Wire::default();
        let taken = wire.submit(burst);
        let mut inbox = Inbox(wire.0.into());
        self.pump.pump(&mut self.rig.ring, &mut inbox, &mut Open, u64::MAX).unwrap();
        self.depth -= 1;
        taken
    }
}

#[test]
fn v217_a_back_end_that_reflects_at_once() {
    // CVE-2021-3416: a frame of the guest that comes back to it while it is being sent.
    let mut s = Sender::new(64, with_header(12));
    let mut rx = Rig::new(64);
    let mut pump = RxPump::new(rx.mem.clone(), 64, rx_format(Features::VERSION_1));
    poke(&s.rig.mem, BUFFER, &[vec![0; 12], frame(100, 3)].concat());
    let heads: Vec<_> = (0..60).map(|_| (u32::from(s.rig.offer(&[(BUFFER, 112, 0)])), 0)).collect();
    // Room for a part of them: the others are lost on the way, as on any wire.
    let room: Vec<_> = (0..40).map(|i| (u32::from(rx.offer(&[(BUFFER + i * 256, 256, WRITE)])), 112)).collect();
    let mut sink = Reflector { rig: &mut rx, pump: &mut pump, depth: 0 };
    let outcome = s.pump.pump(&mut s.rig.ring, &mut sink, &mut Open, 1024).unwrap();
    assert_eq!((outcome.chains, outcome.stop), (60, TxStop::Empty));
    assert_eq!((s.rig.reap(), rx.reap()), (heads, room));
    assert_eq!(pump.stats().frames, 40);
}

/// Counts frames by their length.
struct Lengths(Vec<usize>);
impl FrameSink for Lengths {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        self.0.extend(burst.iter().map(|frame| frame.len()));
        Taken { count: burst.len(), failed: 0 }
    }
}

#[test]
fn v218_every_length_there_is() {
    // OpenBSD 0759b25, FC 1988, FC 4526, libkrun 577, CH 559faa272
    for header_len in [10, 12, 20] {
        let mut s = Sender::new(64, with_header(header_len));
        let mut lengths = Lengths(Vec::new());
        for total in 0..=70_000_u32 {
            s.rig.offer(&[(BUFFER, total, 0)]);
            if total % 50 == 0 || total == 70_000 {
                s.pump.pump(&mut s.rig.ring, &mut lengths, &mut Open, 64).unwrap();
                assert!(s.rig.reap().iter().all(|(_, len)| *len == 0));
            }
        }
        assert!(lengths.0.iter().copied().eq(14..=MAX_FRAME), "with a header of {header_len} bytes");
        let refused = 70_001 - (14..=MAX_FRAME).count() as u64;
        assert_eq!((s.pump.stats().bad_frames, s.pump.stats().bad_chains), (refused, 0));
        s.good(header_len);
    }
}
