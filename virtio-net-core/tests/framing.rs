//! However a driver cuts its buffers, and whatever is in those that the device writes to, frames are the same (virtio 1.3,
//! 2.7.4 and 2.7.5).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

use std::convert::Infallible;
use std::sync::Arc;

use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::{RxFilter, RxPump};
use virtio_net_core::tx::{TxFilter, TxPump};
use virtio_net_core::{Features, NetConfig, NetDevice, NetHeader, rx_format, tx_format};
use virtio_ring::{
    Access, AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Format, GuestAddr, GuestMemory, HeapBlock,
    HeapMemory, MappedArea, QueueConfig,
};

const TABLES: GuestAddr = GuestAddr(0x2_0000);
const BUFFERS: u64 = 0x4_0000;
/// Most segments of a chain that this device takes.
const MOST: usize = 1024;
/// Driver and device of the formats, with and without tables of descriptors.
const KINDS: [(Format, bool); 4] =
    [(Format::Split, false), (Format::Split, true), (Format::Packed, false), (Format::Packed, true)];

type Area = MappedArea<Arc<HeapBlock>>;

struct Open;
impl TxFilter for Open {
    fn permits(&mut self, _head: &[u8]) -> bool {
        true
    }
}
impl RxFilter for Open {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}

/// Keeps what it gets.
#[derive(Default)]
struct Wire(Vec<Vec<u8>>);
impl FrameSink for Wire {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        for frame in burst.iter() {
            let mut bytes = vec![0; frame.len()];
            assert_eq!(frame.copy_to(&mut bytes), bytes.len());
            self.0.push(bytes);
        }
        Taken { count: burst.len(), failed: 0 }
    }
}

/// Has one frame.
struct One<'f>(&'f [u8], Option<Placed>);
impl FrameSource for One<'_> {
    type Error = Infallible;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        self.1 = Some(room.put(&NetHeader::NONE, self.0));
        Ok(Supply::Dry)
    }
}

struct Queue {
    mem: HeapMemory,
    driver: AnyDriver<Area>,
    device: AnyDevice<Area>,
}

impl Queue {
    fn new((format, indirect): (Format, bool)) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x8_0000).unwrap();
        // Without tables, the longest chain takes as many descriptors.
        let size = if indirect { 2 } else { 2048 };
        let (config, _) = format.layout(GuestAddr(0x1000), size);
        let config = QueueConfig { indirect, ..config };
        let driver = AnyDriver::new(&mem, format, &config).unwrap();
        let driver = if indirect { driver.with_indirect(&mem, TABLES, MOST as u16 + 1).unwrap() } else { driver };
        let device = AnyDevice::new(&mem, format, &config, format.start()).unwrap();
        Self { mem, driver, device }
    }

    /// Posts a chain of buffers of these lengths, which lie apart from each other; where they are.
    fn post(&mut self, lens: &[usize], writable: bool) -> Vec<Element> {
        let mut at = BUFFERS;
        let element = |len: &usize| {
            let element = Element { addr: GuestAddr(at), len: *len as u32, writable };
            at += *len as u64 + 3;
            element
        };
        let elements: Vec<Element> = lens.iter().map(element).collect();
        self.driver.add(&elements).unwrap();
        let _ = self.driver.flush();
        elements
    }

    fn write(&self, elements: &[Element], mut bytes: &[u8]) {
        for e in elements {
            let n = self.mem.translate(e.addr, e.len as usize, Access::Write).unwrap().write(bytes);
            bytes = &bytes[n..];
        }
    }

    fn read(&self, elements: &[Element]) -> Vec<u8> {
        let mut all = Vec::new();
        for e in elements {
            let mut part = vec![0; e.len as usize];
            self.mem.translate(e.addr, part.len(), Access::Read).unwrap().read(&mut part);
            all.extend(part);
        }
        all
    }
}

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 29 + 3) as u8).collect()
}

/// A frame that is sent in buffers of these lengths: what leaves, and how many chains were no good.
fn send(kind: (Format, bool), bytes: &[u8], lens: &[usize]) -> (Vec<Vec<u8>>, u64) {
    let mut queue = Queue::new(kind);
    let elements = queue.post(lens, false);
    queue.write(&elements, bytes);
    let mut pump = TxPump::new(queue.mem.clone(), tx_format(Features::VERSION_1));
    let mut wire = Wire::default();
    pump.pump(&mut queue.device, &mut wire, &mut Open, 64).unwrap();
    assert_eq!(queue.driver.poll_used().unwrap().map(|used| used.len), Some(0), "it comes back");
    (wire.0, pump.stats().bad_chains)
}

/// A frame that is received in a chain of buffers of these lengths: what they hold, and the used length.
fn receive(kind: (Format, bool), frame: &[u8], lens: &[usize]) -> (Vec<u8>, u32) {
    let mut queue = Queue::new(kind);
    let elements = queue.post(lens, true);
    let mut pump = RxPump::new(queue.mem.clone(), queue.device.size(), rx_format(Features::VERSION_1));
    pump.pump(&mut queue.device, &mut One(frame, None), &mut Open, 64).unwrap();
    (queue.read(&elements), queue.driver.poll_used().unwrap().unwrap().len)
}

/// The bytes of a header and a frame.
fn with_header(num_buffers: u16, frame: &[u8]) -> Vec<u8> {
    [&NetHeader::NONE.to_bytes(num_buffers)[..], frame].concat()
}

