//! V301 to V3xx: what a guest posts for receiving.

use virtio_net_core::backend::{FrameSource, HEAD_LEN, MAX_FRAME, Placed, RxRoom, Supply};
use virtio_net_core::rx::{RxFilter, RxPump, RxStop};
use virtio_net_core::{Features, GSO_TCPV4, NEEDS_CSUM, NetHeader, rx_format};
use virtio_ring::{DeviceRing, RingError};

use crate::guest::{
    BUFFER, HIGH, INDIRECT, LOW, Memory, NEXT, TABLE, WRITE, bytes, changed, descriptor, poke, snapshot,
};
use crate::rig::{Inbox, Open, Rig, frame};

struct Receiver {
    rig: Rig,
    pump: RxPump<Memory>,
}

/// Where posted buffer `i` begins.
fn at(i: u64) -> u64 {
    BUFFER + i * 0x800
}

impl Receiver {
    fn new(size: u16, mergeable: bool) -> Self {
        let rig = Rig::new(size);
        let acked = if mergeable { Features::VERSION_1 | Features::MRG_RXBUF } else { Features::VERSION_1 };
        let pump = RxPump::new(rig.mem.clone(), size, rx_format(acked));
        Self { rig, pump }
    }

    /// Posts a buffer of `len` bytes.
    fn post(&mut self, i: u64, len: u32) -> u32 {
        self.rig.offer(&[(at(i), len, WRITE)]).into()
    }

    /// One pump with nothing written where it may not be; what is used afterwards.
    fn pump(&mut self, inbox: &mut Inbox) -> (Vec<(u32, u32)>, RxStop) {
        let Self { rig, pump } = self;
        let outcome = rig.watched(|rig| pump.pump(&mut rig.ring, inbox, &mut Open, 1024)).unwrap();
        (self.rig.reap(), outcome.stop)
    }

    /// A frame of 100 bytes into a new buffer.
    fn good(&mut self) {
        let head = self.post(90, 200);
        assert_eq!(self.pump(&mut Inbox::of([frame(100, 1)])), (vec![(head, 112)], RxStop::Dry));
        self.holds(at(90), 1, &frame(100, 1));
    }

    /// Header with this many buffers, then these bytes.
    fn holds(&self, at: u64, buffers: u16, frame: &[u8]) {
        let found = bytes(&self.rig.mem, at, 12 + frame.len());
        assert_eq!(found[..12], NetHeader::NONE.to_bytes(buffers));
        assert!(&found[12..] == frame);
    }
}

#[test]
fn v301_jumbo_and_one_small_buffer_without_merging() {
    // CVE-2014-0077, CVE-2015-7295
    let mut r = Receiver::new(8, false);
    let head = r.post(0, 200);
    let mut inbox = Inbox::of([frame(MAX_FRAME, 1), frame(189, 2), frame(188, 3)]);
    assert_eq!(r.pump(&mut inbox), (vec![(head, 200)], RxStop::Dry));
    r.holds(at(0), 1, &frame(188, 3));
    assert_eq!((r.pump.stats().too_long, r.pump.stats().frames), (2, 1));
    r.good();
}

#[test]
fn v302_jumbo_and_one_small_buffer_with_merging_waits_for_more() {
    // CVE-2015-7295, CVE-2020-16843: neither lost, nor looked at forever, and it goes on by itself.
    let mut r = Receiver::new(8, true);
    let first = r.post(0, 1000);
    let mut inbox = Inbox::of([frame(2500, 1), frame(60, 2)]);
    assert_eq!(r.pump(&mut inbox), (vec![], RxStop::NoBuffers));
    let heads = [first, r.post(1, 1000), r.post(2, 1000), r.post(3, 1000)];
    let (used, _) = r.pump(&mut inbox);
    assert_eq!(used, [(heads[0], 1000), (heads[1], 1000), (heads[2], 512), (heads[3], 72)]);
    let whole =
        [bytes(&r.rig.mem, at(0), 1000), bytes(&r.rig.mem, at(1), 1000), bytes(&r.rig.mem, at(2), 512)].concat();
    assert_eq!(whole[..12], NetHeader::NONE.to_bytes(3));
    assert!(whole[12..] == frame(2500, 1));
    r.holds(at(3), 1, &frame(60, 2));
    r.good();
}

