//! The control queue on a ring in memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test"
)]

use proptest::prelude::*;
use virtio_net_core::ctrl::{Ack, CtrlHandler, CtrlPump, CtrlStats, MAX_COMMAND, Reply};
use virtio_ring::{
    Access, DeviceRing, DriverRing, Element, GuestAddr, GuestMemory, HeapMemory, Notify, QueueConfig, QueueState,
    SplitDevice, SplitDriver, SplitSizes,
};

type Area = <HeapMemory as GuestMemory>::Area;

const TABLES: u64 = 0x1_0000;
const DATA: u64 = 0x10_0000;
const ACK: u64 = 0x18_0000;
const SIZE: u16 = 64;

/// Keeps what it was told; refuses class 0xee.
#[derive(Default)]
struct Log(Vec<(u8, u8, Vec<u8>)>);

impl CtrlHandler for Log {
    fn handle(&mut self, class: u8, cmd: u8, data: &[u8], _reply: &mut Reply) -> Ack {
        self.0.push((class, cmd, data.to_vec()));
        if class == 0xee { Ack::Err } else { Ack::Ok }
    }
}

struct Rig {
    mem: HeapMemory,
    driver: SplitDriver<Area>,
    device: SplitDevice<Area>,
    pump: CtrlPump<HeapMemory>,
    log: Log,
}

impl Rig {
    fn new(indirect: bool) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 2 << 20).unwrap();
        let sizes = SplitSizes::new(SIZE);
        let driver = 0x1000 + sizes.desc as u64;
        let config = QueueConfig {
            size: SIZE,
            desc: GuestAddr(0x1000),
            driver: GuestAddr(driver),
            device: GuestAddr((driver + sizes.driver as u64).next_multiple_of(4)),
            event_idx: false,
            indirect,
            in_order: false,
        };
        let mut driver = SplitDriver::new(&mem, &config).unwrap();
        if indirect {
            driver = driver.with_indirect(&mem, GuestAddr(TABLES), 64).unwrap();
        }
        Self {
            driver,
            device: SplitDevice::new(&mem, &config, QueueState::default()).unwrap(),
            pump: CtrlPump::new(mem.clone()),
            mem,
            log: Log::default(),
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let place = self.mem.translate(GuestAddr(at), bytes.len(), Access::Write).unwrap();
        assert_eq!(place.write(bytes), bytes.len());
    }

    fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.mem.translate(GuestAddr(at), N, Access::Read).unwrap().read(&mut bytes);
        bytes
    }

    /// Sends one chain: readable lengths in front of each other from `DATA` on, writable ones from `ACK` on.
    fn send(&mut self, readable: &[u32], writable: &[u32]) -> u32 {
        let mut elements = Vec::new();
        for (lengths, from, writable) in [(readable, DATA, false), (writable, ACK, true)] {
            let mut at = from;
            for len in lengths {
                elements.push(Element { addr: GuestAddr(at), len: *len, writable });
                at += u64::from(*len);
            }
        }
        self.driver.add(&elements).unwrap();
        assert_eq!(self.driver.flush(), Notify::Needed);
        let outcome = self.pump.pump(&mut self.device, &mut self.log, 16).unwrap();
        assert_eq!((outcome.chains, outcome.notify, outcome.more), (1, Notify::Needed, false));
        self.driver.poll_used().unwrap().unwrap().len
    }
}

/// DPDK 6ec1778134, Cloud Hypervisor's control queue: no framing is assumed, and the length is exact.
#[test]
fn s1_s6_a_command_is_carried_out_however_it_is_cut() {
    let command = [4, 0, 2, 0];
    let readable: [&[u32]; 7] = [&[4], &[2, 2], &[1, 1, 2], &[1, 1, 1, 1], &[3, 1], &[0, 2, 0, 2, 0], &[1, 3]];
    let writable: [&[u32]; 5] = [&[1], &[0, 1], &[2], &[1, 1], &[0, 0, 8]];
    for indirect in [false, true] {
        let mut rig = Rig::new(indirect);
        rig.write(DATA, &command);
        for r in readable {
            for w in writable {
                rig.write(ACK, &[0xaa; 16]);
                assert_eq!(rig.send(r, w), 1, "{r:?} {w:?}");
                let mut expected = [0xaa; 16];
                expected[0] = 0;
                assert_eq!(rig.read::<16>(ACK), expected, "one byte is written, and no other");
                assert_eq!(rig.log.0.pop(), Some((4, 0, vec![2, 0])));
                assert!(rig.log.0.is_empty());
            }
        }
        let done = (readable.len() * writable.len()) as u64;
        assert_eq!(*rig.pump.stats(), CtrlStats { done, refused: 0, bad_chains: 0 });
    }
}

#[test]
fn a_refused_command_is_answered() {
    let mut rig = Rig::new(false);
    rig.write(DATA, &[0xee, 7]);
    rig.write(ACK, &[0xaa; 2]);
    assert_eq!(rig.send(&[2], &[1]), 1);
    assert_eq!(rig.read::<2>(ACK), [1, 0xaa]);
    assert_eq!(rig.log.0, [(0xee, 7, vec![])]);
    assert_eq!(*rig.pump.stats(), CtrlStats { done: 0, refused: 1, bad_chains: 0 });
}

