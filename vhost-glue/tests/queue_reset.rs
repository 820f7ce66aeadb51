//! `VIRTIO_F_RING_RESET` in a session: a front end stops one ring by `GET_VRING_BASE`, its driver takes everything back
//! and sets it up anew, smaller or larger and elsewhere, while the other ring of the pair goes on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::back::{Back, finish};
use support::front::{
    Front, GET_FEATURES, GET_STATUS, REPLY_ACK, SET_MEM_TABLE, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL,
    SET_VRING_KICK, SET_VRING_NUM, STATUS, longs, words,
};
use support::guest::{BASE, KINDS, Mem, OWN, SIZE, USER, event, format, memfd, spec, with_kind};
use support::port::ROOM;
use support::{alone, until};
use vhost_glue::{DeviceConfig, Mapping, MemoryTable};
use virtio_net_core::Features;
use virtio_ring::{
    Access, AnyDriver, DriverRing, Element, Format, GuestAddr, GuestMemory, Handle, MappedArea, QueueConfig,
};

/// Not acknowledged here, nor hashes of tunnels, which need it: headers have 12 bytes.
const HASHES: u64 = 1 << 57 | 1 << 51;

const RX: usize = 0;
const TX: usize = 1;
const RESET_BIT: u64 = 1 << 40;
/// Bytes of a frame, and of the header before it.
const FRAME: usize = 60;
const HEADER: usize = 12;
/// Bytes between two buffers.
const STEP: u64 = 256;

fn resettable() -> Back {
    Back::with(DeviceConfig { ring_reset: true, ..DeviceConfig::default() })
}

/// One ring and the buffers in it.
struct Ring {
    driver: AnyDriver<MappedArea<Arc<Mapping>>>,
    config: QueueConfig,
    /// Buffer of each chain that is out.
    out: BTreeMap<u16, u64>,
    free: Vec<u64>,
}

impl Ring {
    /// At place `place`, with buffers of its own.
    fn new(mem: &Mem, acked: Features, size: u16, place: u64) -> Self {
        let (config, end) = format(acked).layout(GuestAddr(BASE + place * 0x10_0000), size);
        let config = QueueConfig {
            event_idx: acked.contains(Features::RING_EVENT_IDX),
            indirect: acked.contains(Features::RING_INDIRECT_DESC),
            in_order: acked.contains(Features::IN_ORDER),
            ..config
        };
        let first = end.0.next_multiple_of(4096);
        let free = (0..u64::from(size)).map(|i| first + i * STEP).collect();
        Self { driver: AnyDriver::new(mem, format(acked), &config).unwrap(), config, out: BTreeMap::new(), free }
    }

    fn add(&mut self, buffer: u64, len: usize, writable: bool) {
        let element = Element { addr: GuestAddr(buffer), len: len as u32, writable };
        let Handle(id) = self.driver.add(&[element]).unwrap();
        assert!(self.out.insert(id, buffer).is_none());
    }

    /// The next buffer that was used, and how long it is.
    fn reap(&mut self) -> Option<(u64, u32)> {
        let used = self.driver.poll_used().unwrap()?;
        Some((self.out.remove(&used.handle.0).unwrap(), used.len))
    }

    /// The driver's part of a reset: everything comes back; how many buffers.
    fn reset(&mut self) -> usize {
        let before = self.out.len();
        let (out, free) = (&mut self.out, &mut self.free);
        self.driver.reset(|Handle(id)| free.push(out.remove(&id).unwrap()));
        assert!(out.is_empty());
        before
    }

    /// All bytes that the device may write: the ring, and the buffers behind it.
    fn bytes(&self, mem: &Mem) -> Vec<u8> {
        let len = 0x3_0000;
        let mut all = vec![0; len];
        mem.translate(self.config.desc, len, Access::Read).unwrap().read(&mut all);
        all
    }
}

struct Guest {
    file: OwnedFd,
    mem: Mem,
    acked: Features,
    rings: [Ring; 2],
    kicks: [OwnedFd; 2],
    calls: [OwnedFd; 2],
    sent: u64,
    received: u64,
}

impl Guest {
    fn start(front: &mut Front, acked: u64) -> Self {
        let acked = Features::from_bits_retain((acked & !support::front::PROTOCOL).into());
        let file = memfd(SIZE);
        let mem = MemoryTable::new(&[spec()], vec![file.try_clone().unwrap()]).unwrap().memory().clone();
        let rings = [Ring::new(&mem, acked, 16, 0), Ring::new(&mem, acked, 16, 1)];
        let events = || [event(), event()];
        let mut guest = Self { file, mem, acked, rings, kicks: events(), calls: events(), sent: 0, received: 0 };
        guest.post();
        let table = [words(&[1, 0]), longs(&[BASE, SIZE, BASE + USER, 0])].concat();
        front.tell(SET_MEM_TABLE, &table, &[guest.file.as_fd()]);
        guest.set_up(front, RX);
        guest.set_up(front, TX);
        guest
    }