#[test]
fn s1_a_frame_cut_in_two_at_every_byte() {
    let frame = frame(150);
    let (sent, received) = (with_header(0, &frame), with_header(1, &frame));
    for kind in KINDS {
        for cut in 1..sent.len() {
            let lens = [cut, sent.len() - cut];
            assert_eq!(send(kind, &sent, &lens), (vec![frame.clone()], 0), "{kind:?}, cut at {cut}");
            assert_eq!(receive(kind, &frame, &lens), (received.clone(), 162), "{kind:?}, cut at {cut}");
        }
    }
}

/// Chains of one byte each up to as many as the device takes, and one more, which is a fault of that chain alone.
#[test]
fn s1_chains_of_many_buffers() {
    for kind in KINDS {
        for n in [26, 27, 60, 128, 140, 141, 500, MOST - 1, MOST] {
            let frame = frame(n - 12);
            assert_eq!(send(kind, &with_header(0, &frame), &vec![1; n]), (vec![frame.clone()], 0), "{kind:?}, {n}");
            let wanted = (with_header(1, &frame), n as u32);
            assert_eq!(receive(kind, &frame, &vec![1; n]), wanted, "{kind:?}, {n}");
            // The whole frame behind the pieces, and pieces without a byte between.
            let lens: Vec<usize> = (0..n).map(|i| if i + 1 == n { 2000 } else { i % 2 }).collect();
            let mut sent = with_header(0, &frame);
            sent.resize(lens.iter().sum(), 0x77);
            assert_eq!(send(kind, &sent, &lens), (vec![sent[12..].to_vec()], 0), "{kind:?}, {n}");
            let (found, len) = receive(kind, &frame, &lens);
            assert_eq!((&found[..n], len), (&wanted.0[..], n as u32), "{kind:?}, {n}");
        }
        assert_eq!(send(kind, &with_header(0, &frame(MOST)), &vec![1; MOST + 1]), (vec![], 1), "{kind:?}");
        assert_eq!(receive(kind, &frame(100), &vec![1; MOST + 1]).1, 0, "{kind:?}");
    }
}

/// What is in a buffer that the device only writes to makes no difference to anything. That nothing reads it cannot be seen
/// from outside; that nothing depends on it can.
#[test]
fn s3_what_is_in_writable_buffers_does_not_matter() {
    let sent = with_header(0, &frame(200));
    for kind in KINDS {
        let run = |fill: u8| {
            // A frame to send, with something writable behind it.
            let mut queue = Queue::new(kind);
            let readable = Element { addr: GuestAddr(BUFFERS), len: sent.len() as u32, writable: false };
            let writable = Element { addr: GuestAddr(BUFFERS + 0x1000), len: 300, writable: true };
            queue.write(&[readable], &sent);
            queue.write(&[writable], &[fill; 300]);
            queue.driver.add(&[readable, writable]).unwrap();
            let _ = queue.driver.flush();
            let mut pump = TxPump::new(queue.mem.clone(), tx_format(Features::VERSION_1));
            let mut wire = Wire::default();
            let outcome = pump.pump(&mut queue.device, &mut wire, &mut Open, 64).unwrap();
            let tx = (wire.0, outcome, *pump.stats(), queue.driver.poll_used().unwrap());
            assert_eq!(queue.read(&[writable]), [fill; 300], "and it stays there");
            // A frame to receive.
            let mut queue = Queue::new(kind);
            let elements = queue.post(&[5, 70, 60, 400], true);
            queue.write(&elements, &[fill; 535]);
            let mut pump = RxPump::new(queue.mem.clone(), queue.device.size(), rx_format(Features::VERSION_1));
            let outcome = pump.pump(&mut queue.device, &mut One(&frame(300), None), &mut Open, 64).unwrap();
            let found = queue.read(&elements);
            assert_eq!(found[312..], [fill; 223], "what is behind the frame stays");
            (tx, outcome, *pump.stats(), queue.driver.poll_used().unwrap(), found[..312].to_vec())
        };
        let first = run(0);
        assert_eq!(first.0.0, [sent[12..].to_vec()]);
        for fill in 1..=u8::MAX {
            assert_eq!(run(fill), first, "{kind:?}, {fill:#x}");
        }
    }
}

/// The longest frames that a driver may send with this MTU leave as they are, with tags and without.
#[test]
fn n5_frames_up_to_the_mtu_are_sent_whole() {
    for mtu in [68_u16, 1280, 1500, 9000, 65_535] {
        let config = NetConfig { mtu: Some(mtu), ..NetConfig::new(net_filter::MacAddr([2; 6])) };
        let mut device = NetDevice::new(&config, Features::SUPPORTED, Features::BACK_END).unwrap();
        device.acknowledge(Features::VERSION_1 | Features::MTU).unwrap();
        for len in usize::from(mtu) + 13..=usize::from(mtu) + 22 {
            let mut frame = frame(len);
            for (i, tag) in [[0x88, 0xa8, 0, 9], [0x81, 0, 0, 5]].iter().enumerate() {
                let longest = usize::from(mtu) + 14 + 4 * i;
                if len > longest {
                    frame[12 + 4 * i..16 + 4 * i].copy_from_slice(tag);
                }
            }
            let bytes = with_header(0, &frame);
            let mut queue = Queue::new(KINDS[0]);
            let elements = queue.post(&[bytes.len()], false);
            queue.write(&elements, &bytes);
            let mut pump = TxPump::new(queue.mem.clone(), device.tx_format());
            let mut wire = Wire::default();
            pump.pump(&mut queue.device, &mut wire, &mut Open, 64).unwrap();
            assert!(wire.0 == [frame], "MTU {mtu}, {len} bytes");
        }
    }
}