/// VirtualBox CVE-2023-22098, OpenBSD vmd 0759b25: lengths of the guest's choice.
#[test]
fn a_command_that_is_too_short_or_too_long_is_refused_and_not_carried_out() {
    let mut rig = Rig::new(false);
    for len in [0, 1, MAX_COMMAND as u32 + 3, 0x8_0000] {
        rig.write(ACK, &[0xaa]);
        assert_eq!(rig.send(&[len], &[1]), 1, "{len}");
        assert_eq!(rig.read::<1>(ACK), [1], "{len}");
    }
    rig.write(ACK, &[0xaa]);
    assert_eq!(rig.send(&[], &[1]), 1);
    assert_eq!(rig.read::<1>(ACK), [1]);
    assert!(rig.log.0.is_empty());
    assert_eq!(rig.pump.stats().refused, 5);

    for len in [2, 3, MAX_COMMAND + 2] {
        assert_eq!(rig.send(&[len as u32], &[1]), 1);
        assert_eq!(rig.read::<1>(ACK), [0]);
        assert_eq!(rig.log.0.pop().unwrap().2.len(), len - 2);
    }
}

#[test]
fn without_room_for_an_answer_nothing_is_done() {
    let mut rig = Rig::new(false);
    rig.write(DATA, &[4, 0, 2, 0]);
    for writable in [&[][..], &[0], &[0, 0]] {
        assert_eq!(rig.send(&[4], writable), 0);
    }
    assert!(rig.log.0.is_empty());
    assert_eq!(*rig.pump.stats(), CtrlStats { done: 0, refused: 0, bad_chains: 3 });
}

#[test]
fn a_chain_outside_of_memory_is_given_back_empty() {
    let mut rig = Rig::new(false);
    for (addr, writable) in [(u64::MAX - 1, false), (u64::MAX - 1, true), (2 << 20, true)] {
        let data = Element { addr: GuestAddr(DATA), len: 2, writable: false };
        let bad = Element { addr: GuestAddr(addr), len: 2, writable };
        rig.driver.add(&[data, bad]).unwrap();
        assert!(rig.driver.flush().is_needed());
        rig.pump.pump(&mut rig.device, &mut rig.log, 16).unwrap();
        assert_eq!(rig.driver.poll_used().unwrap().unwrap().len, 0);
    }
    assert!(rig.log.0.is_empty());
    assert_eq!(rig.pump.stats().bad_chains, 3);
}

/// Linux CVE-2019-3900: a queue that is always full does not keep the device forever, and nothing is lost.
#[test]
fn a_full_queue_is_served_within_the_budget_in_order() {
    let mut rig = Rig::new(false);
    let mut sent = 0_u8;
    let mut seen = 0;
    for round in 0..200 {
        while sent < 200 && rig.driver.free_slots() >= 2 {
            let at = DATA + u64::from(sent) * 8;
            rig.write(at, &[sent, 1]);
            let command = Element { addr: GuestAddr(at), len: 2, writable: false };
            let ack = Element { addr: GuestAddr(ACK + u64::from(sent)), len: 1, writable: true };
            rig.driver.add(&[command, ack]).unwrap();
            sent += 1;
        }
        let _ = rig.driver.flush();
        let budget = round % 7;
        let outcome = rig.pump.pump(&mut rig.device, &mut rig.log, budget).unwrap();
        assert!(outcome.chains <= budget);
        assert_eq!(outcome.more, outcome.chains == budget);
        while let Some(used) = rig.driver.poll_used().unwrap() {
            assert_eq!(used.len, 1);
            seen += 1;
        }
        assert_eq!(seen, rig.log.0.len(), "each is visible as soon as it is carried out");
    }
    assert_eq!(rig.log.0.iter().map(|c| c.0).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_broken_ring_is_reported_once_and_what_came_before_is_published() {
    let mut rig = Rig::new(false);
    rig.write(DATA, &[1, 1]);
    let command = Element { addr: GuestAddr(DATA), len: 2, writable: false };
    let ack = Element { addr: GuestAddr(ACK), len: 1, writable: true };
    rig.driver.add(&[command, ack]).unwrap();
    let _ = rig.driver.flush();
    // The available ring: entry 1 names a descriptor that is not there, and the index says that it is available.
    let avail = 0x1000 + u64::from(SIZE) * 16;
    rig.write(avail + 4 + 2, &SIZE.to_le_bytes());
    rig.write(avail + 2, &2_u16.to_le_bytes());
    let error = rig.pump.pump(&mut rig.device, &mut rig.log, 16).unwrap_err();
    assert_eq!(error.1, Notify::Needed);
    assert!(rig.device.fault().is_some());
    assert_eq!(rig.log.0.len(), 1);
    assert_eq!(rig.driver.poll_used().unwrap().unwrap().len, 1);
    let quiet = rig.pump.pump(&mut rig.device, &mut rig.log, 16).unwrap();
    assert_eq!((quiet.chains, quiet.notify), (0, Notify::Suppressed));
}

proptest! {
    #[test]
    fn s1_any_cut_of_any_command_gives_the_same(
        command in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(0..40_u32, 0..40),
        writable in prop::collection::vec(0..3_u32, 0..4),
        indirect: bool,
    ) {
        let mut rig = Rig::new(indirect);
        rig.write(DATA, &command);
        let mut readable = Vec::new();
        let mut left = command.len() as u32;
        for cut in cuts {
            readable.push(cut.min(left));
            left -= cut.min(left);
        }
        readable.push(left);
        let room = writable.iter().sum::<u32>();
        let used = rig.send(&readable, &writable);
        match (room, command.as_slice()) {
            (0, _) => prop_assert_eq!((used, rig.log.0.len()), (0, 0)),
            (_, [class, cmd, data @ ..]) => {
                prop_assert_eq!(used, 1);
                prop_assert_eq!(&rig.log.0, &[(*class, *cmd, data.to_vec())]);
                prop_assert_eq!(rig.read::<1>(ACK), [u8::from(*class == 0xee)]);
            }
            _ => prop_assert_eq!((used, rig.read::<1>(ACK), rig.log.0.len()), (1, [1], 0)),
        }
    }
}