    /// What a front end says of a ring that the driver has enabled, in the order in which QEMU does.
    fn set_up(&self, front: &mut Front, which: usize) {
        let (index, config) = (which as u32, self.rings[which].config);
        let start = format(self.acked).start().0;
        front.tell(SET_VRING_NUM, &words(&[index, config.size.into()]), &[]);
        front.tell(SET_VRING_BASE, &words(&[index, start]), &[]);
        let mut addresses = words(&[index, 0]);
        addresses.extend(longs(&[config.desc.0 + USER, config.device.0 + USER, config.driver.0 + USER, 0]));
        front.tell(SET_VRING_ADDR, &addresses, &[]);
        front.tell(SET_VRING_KICK, &longs(&[index.into()]), &[self.kicks[which].as_fd()]);
        front.tell(SET_VRING_CALL, &longs(&[index.into()]), &[self.calls[which].as_fd()]);
        front.enable(index, true);
        // Disabled, a transmit ring loses what is sent.
        front.settle();
    }

    fn flush(&mut self, which: usize) {
        if self.rings[which].driver.flush().is_needed() {
            rustix::io::write(&self.kicks[which], &1_u64.to_ne_bytes()).unwrap();
        }
    }

    /// Posts every receive buffer that there is.
    fn post(&mut self) {
        let ring = &mut self.rings[RX];
        while let Some(buffer) = ring.free.pop() {
            ring.add(buffer, STEP as usize, true);
        }
        self.flush(RX);
    }

