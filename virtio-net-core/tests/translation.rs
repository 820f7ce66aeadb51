//! Pumps on memory whose translations come later: they wait, say so, and go on where they were.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    dead_code,
    reason = "test"
)]

#[path = "../../virtio-ring/tests/common/guest.rs"]
mod guest;
#[path = "../../virtio-ring/tests/common/iotlb.rs"]
mod iotlb;
#[path = "villains/rig.rs"]
mod rig;

use std::sync::Arc;

use guest::{bytes, poke};
use iotlb::{Iotlb, PAGE, Perm};
use rig::{Inbox, Open, Wire, frame};
use virtio_net_core::ctrl::{Ack, CtrlHandler, CtrlPump, Reply};
use virtio_net_core::rx::{RxPump, RxStop};
use virtio_net_core::tx::{TxPump, TxStop};
use virtio_net_core::{Features, rx_format, tx_format};
use virtio_ring::{
    Access, AnyDevice, AnyDriver, DeviceRing, DriverRing, Element, Fault, Format, GuestAddr, HeapBlock, HeapMemory,
    MappedArea, Notify,
};

type Area = MappedArea<Arc<HeapBlock>>;

const ACKED: Features = Features::VERSION_1.union(Features::MRG_RXBUF);
const HEADER: usize = 12;
/// Below this, addresses are what they are: the rings.
const RINGS: u64 = 0x1_0000;
/// Where the device sees the buffers; page n is page n ^ 1 behind `RINGS`.
const IOVA: u64 = 0xA_0000_0000;

const fn spot(page: u64) -> u64 {
    RINGS + (page ^ 1) * PAGE
}

struct Queue {
    plain: HeapMemory,
    tlb: Iotlb<HeapMemory>,
    driver: AnyDriver<Area>,
    device: AnyDevice<Area>,
}

impl Queue {
    fn new(format: Format) -> Self {
        let plain = HeapMemory::zeroed(GuestAddr(0), 0x8_0000).unwrap();
        let tlb = Iotlb::new(plain.clone());
        assert!(tlb.update(0, RINGS, 0, Perm::Both));
        let (config, _) = format.layout(GuestAddr(0x1000), 16);
        let driver = AnyDriver::new(&plain, format, &config).unwrap();
        let device = AnyDevice::new(&tlb, format, &config, format.start()).unwrap();
        Self { plain, tlb, driver, device }
    }

    fn map(&self, page: u64) {
        assert!(self.tlb.update(IOVA + page * PAGE, PAGE, spot(page), Perm::Both));
    }

    fn post(&mut self, elements: &[Element]) {
        self.driver.add(elements).unwrap();
        let _ = self.driver.flush();
    }

    fn reap(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.driver.poll_used().unwrap()).map(|used| used.len).collect()
    }

    /// What is missing, which is on this page.
    fn misses(&self, page: u64) -> Fault {
        let miss = self.device.missing().unwrap();
        assert!(miss.missing && miss.addr.0 / PAGE == IOVA / PAGE + page, "{miss:?}");
        miss
    }
}

const fn buffer(page: u64, offset: u64, len: u32, writable: bool) -> Element {
    Element { addr: GuestAddr(IOVA + page * PAGE + offset), len, writable }
}

fn each(test: impl Fn(Queue)) {
    test(Queue::new(Format::Split));
    test(Queue::new(Format::Packed));
}

