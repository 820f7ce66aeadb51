//! Which buffers a frame takes, and what is said of them (virtio 1.3, 5.1.6.3.2 and 5.1.6.4.1).

use std::sync::Arc;

use proptest::prelude::*;
use virtio_net_core::backend::Placed;
use virtio_net_core::rx::RxPump;
use virtio_net_core::{BACKEND_HEADER_LEN, Features, NetHeader, rx_format};
use virtio_ring::{
    Access, AnyDevice, AnyDriver, DriverRing, Element, Format, GuestAddr, GuestMemory, HeapBlock, HeapMemory,
    MappedArea, QueueConfig,
};

use crate::rig::{Got, Inbox, Open, Way, deliver, mergeable};

/// Features of drivers with each length of header.
const HEADERS: [(usize, Features); 3] = [
    (10, Features::empty()),
    (12, Features::VERSION_1),
    (20, Features::VERSION_1.union(Features::HASH_REPORT).union(Features::CTRL_VQ)),
];

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 13 + 7) as u8).collect()
}

/// The rows for a frame that was delivered. Its header has room for a number of buffers, which is only said if it has.
fn check(got: &Got, layout: &[Vec<u32>], (header_len, merge): (usize, bool), frame: &[u8]) {
    let room = |i: usize| layout[i].iter().sum::<u32>();
    let n = got.used.len();
    assert_eq!(got.frame, frame);
    assert_eq!(got.which, (0..n).collect::<Vec<_>>(), "from the first buffer on");
    assert_eq!(got.used.iter().sum::<u32>() as usize, header_len + frame.len(), "the lengths are what was written");
    for (i, used) in got.used.iter().enumerate().take(n - 1) {
        assert_eq!(*used, room(i), "N25: buffer {i} of {n} is full");
    }
    if header_len >= BACKEND_HEADER_LEN {
        assert_eq!(usize::from(got.num_buffers), n, "N22");
    }
    assert!(merge || n == 1, "N23");
    // CVE-2018-1118, CVE-2024-0340: what nobody has anything to say of is zero.
    assert!(got.hash.iter().all(|b| *b == 0) && got.hash.len() == header_len.saturating_sub(BACKEND_HEADER_LEN));
}

/// The rig compares all bytes that were not said to be written with what was there before.
#[test]
fn s14_n22_n24_n25_a_frame_in_buffers_of_any_size() {
    for (header_len, acked) in HEADERS.into_iter().skip(1) {
        let acked = mergeable(acked, true);
        // Buffers that hold the header only, its last byte and one of the frame, and so on to the whole frame.
        for first in header_len..header_len + 130 {
            for way in [Way::Put, Way::ReadWith] {
                let layout = vec![vec![first as u32], vec![20], vec![5, 20], vec![200]];
                let frame = frame(129);
                let (placed, got, stats) = deliver(rx_format(acked), &layout, way, (NetHeader::NONE, &frame));
                let got = got.unwrap();
                assert_eq!(placed, Placed::Delivered);
                check(&got, &layout, (header_len, true), &frame);
                assert_eq!((stats.frames, stats.buffers as usize), (1, got.used.len()));
                let whole = first >= header_len + frame.len();
                assert_eq!(got.used.len() == 1, whole, "N24: the header's buffer counts");
            }
        }
    }
}