#[test]
fn v303_jumbo_and_a_full_ring_of_small_buffers_is_dropped() {
    let mut r = Receiver::new(8, true);
    let heads: Vec<u32> = (0..8).map(|i| r.post(i, 100)).collect();
    // 800 bytes with a header of 12: one byte too long, and one that fits exactly.
    let mut inbox = Inbox::of([frame(789, 1), frame(MAX_FRAME, 2), frame(788, 3)]);
    let (used, stop) = r.pump(&mut inbox);
    assert_eq!(stop, RxStop::Dry);
    assert_eq!(used, heads.iter().map(|h| (*h, 100)).collect::<Vec<_>>());
    assert_eq!((r.pump.stats().too_long, r.pump.stats().frames), (2, 1));
    r.good();
}

#[test]
fn v304_longest_frame_in_the_smallest_buffers() {
    let mut r = Receiver::new(512, true);
    let posted: Vec<(u32, u64)> =
        (0..512).map(|i| (r.rig.offer(&[(BUFFER + i * 129, 129, WRITE)]).into(), i)).collect();
    let mut inbox = Inbox::of([frame(MAX_FRAME + 1, 1), frame(MAX_FRAME, 2)]);
    let (used, stop) = r.pump(&mut inbox);
    assert_eq!(stop, RxStop::Dry);
    let needed = (MAX_FRAME + 12).div_ceil(129);
    assert_eq!(used.len(), needed);
    assert!(used.iter().zip(&posted).take(needed - 1).all(|(u, (head, _))| *u == (*head, 129)));
    let whole = bytes(&r.rig.mem, BUFFER, MAX_FRAME + 12);
    assert_eq!(whole[..12], NetHeader::NONE.to_bytes(needed as u16));
    assert!(whole[12..] == frame(MAX_FRAME, 2));
    assert_eq!(r.pump.stats().dropped, 1);
}

#[test]
fn v305_buffers_shorter_than_a_header_among_good_ones() {
    for mergeable in [false, true] {
        for len in 1..12 {
            let mut r = Receiver::new(16, mergeable);
            let heads = [r.post(0, len), r.post(1, 200), r.post(2, len), r.post(3, len), r.post(4, 200)];
            let (used, stop) = r.pump(&mut Inbox::of([frame(100, 1), frame(90, 2)]));
            assert_eq!(stop, RxStop::Dry);
            assert_eq!(used, [(heads[0], 0), (heads[1], 112), (heads[2], 0), (heads[3], 0), (heads[4], 102)]);
            assert_eq!(r.pump.stats().bad_chains, 3);
            r.holds(at(1), 1, &frame(100, 1));
            r.holds(at(4), 1, &frame(90, 2));
            assert_eq!(bytes(&r.rig.mem, at(0), 12), [0; 12], "nothing was written");
            r.good();
        }
    }
}

#[test]
fn v306_a_useless_buffer_in_the_middle_of_a_frame() {
    let mut r = Receiver::new(16, true);
    let heads = [r.post(0, 100), r.post(1, 5), r.post(2, 100), r.post(3, 100), r.post(4, 100)];
    let (used, _) = r.pump(&mut Inbox::of([frame(250, 1)]));
    // A frame cannot go around a buffer: the one before it comes back empty as well.
    assert_eq!(used, [(heads[0], 0), (heads[1], 0), (heads[2], 100), (heads[3], 100), (heads[4], 62)]);
    assert_eq!(r.pump.stats().frames, 1);
    r.good();
}

#[test]
fn v307_bad_chains() {
    type SetUp = fn(&mut Rig) -> u16;
    let rows: [(&str, SetUp); 9] = [
        ("CVE-2021-3748: hole", |r| r.offer(&[(HIGH.0 - 1000, 1000, WRITE)])),
        ("CVE-2021-3748: hole, then a good buffer", |r| {
            r.offer(&[(HIGH.0 - 1000, 1000, WRITE), (BUFFER, 1000, WRITE)])
        }),
        ("good buffer, then a hole", |r| r.offer(&[(BUFFER, 1000, WRITE), (HIGH.0 - 1000, 1000, WRITE)])),
        ("region end", |r| r.offer(&[(HIGH.0 + HIGH.1 as u64 - 999, 1000, WRITE)])),
        ("2^64", |r| r.offer(&[(u64::MAX - 99, 1000, WRITE)])),
        ("only readable", |r| r.offer(&[(BUFFER, 1000, 0)])),
        ("readable behind writable", |r| r.offer(&[(BUFFER, 1000, WRITE), (BUFFER, 1000, 0)])),
        ("loop", |r| {
            r.raw.desc(&r.mem, 3, (BUFFER, 1000, NEXT | WRITE, 3));
            r.publish(3);
            3
        }),
        ("b46a0bf78ad7: 1025 segments", |r| segments(r, 1025)),
    ];
    for (name, set_up) in rows {
        for mergeable in [false, true] {
            let mut r = Receiver::new(16, mergeable);
            let bad = set_up(&mut r.rig);
            r.rig.posted.clear();
            let good = r.post(80, 500);
            let (used, stop) = r.pump(&mut Inbox::of([frame(300, 1)]));
            assert_eq!((used, stop), (vec![(bad.into(), 0), (good, 312)], RxStop::Dry), "{name}");
            assert_eq!(r.pump.stats().bad_chains, 1, "{name}");
            r.holds(at(80), 1, &frame(300, 1));
            r.good();
        }
    }
}