#[test]
fn a_transmit_pump_waits_for_a_translation() {
    each(|mut q| {
        let mut pump = TxPump::new(q.tlb.clone(), tx_format(ACKED));
        let mut wire = Wire::default();
        // Frame n is on page 2n, its last hundred bytes on the page behind that.
        for n in 0..4_u64 {
            let all = [vec![0; HEADER], frame(300, n as u8)].concat();
            let (front, back) = all.split_at(all.len() - 100);
            poke(&q.plain, spot(2 * n) + PAGE - front.len() as u64, front);
            poke(&q.plain, spot(2 * n + 1), back);
            q.post(&[buffer(2 * n, PAGE - front.len() as u64, all.len() as u32, false)]);
        }
        q.map(0);
        q.map(1);
        let mut pump_once = |q: &mut Queue| pump.pump(&mut q.device, &mut wire, &mut Open, 64).unwrap();
        let first = pump_once(&mut q);
        assert_eq!((first.chains, first.stop), (1, TxStop::Missing));
        assert_eq!(q.reap(), [0], "what was sent is given back, and nothing else");
        for page in 2..6 {
            for _ in 0..10 {
                q.tlb.misses();
                let idle = pump_once(&mut q);
                assert_eq!((idle.chains, idle.stop, idle.notify), (0, TxStop::Missing, Notify::Suppressed));
                // For the fast way and for the slow one.
                assert_eq!(q.tlb.misses().len(), if page % 2 == 0 { 2 } else { 1 }, "it looks once");
                q.misses(page);
            }
            assert_eq!(q.reap(), []);
            q.map(page);
            if page % 2 == 1 {
                let more = pump_once(&mut q);
                assert_eq!((more.chains, more.stop), (1, TxStop::Missing));
                assert_eq!(q.reap(), [0]);
            }
        }
        q.map(6);
        q.map(7);
        let last = pump_once(&mut q);
        assert_eq!((last.chains, last.stop), (1, TxStop::Empty));
        assert_eq!(pump_once(&mut q).stop, TxStop::Empty);
        assert!(q.device.arm());
        let sent: Vec<_> = wire.0.into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(sent, [0, 1, 2, 3].map(|n| frame(300, n)));
        let stats = pump.stats();
        assert_eq!((stats.frames, stats.bad_chains, stats.bad_frames), (4, 0, 0));
    });
}

/// A disabled ring, whose chains are consumed unseen: a chain that misses something is not consumed either.
#[test]
fn discarding_waits_as_well() {
    each(|mut q| {
        let mut pump = TxPump::new(q.tlb.clone(), tx_format(ACKED));
        q.post(&[buffer(0, 0, 200, false)]);
        let idle = pump.discard(&mut q.device, 64).unwrap();
        assert_eq!((idle.chains, idle.stop), (0, TxStop::Missing));
        q.map(0);
        let done = pump.discard(&mut q.device, 64).unwrap();
        assert_eq!((done.chains, done.stop), (1, TxStop::Empty));
    });
}

#[test]
fn a_receive_pump_waits_for_a_translation() {
    each(|mut q| {
        let mut pump = RxPump::new(q.tlb.clone(), 16, rx_format(ACKED));
        let mut inbox = Inbox::of([frame(500, 1), frame(1500, 2), frame(60, 3)]);
        let none = pump.pump(&mut q.device, &mut inbox, &mut Open, 64).unwrap();
        assert_eq!((none.frames, none.stop), (0, RxStop::NoBuffers), "nothing is posted, nothing is missing");
        for page in 0..4 {
            q.post(&[buffer(page, 0, 1024, true)]);
        }
        let mut pump_once = |q: &mut Queue| pump.pump(&mut q.device, &mut inbox, &mut Open, 64).unwrap();
        for _ in 0..10 {
            let idle = pump_once(&mut q);
            assert_eq!((idle.frames, idle.stop, idle.notify), (0, RxStop::Missing, Notify::Suppressed));
            q.misses(0);
        }
        q.map(0);
        // The first frame fits the buffer that is there.
        let one = pump_once(&mut q);
        assert_eq!((one.frames, one.stop), (1, RxStop::Missing));
        q.misses(1);
        q.map(1);
        // The second needs two: one is not enough, and the frame is kept.
        for _ in 0..10 {
            let short = pump_once(&mut q);
            assert_eq!((short.frames, short.stop), (0, RxStop::Missing));
            q.misses(2);
        }
        assert_eq!(q.reap(), [512]);
        q.map(2);
        let two = pump_once(&mut q);
        assert_eq!((two.frames, two.stop), (1, RxStop::Missing));
        q.misses(3);
        q.map(3);
        let last = pump_once(&mut q);
        assert_eq!((last.frames, last.stop), (1, RxStop::Dry));
        assert_eq!(q.reap(), [1024, 1512 - 1024, 72]);
        let second = [bytes(&q.plain, spot(1), 1024), bytes(&q.plain, spot(2), 488)].concat();
        assert_eq!(second[HEADER..], frame(1500, 2));
        assert_eq!(second[10..HEADER], [2, 0], "two buffers");
        assert_eq!(bytes(&q.plain, spot(3), 72)[HEADER..], frame(60, 3));
        let stats = pump.stats();
        assert_eq!((stats.frames, stats.bad_chains, stats.dropped, stats.too_long, stats.no_room), (3, 0, 0, 0, 0));
        let none = pump.pump(&mut q.device, &mut Inbox::of([frame(60, 4)]), &mut Open, 64).unwrap();
        assert_eq!((none.frames, none.stop), (0, RxStop::NoBuffers));
        assert!(q.device.arm());
    });
}