#[test]
fn s14_n23_without_merging_a_frame_takes_one_buffer_or_none() {
    for (header_len, acked) in HEADERS {
        for len in [14, 60, 128, 129, 500] {
            for spare in [-1, 0, 1, 700] {
                for way in [Way::Put, Way::ReadWith] {
                    let first = (header_len + len) as i64 + spare;
                    let layout = vec![vec![first as u32], vec![2000]];
                    let frame = frame(len);
                    let (placed, got, stats) = deliver(rx_format(acked), &layout, way, (NetHeader::NONE, &frame));
                    if spare < 0 {
                        assert_eq!((placed, got), (Placed::Dropped, None), "the buffers stay");
                        assert_eq!((stats.too_long, stats.frames), (1, 0));
                    } else {
                        assert_eq!(placed, Placed::Delivered);
                        check(&got.unwrap(), &layout, (header_len, false), &frame);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s14_n22_n23_n24_n25_any_frame_in_any_buffers(
        len in 14..3000_usize,
        layout in prop::collection::vec(prop::collection::vec(1..150_u32, 1..5), 1..40),
        which in 0..3_usize,
        merge: bool,
        put: bool,
    ) {
        let (header_len, acked) = HEADERS[which];
        // A driver of before 1.0 that merges has the longer header.
        let acked = mergeable(acked, merge);
        let header_len = if merge { header_len.max(BACKEND_HEADER_LEN) } else { header_len };
        let usable = |chain: &&Vec<u32>| chain.iter().sum::<u32>() as usize >= header_len;
        let layout: Vec<_> = layout.iter().filter(usable).cloned().chain([vec![20]]).collect();
        let way = if put { Way::Put } else { Way::ReadWith };
        let frame = frame(len);
        let (placed, got, _) = deliver(rx_format(acked), &layout, way, (NetHeader::NONE, &frame));
        let room: u32 = layout.iter().take(if merge { usize::MAX } else { 1 }).flatten().sum();
        let fits = room as usize >= header_len + len;
        prop_assert_eq!(placed == Placed::Delivered, fits);
        prop_assert_eq!(got.is_some(), fits);
        if let Some(got) = got {
            check(&got, &layout, (header_len, merge), &frame);
        }
    }
}

/// A driver on a thread of its own, which posts every buffer again.
struct Reader {
    mem: HeapMemory,
    driver: AnyDriver<MappedArea<Arc<HeapBlock>>>,
    /// The buffer of each chain that is out, by its handle.
    posted: Vec<u64>,
}

impl Reader {
    const SIZE: u16 = 64;

    fn new(mem: &HeapMemory, format: Format, config: &QueueConfig) -> Self {
        let driver = AnyDriver::new(mem, format, config).unwrap();
        let mut this = Self { mem: mem.clone(), driver, posted: vec![0; usize::from(Self::SIZE)] };
        (0..u64::from(Self::SIZE)).for_each(|i| this.post(i));
        let _ = this.driver.flush();
        this
    }

    fn at(buffer: u64) -> GuestAddr {
        GuestAddr(0x1_0000 + buffer * 128)
    }

    fn post(&mut self, buffer: u64) {
        let element = Element { addr: Self::at(buffer), len: 100, writable: true };
        let handle = self.driver.add(&[element]).unwrap();
        self.posted[usize::from(handle.0)] = buffer;
    }

    /// Waits for a frame and takes all of it: with its first buffer the others have to be there. How many.
    fn frame(&mut self) -> u64 {
        let first = loop {
            match self.driver.poll_used().unwrap() {
                Some(used) => break self.posted[usize::from(used.handle.0)],
                None => std::thread::yield_now(),
            }
        };
        let mut header = [0; BACKEND_HEADER_LEN];
        self.mem.translate(Self::at(first), header.len(), Access::Read).unwrap().read(&mut header);
        let count = u16::from_le_bytes([header[10], header[11]]).into();
        let mut back = vec![first];
        for _ in 1..count {
            let used = self.driver.poll_used().unwrap();
            assert!(used.is_some(), "a frame without some of its {count} buffers");
            back.extend(used.map(|used| self.posted[usize::from(used.handle.0)]));
        }
        back.into_iter().for_each(|buffer| self.post(buffer));
        let _ = self.driver.flush();
        count
    }
}

/// Every order of events is in virtio-ring's loom models; these are threads and frames.
#[test]
fn n26_the_buffers_of_a_frame_become_visible_together() {
    const FRAMES: u64 = 3000;
    for format in [Format::Split, Format::Packed] {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x2_0000).unwrap();
        let (config, _) = format.layout(GuestAddr(0x1000), Reader::SIZE);
        let mut reader = Reader::new(&mem, format, &config);
        let reader = std::thread::spawn(move || (0..FRAMES).map(|_| reader.frame()).sum::<u64>());
        let mut device = AnyDevice::new(&mem, format, &config, format.start()).unwrap();
        let mut pump = RxPump::new(mem, Reader::SIZE, rx_format(mergeable(Features::VERSION_1, true)));
        let mut inbox = Inbox::default();
        let mut lens = (0..FRAMES as usize).map(|n| 60 + n * 97 % 2000);
        while !reader.is_finished() {
            let room = 8 - inbox.0.len();
            inbox.0.extend(lens.by_ref().take(room).map(|len| (NetHeader::NONE, frame(len))));
            pump.pump(&mut device, &mut inbox, &mut Open, 64).unwrap();
            std::thread::yield_now();
        }
        let buffers = reader.join().unwrap();
        assert_eq!((pump.stats().frames, pump.stats().buffers), (FRAMES, buffers));
        assert!(buffers > 5 * FRAMES, "most of them take many");
    }
}