/// A chain of one-byte segments in a table, one behind the other in memory.
fn segments(rig: &mut Rig, n: u16) -> u16 {
    let table: Vec<u8> = (1..=n)
        .flat_map(|i| descriptor(BUFFER + u64::from(i) - 1, 1, WRITE | if i == n { 0 } else { NEXT }, i))
        .collect();
    poke(&rig.mem, TABLE, &table);
    rig.posted.push(BUFFER..BUFFER + u64::from(n));
    rig.offer(&[(TABLE, u32::from(n) * 16, INDIRECT)])
}

#[test]
fn v308_exactly_as_many_segments_as_there_can_be() {
    for mergeable in [false, true] {
        let mut r = Receiver::new(8, mergeable);
        let head = segments(&mut r.rig, 1024);
        assert_eq!(r.pump(&mut Inbox::of([frame(1012, 1)])), (vec![(head.into(), 1024)], RxStop::Dry));
        r.holds(BUFFER, 1, &frame(1012, 1));
        r.good();
    }
}

#[test]
fn v309_header_in_twelve_buffers() {
    for mergeable in [false, true] {
        let mut r = Receiver::new(32, mergeable);
        let mut buffers: Vec<_> = (0..12).map(|i| (at(i), 1, WRITE)).collect();
        buffers.push((at(20), 500, WRITE));
        let head = r.rig.offer(&buffers).into();
        assert_eq!(r.pump(&mut Inbox::of([frame(400, 1)])), (vec![(head, 412)], RxStop::Dry));
        let header: Vec<u8> = (0..12).flat_map(|i| bytes(&r.rig.mem, at(i), 1)).collect();
        assert_eq!(header, NetHeader::NONE.to_bytes(1));
        assert!(bytes(&r.rig.mem, at(20), 400) == frame(400, 1));
    }
}

#[test]
fn v310_readable_parts_are_left_alone() {
    let mut r = Receiver::new(16, true);
    let heads: Vec<u32> = (0..3).map(|i| r.rig.offer(&[(at(50), 700, 0), (at(i), 200, WRITE)]).into()).collect();
    let (used, _) = r.pump(&mut Inbox::of([frame(500, 1)]));
    assert_eq!(used, [(heads[0], 200), (heads[1], 200), (heads[2], 112)]);
}

#[test]
fn v311_buffer_over_two_regions() {
    let end = LOW.1 as u64;
    for start in [end - 1, end - 11, end - 12, end - 100, end - 200] {
        let mut r = Receiver::new(8, false);
        let head = r.rig.offer(&[(start, 600, WRITE)]).into();
        assert_eq!(r.pump(&mut Inbox::of([frame(500, 1)])), (vec![(head, 512)], RxStop::Dry));
        r.holds(start, 1, &frame(500, 1));
    }
}

#[test]
fn v312_descriptors_that_change_after_they_were_taken() {
    // FreeBSD-SA-24:17: chains are walked once, when they are taken.
    let mut r = Receiver::new(8, true);
    let heads = [r.post(0, 200), r.post(1, 200)];
    assert_eq!(r.pump(&mut Inbox::default()).1, RxStop::Dry);
    for i in 0..8 {
        r.rig.raw.desc(&r.rig.mem, i, (HIGH.0 - 64, u32::MAX, NEXT, 0xFFFF));
        r.rig.raw.avail_entry(&r.rig.mem, i, 0xFFFF);
    }
    let (used, _) = r.pump(&mut Inbox::of([frame(300, 1)]));
    assert_eq!(used, [(heads[0], 200), (heads[1], 112)]);
}