    /// Sends frames as long as there is room, at most `count`; returns how many.
    fn send(&mut self, count: u64) -> u64 {
        while let Some((buffer, _)) = self.rings[TX].reap() {
            self.rings[TX].free.push(buffer);
        }
        let mut done = 0;
        while done < count
            && let Some(buffer) = self.rings[TX].free.pop()
        {
            let mut frame = [0; HEADER + FRAME];
            frame[HEADER..HEADER + 6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
            frame[HEADER + 6..HEADER + 12].copy_from_slice(&OWN);
            frame[HEADER + 12..HEADER + 14].copy_from_slice(&[0x88, 0xb5]);
            frame[HEADER + 14..HEADER + 22].copy_from_slice(&self.sent.to_le_bytes());
            self.mem.translate(GuestAddr(buffer), frame.len(), Access::Write).unwrap().write(&frame);
            self.rings[TX].add(buffer, frame.len(), false);
            self.sent += 1;
            done += 1;
        }
        self.flush(TX);
        done
    }

    /// Takes what came, each frame once and in order, and posts the buffers again; returns how many.
    fn receive(&mut self) -> u64 {
        let count = self.receive_without_posting();
        self.post();
        count
    }

    fn receive_without_posting(&mut self) -> u64 {
        let before = self.received;
        while let Some((buffer, len)) = self.rings[RX].reap() {
            let mut frame = [0; HEADER + FRAME];
            assert_eq!(len as usize, frame.len());
            self.mem.translate(GuestAddr(buffer), frame.len(), Access::Read).unwrap().read(&mut frame);
            let number = u64::from_le_bytes(frame[HEADER + 14..HEADER + 22].try_into().unwrap());
            assert_eq!(number, self.received, "in order, none lost, none twice");
            self.received += 1;
            self.rings[RX].free.push(buffer);
        }
        self.received - before
    }

    /// Sends `count` frames and gets back all that are on their way.
    fn exchange(&mut self, count: u64) {
        let end = self.sent + count;
        until("frames come back", || {
            self.send(end - self.sent);
            self.receive();
            self.received == end
        });
    }
}

fn taken(back: &Back) -> u64 {
    back.seen.taken.load(Ordering::SeqCst)
}

#[test]
fn the_bit_is_offered_to_front_ends_that_are_said_to_know_it() {
    let _alone = alone();
    for (back, offered) in [(Back::new(1), 0), (resettable(), RESET_BIT)] {
        let mut front = Front::new(back.connect());
        assert_eq!(front.number(GET_FEATURES) & RESET_BIT, offered);
        finish(&back, front);
    }
}

#[test]
fn g9_g10_a_receive_ring_is_reset_while_the_transmit_ring_goes_on() {
    let _alone = alone();
    for kind in KINDS {
        let back = resettable();
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(with_kind(!HASHES, kind), REPLY_ACK);
        assert_ne!(acked & RESET_BIT, 0);
        let mut guest = Guest::start(&mut front, acked);
        for (round, size) in [4_u16, 64, 16, 1, 256].into_iter().enumerate() {
            guest.exchange(100);
            // On its way when the reset comes.
            guest.send(7);
            front.vring_base(RX as u32);
            assert!(!back.stats.snapshot().pairs[0].rx_ring.started);
            // What came before is taken; what the device held ahead is not.
            guest.receive_without_posting();
            let quiet = guest.rings[RX].bytes(&guest.mem);
            let before = taken(&back);
            let mut sent = 0;
            until("the transmit ring goes on", || {
                sent += guest.send(30 - sent);
                sent == 30 && taken(&back) >= before + 23
            });
            assert!(back.stats.snapshot().pairs[0].tx_ring.started);
            assert!(guest.rings[RX].bytes(&guest.mem) == quiet, "nobody touches a ring that is reset");
            let posted = guest.rings[RX].config.size;
            assert!(guest.rings[RX].reset() > 0 || posted <= 7, "seven frames came at most");
            // Smaller, larger, elsewhere.
            guest.rings[RX] = Ring::new(&guest.mem, guest.acked, size, [2, 3][round % 2]);
            guest.post();
            guest.set_up(&mut front, RX);
            until("what waited comes, in order", || {
                guest.receive();
                guest.received == guest.sent
            });
            assert_eq!(back.stats.snapshot().pairs[0].rx_ring.size, size);
        }
        guest.exchange(1000);
        finish(&back, front);
    }
}

#[test]
fn g9_g10_a_transmit_ring_is_reset_while_the_receive_ring_goes_on() {
    let _alone = alone();
    for kind in KINDS {
        let back = resettable();
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(with_kind(!HASHES, kind), REPLY_ACK);
        let mut guest = Guest::start(&mut front, acked);
        for (round, size) in [4_u16, 64, 16, 1, 256].into_iter().enumerate() {
            guest.exchange(100);
            // Nobody receives: the receive ring fills up, then the host end, then frames wait in the transmit ring.
            until("the host end is full", || {
                guest.send(1);
                // A frame in every posted buffer, and in every place of the host end; and one more.
                let taken = taken(&back);
                taken - guest.received == (guest.rings[RX].out.len() + ROOM) as u64 && guest.sent > taken
            });
            front.vring_base(TX as u32);
            assert!(!back.stats.snapshot().pairs[0].tx_ring.started);
            while let Some((buffer, _)) = guest.rings[TX].reap() {
                guest.rings[TX].free.push(buffer);
            }
            let before = taken(&back);
            let quiet = guest.rings[TX].bytes(&guest.mem);
            let lost = guest.rings[TX].out.len() as u64;
            assert!(lost > 0 && before + lost == guest.sent, "what was not taken is still in the ring");
            // The receive ring goes on.
            let on_the_way = before - guest.received;
            let mut got = 0;
            until("what the host end holds comes", || {
                got += guest.receive();
                got == on_the_way
            });
            assert!(guest.rings[TX].bytes(&guest.mem) == quiet, "nobody touches a ring that is reset");
            assert_eq!(taken(&back), before);
            assert_eq!(guest.rings[TX].reset() as u64, lost);
            // What the device did not take is sent again by whoever wants to.
            guest.sent = before;
            guest.rings[TX] = Ring::new(&guest.mem, guest.acked, size, [2, 3][round % 2]);
            guest.set_up(&mut front, TX);
            guest.exchange(100);
            assert_eq!(back.stats.snapshot().pairs[0].tx_ring.size, size);
        }
        finish(&back, front);
    }
}

/// A ring that the driver broke is mended by the reset of that ring alone.
#[test]
fn a_reset_mends_a_broken_ring() {
    const NEEDS_RESET: u64 = 64;
    let _alone = alone();
    for kind in KINDS {
        let back = resettable();
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(with_kind(!HASHES, kind), REPLY_ACK | STATUS);
        let mut guest = Guest::start(&mut front, acked);
        guest.exchange(10);
        let config = guest.rings[TX].config;
        let poke = |at: u64, bytes: &[u8]| {
            guest.mem.translate(GuestAddr(at), bytes.len(), Access::Write).unwrap().write(bytes);
        };
        match format(guest.acked) {
            Format::Split => poke(config.driver.0 + 2, &5000_u16.to_le_bytes()),
            // Available on the first lap, and on to the next, without an end.
            Format::Packed => {
                for slot in 0..u64::from(config.size) {
                    let flags: u16 = if slot < 10 { 1 | 1 << 15 } else { 1 | 1 << 7 };
                    poke(config.desc.0 + 16 * slot + 14, &flags.to_le_bytes());
                }
            }
        }
        rustix::io::write(&guest.kicks[TX], &1_u64.to_ne_bytes()).unwrap();
        until("the ring is broken", || back.stats.snapshot().pairs[0].tx_ring.fault.is_some());
        assert_eq!(front.number(GET_STATUS) & NEEDS_RESET, NEEDS_RESET);
        front.vring_base(TX as u32);
        guest.rings[TX].reset();
        guest.rings[TX] = Ring::new(&guest.mem, guest.acked, 32, 1);
        guest.set_up(&mut front, TX);
        front.settle();
        assert_eq!(front.number(GET_STATUS) & NEEDS_RESET, 0);
        guest.exchange(100);
        finish(&back, front);
    }
}