#[test]
fn a_control_pump_waits_for_a_translation() {
    struct Log(Vec<(u8, u8, Vec<u8>)>);
    impl CtrlHandler for Log {
        fn handle(&mut self, class: u8, cmd: u8, data: &[u8], _reply: &mut Reply) -> Ack {
            self.0.push((class, cmd, data.to_vec()));
            Ack::Ok
        }
    }
    each(|mut q| {
        let (mut pump, mut log) = (CtrlPump::new(q.tlb.clone()), Log(Vec::new()));
        poke(&q.plain, spot(0), &[4, 0, 1, 0]);
        poke(&q.plain, spot(1), &[0xff]);
        q.post(&[buffer(0, 0, 4, false), buffer(1, 0, 1, true)]);
        for page in [0, 1] {
            for _ in 0..10 {
                let idle = pump.pump(&mut q.device, &mut log, 8).unwrap();
                assert_eq!((idle.chains, idle.missing, idle.more), (0, true, false));
                q.misses(page);
            }
            q.map(page);
        }
        assert!(log.0.is_empty(), "half a command is none");
        let done = pump.pump(&mut q.device, &mut log, 8).unwrap();
        assert_eq!((done.chains, done.missing), (1, false));
        assert_eq!(log.0, [(4, 0, vec![1, 0])]);
        assert_eq!((q.reap(), bytes(&q.plain, spot(1), 1)), (vec![1], vec![0]));
    });
}

/// The front end takes a translation away while buffers are held ahead: they are given back first, and wait again.
#[test]
fn what_is_held_ahead_is_given_back_before_a_translation_goes() {
    each(|mut q| {
        let mut pump = RxPump::new(q.tlb.clone(), 16, rx_format(ACKED));
        for page in 0..2 {
            q.map(page);
            q.post(&[buffer(page, 0, 1024, true)]);
        }
        let dry = pump.pump(&mut q.device, &mut Inbox::default(), &mut Open, 64).unwrap();
        assert_eq!((dry.stop, pump.chains().len()), (RxStop::Dry, 2));
        pump.chains().rewind(&mut q.device);
        q.tlb.invalidate(IOVA, PAGE);
        let wait = pump.pump(&mut q.device, &mut Inbox::of([frame(60, 1)]), &mut Open, 64).unwrap();
        assert_eq!((wait.frames, wait.stop), (0, RxStop::Missing));
        assert_eq!(q.device.missing(), Some(Fault::missing(GuestAddr(IOVA), 1024, Access::Write)));
        q.map(0);
        let one = pump.pump(&mut q.device, &mut Inbox::of([frame(60, 1)]), &mut Open, 64).unwrap();
        assert_eq!((one.frames, one.stop), (1, RxStop::Dry));
        assert_eq!(q.reap(), [72]);
        assert_eq!(bytes(&q.plain, spot(0), 72)[HEADER..], frame(60, 1));
    });
}