#[test]
fn v313_offloads_that_were_not_acknowledged_are_not_shown() {
    let mut r = Receiver::new(8, true);
    let mut inbox = Inbox::of([frame(100, 1), frame(100, 2), frame(100, 3)]);
    inbox.0[0].0.flags = NEEDS_CSUM;
    inbox.0[1].0.gso_type = GSO_TCPV4;
    let head = r.post(0, 200);
    assert_eq!(r.pump(&mut inbox), (vec![(head, 112)], RxStop::Dry));
    r.holds(at(0), 1, &frame(100, 3));
    assert_eq!(r.pump.stats().dropped, 2);
}

#[test]
fn v314_a_broken_ring_uses_up_what_it_had() {
    let mut r = Receiver::new(8, true);
    let head = r.post(0, 200);
    r.rig.publish(8);
    let (error, _) = r.pump.pump(&mut r.rig.ring, &mut Inbox::of([frame(100, 1)]), &mut Open, 64).unwrap_err();
    assert_eq!(error, RingError::Head { head: 8, size: 8 });
    assert_eq!(r.rig.reap(), [(head, 112)]);
    let mut inbox = Inbox::of([frame(100, 2)]);
    let outcome = r.pump.pump(&mut r.rig.ring, &mut inbox, &mut Open, 64).unwrap();
    assert_eq!((outcome.frames, outcome.stop), (0, RxStop::NoBuffers));
    assert_eq!(r.rig.ring.fault(), Some(error));
}

#[test]
fn v315_chains_of_many_segments_do_not_stall_the_queue() {
    // The pool holds fewer chains than the ring when each has many segments: a frame that needs more than it holds
    // has to be dropped, or it is offered forever.
    let mut r = Receiver::new(256, true);
    let table: Vec<u8> = (1..=64_u16)
        .flat_map(|i| descriptor(BUFFER + u64::from(i) * 16, 16, WRITE | if i == 64 { 0 } else { NEXT }, i))
        .collect();
    poke(&r.rig.mem, TABLE, &table);
    r.rig.posted.push(BUFFER..BUFFER + 66 * 16);
    for _ in 0..256 {
        r.rig.offer(&[(TABLE, 64 * 16, INDIRECT)]);
    }
    let mut inbox = Inbox::of([frame(60_000, 1), frame(60, 2)]);
    let mut frames = 0;
    for _ in 0..4 {
        let (used, _) = r.pump(&mut inbox);
        frames += used.len();
    }
    assert!(inbox.0.is_empty(), "the frames are gone: delivered or dropped");
    assert!(frames >= 1, "and the short one was delivered");
    assert_eq!(r.pump.stats().frames + r.pump.stats().too_long, 2);
}

#[test]
fn v316_partly_used_pools_of_long_chains_fill_up_again() {
    // Two segments a chain: after some were used the pool must still come to hold what the ring has.
    let mut r = Receiver::new(512, true);
    let two = |i: u64| [(BUFFER + i * 160, 10, WRITE), (BUFFER + i * 160 + 10, 150, WRITE)];
    let table: Vec<u8> = (0..512)
        .flat_map(|i| {
            let [a, b] = two(i);
            [descriptor(a.0, a.1, a.2 | NEXT, 1), descriptor(b.0, b.1, b.2, 0)].concat()
        })
        .collect();
    poke(&r.rig.mem, TABLE, &table);
    r.rig.posted.push(BUFFER..BUFFER + 512 * 160);
    let mut next = 0_u64;
    let mut post = |r: &mut Receiver, n: usize| {
        for _ in 0..n {
            let i = next % 512;
            next += 1;
            r.rig.raw.desc(&r.rig.mem, i as u16, (TABLE + 32 * i, 32, INDIRECT, 0));
            r.rig.publish(i as u16);
        }
    };
    post(&mut r, 512);
    for round in 0..20 {
        // Short frames use a part of the pool up; what they took is posted again.
        let short = 37 + round * 7;
        let (used, _) = r.pump(&mut Inbox::of((0..short).map(|_| frame(60, 1))));
        assert_eq!(used.len(), short);
        post(&mut r, short);
        let long = 480 * 160 - 12;
        let mut inbox = Inbox::of([frame(long.min(MAX_FRAME), 2)]);
        let (used, stop) = r.pump(&mut inbox);
        assert_eq!((used.len(), stop), ((long.min(MAX_FRAME) + 12).div_ceil(160), RxStop::Dry), "round {round}");
        post(&mut r, used.len());
    }
}

/// Reads one frame as a tap does: as much as fits the places, and says how long it was.
struct Cut(Vec<u8>, Option<Placed>);
impl FrameSource for Cut {
    type Error = ();
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, ()> {
        self.1 = room.read_with(|_header, head, rest| {
            let n = self.0.len().min(HEAD_LEN);
            head[..n].copy_from_slice(&self.0[..n]);
            let mut left = &self.0[n..];
            for seg in rest {
                left = &left[seg.write(left)..];
            }
            Ok(Some(self.0.len()))
        })?;
        Ok(Supply::Dry)
    }
}

impl Receiver {
    fn read(&mut self, len: usize) -> (Option<Placed>, Vec<(u32, u32)>) {
        let mut source = Cut(frame(len, 1), None);
        let Self { rig, pump } = self;
        rig.watched(|rig| pump.pump(&mut rig.ring, &mut source, &mut Open, 1)).unwrap();
        (source.1, self.rig.reap())
    }
}

#[test]
fn v317_frames_read_straight_in_that_do_not_fit_are_dropped() {
    for mergeable in [false, true] {
        let mut r = Receiver::new(8, mergeable);
        let head = r.post(0, 300);
        assert_eq!(r.read(289), (Some(Placed::Dropped), vec![]));
        assert_eq!(r.read(MAX_FRAME), (Some(Placed::Dropped), vec![]));
        assert_eq!(r.read(288), (Some(Placed::Delivered), vec![(head, 300)]));
        r.holds(at(0), 1, &frame(288, 1));
        // A place shorter than header and head.
        let head = r.post(1, 40);
        assert_eq!(r.read(29), (Some(Placed::Dropped), vec![]));
        assert_eq!(r.read(28), (Some(Placed::Delivered), vec![(head, 40)]));
        r.holds(at(1), 1, &frame(28, 1));
        r.good();
    }
}

#[test]
fn v318_a_frame_cut_off_at_a_bad_buffer_is_not_delivered_behind_it() {
    // Read straight in, the frame ends at the bad buffer; there is room for it behind, but its bytes are not there.
    let mut r = Receiver::new(8, true);
    let first = r.post(0, 300);
    let bad = u32::from(r.rig.offer(&[(HIGH.0 - 64, 64, WRITE)]));
    r.rig.posted.pop();
    let last = r.post(2, 1500);
    // What is in the way is given back, or no long frame would ever get past it.
    assert_eq!(r.read(1000), (Some(Placed::Dropped), vec![(first, 0), (bad, 0)]));
    assert_eq!((r.pump.stats().bad_chains, r.pump.stats().no_room), (1, 1));
    assert_eq!(r.read(1000), (Some(Placed::Delivered), vec![(last, 1012)]));
    r.holds(at(2), 1, &frame(1000, 1));
}

/// The guest posts a buffer of no use for every one that it gets back, and a frame waits all the time.
struct Hopeful<'a>(&'a mut Rig, u64);
impl FrameSource for Hopeful<'_> {
    type Error = ();
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, ()> {
        assert_eq!(room.put(&NetHeader::NONE, &frame(100, 1)), Placed::NoRoom);
        for _ in 0..64 {
            self.0.offer(&[(BUFFER, 200, 0)]);
            self.1 += 1;
            assert!(self.1 < 10_000, "the pump does not come back");
        }
        Ok(Supply::More)
    }
}

#[test]
fn v319_buffers_of_no_use_do_not_keep_the_pump() {
    let mut r = Receiver::new(256, true);
    for _ in 0..64 {
        r.rig.offer(&[(BUFFER, 200, 0)]);
    }
    let mut guest = Rig::new(1);
    guest.mem = r.rig.mem.clone();
    guest.raw = r.rig.raw;
    guest.avail = r.rig.avail;
    let outcome = r.pump.pump(&mut r.rig.ring, &mut Hopeful(&mut guest, 0), &mut Open, 64).unwrap();
    assert_eq!((outcome.frames, outcome.stop), (0, RxStop::Budget));
    assert!((512..1024).contains(&r.pump.stats().bad_chains), "{:?}", r.pump.stats());
}

#[test]
fn v320_a_frame_without_room_a_hundred_thousand_times() {
    // CVE-2022-26353: nothing is kept of an attempt that found no room, and the frame comes when there is some.
    let mut r = Receiver::new(8, true);
    let heads = [r.post(0, 1000), r.post(1, 1000)];
    let mut inbox = Inbox::of([frame(2500, 1)]);
    let before = snapshot(&r.rig.mem);
    for _ in 0..100_000 {
        let outcome = r.pump.pump(&mut r.rig.ring, &mut inbox, &mut Open, 64).unwrap();
        assert_eq!((outcome.frames, outcome.stop), (0, RxStop::NoBuffers));
        assert_eq!((r.pump.chains().len(), inbox.0.len()), (2, 1));
    }
    assert_eq!(changed(&before, &snapshot(&r.rig.mem)), [] as [u64; 0]);
    assert_eq!(r.rig.reap(), []);
    let last = r.post(2, 1000);
    assert_eq!(r.pump(&mut inbox).0, [(heads[0], 1000), (heads[1], 1000), (last, 512)]);
    assert_eq!(r.pump.stats().frames, 1);
    r.good();
}

/// Gives some frames, then fails.
struct Fails(u8);
impl FrameSource for Fails {
    type Error = u8;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, u8> {
        for n in 0..self.0 {
            assert_eq!(room.put(&NetHeader::NONE, &frame(60, n)), Placed::Delivered);
        }
        room.read_with(|_, _, _| Err::<Option<usize>, _>(self.0)).map(|_| Supply::More)
    }
}

#[test]
fn v321_a_back_end_that_fails_after_some_frames() {
    // CH 17fefa1e4: an error of the host end stops nothing but this look at it, and what came before it counts.
    let mut r = Receiver::new(64, false);
    for round in 0..30 {
        let wanted: Vec<_> = (0..round % 4).map(|i| (r.post(i, 200), 72)).collect();
        let spare = r.post(9, 200);
        let given = (round % 4) as u8;
        let outcome = r.pump.pump(&mut r.rig.ring, &mut Fails(given), &mut Open, 64).unwrap();
        assert_eq!((outcome.frames, outcome.error, outcome.stop), (given.into(), Some(given), RxStop::Dry));
        assert_eq!(r.rig.reap(), wanted);
        // The buffer that was shown to the one that failed takes the next frame.
        assert_eq!(r.pump(&mut Inbox::of([frame(100, 1)])), (vec![(spare, 112)], RxStop::Dry));
        r.holds(at(9), 1, &frame(100, 1));
    }
    r.good();
}

/// Changes what follows the head of a frame, when that has been read into the buffer already.
struct Meddles<'a>(&'a Memory, u64);
impl RxFilter for Meddles<'_> {
    fn accepts(&mut self, head: &[u8]) -> bool {
        poke(self.0, self.1, &[0x42; 12 + 400]);
        head == &frame(400, 7)[..HEAD_LEN]
    }
}

#[test]
fn v322_a_guest_that_changes_the_frame_while_its_checksum_is_made() {
    // Without GUEST_CSUM the checksum is made from what is in the guest's memory already: a guest that meddles with that gets
    // a checksum of its own making, and nothing else is different.
    struct Partial;
    impl FrameSource for Partial {
        type Error = ();
        fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, ()> {
            let placed = room.read_with(|header, head, rest| {
                *header =
                    NetHeader { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 6, ..NetHeader::NONE }.to_bytes(0);
                head.copy_from_slice(&frame(400, 7)[..HEAD_LEN]);
                rest[0].write(&frame(400, 7)[HEAD_LEN..]);
                Ok::<_, ()>(Some(400))
            });
            assert_eq!(placed, Ok(Some(Placed::Delivered)));
            Ok(Supply::Dry)
        }
    }
    let mut r = Receiver::new(8, false);
    let head = r.post(0, 500);
    let mem = r.rig.mem.clone();
    r.pump.pump(&mut r.rig.ring, &mut Partial, &mut Meddles(&mem, at(0)), 1).unwrap();
    assert_eq!(r.rig.reap(), [(head, 412)]);
    let mut wanted = [frame(400, 7)[..HEAD_LEN].to_vec(), vec![0x42; 400 - HEAD_LEN]].concat();
    let sum = wanted[34..].chunks(2).map(|w| u32::from(w[0]) * 256 + u32::from(w[1])).sum::<u32>() % 65535;
    wanted[40..42].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    r.holds(at(0), 1, &wanted);
    r.good();
}
