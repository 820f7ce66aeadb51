//! A guest: memory, a queue pair with our own driver, and what a front end needs to say of both.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::MemfdFlags;
use vhost_glue::{Mapping, MemoryTable, RegionSpec};
use virtio_net_core::driver::{BufferPlan, NetDriver};
use virtio_net_core::{Features, NetHeader};
use virtio_ring::{
    Access, AnyDriver, DriverRing, Element, Format, GuestAddr, GuestMemory, MappedArea, QueueConfig, RegionMemory,
};

use super::front::{
    Front, SET_MEM_TABLE, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_KICK, SET_VRING_NUM, longs, words,
};
use super::until;

pub const BASE: u64 = 0x10_0000;
pub const SIZE: u64 = 8 << 20;
/// User addresses are guest addresses plus this.
pub const USER: u64 = 0x7f00_0000_0000;
pub const RING: u16 = 256;
/// Bytes between two rings.
const RING_SPACE: u64 = 0x1_0000;
/// Where the buffers of pair n begin: BASE + (n + 1) * this.
const BUFFERS: u64 = 0x18_0000;
pub const OWN: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

pub type Mem = RegionMemory<Arc<Mapping>>;
pub type Driver = NetDriver<AnyDriver<MappedArea<Arc<Mapping>>>, Mem>;

/// A file of guest memory.
pub fn memfd(size: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&fd, size).unwrap();
    fd
}

pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// The number written to an event descriptor since it was read last.
pub fn take(event: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    if rustix::io::read(event, &mut count).is_ok() { u64::from_ne_bytes(count) } else { 0 }
}

pub fn spec() -> RegionSpec {
    RegionSpec { guest: BASE, size: SIZE, user: BASE + USER, offset: 0 }
}

pub struct Guest {
    pub file: OwnedFd,
    pub mem: Mem,
    pub kicks: [OwnedFd; 2],
    pub calls: [OwnedFd; 2],
    pub driver: Driver,
    pub acked: Features,
    pub kicked: u64,
    /// First ring: 2 * pair.
    pub first: u32,
    pub sent: u64,
    pub received: u64,
}

/// The format that these features ask for.
pub fn format(acked: Features) -> Format {
    if acked.contains(Features::RING_PACKED) { Format::Packed } else { Format::Split }
}

/// The features that say what kind of ring it is.
const KIND: u64 = (Features::RING_PACKED.bits() | Features::IN_ORDER.bits()) as u64;
/// Every kind of ring.
pub const KINDS: [u64; 4] = [0, Features::IN_ORDER.bits() as u64, Features::RING_PACKED.bits() as u64, KIND];

/// The features `want`, with rings of this kind.
pub const fn with_kind(want: u64, kind: u64) -> u64 {
    want & !KIND | kind
}

/// What `GET_VRING_BASE` says, and `SET_VRING_BASE` sets, `slots` descriptors (split: chains) from the beginning.
pub fn place(acked: Features, slots: u64) -> u32 {
    if format(acked) == Format::Split {
        return u32::from(slots as u16);
    }
    let (lap, slot) = (slots / u64::from(RING), (slots % u64::from(RING)) as u32);
    let half = slot | if lap % 2 == 0 { 0x8000 } else { 0 };
    half << 16 | half
}

/// Geometry of ring `index`.
pub fn ring(index: u32, acked: Features) -> QueueConfig {
    let at = BASE + u64::from(index) * RING_SPACE;
    QueueConfig {
        size: RING,
        desc: GuestAddr(at),
        driver: GuestAddr(at + 0x4000),
        device: GuestAddr(at + 0x8000),
        event_idx: acked.contains(Features::RING_EVENT_IDX),
        indirect: acked.contains(Features::RING_INDIRECT_DESC),
        in_order: acked.contains(Features::IN_ORDER),
    }
}

impl Guest {
    /// A guest that acknowledged these bits.
    pub fn new(acked: u64) -> Self {
        Self::on(memfd(SIZE), acked, 0)
    }

    /// One queue pair of a guest whose memory is `file`.
    pub fn on(file: OwnedFd, acked: u64, pair: u32) -> Self {
        let acked = Features::from_bits_retain((acked & !super::front::PROTOCOL).into());
        let table = MemoryTable::new(&[spec()], vec![file.try_clone().unwrap()]).unwrap();
        let mem = table.memory().clone();
        let first = 2 * pair;
        let rings = [first, first + 1].map(|i| AnyDriver::new(&mem, format(acked), &ring(i, acked)).unwrap());
        let [rx, tx] = rings;
        let base = GuestAddr(BASE + BUFFERS * u64::from(pair + 1));
        let plan = BufferPlan { base, rx: RING, tx: RING, tx_frame: 2048 };
        let driver = NetDriver::new(mem.clone(), rx, tx, &plan, acked).unwrap();
        let (kicks, calls) = ([event(), event()], [event(), event()]);
        Self { file, mem, kicks, calls, driver, acked, kicked: 0, first, sent: 0, received: 0 }
    }

    /// The driver begins anew, with the same memory and descriptors.
    pub fn again(self) -> Self {
        let acked = self.acked.bits() as u64;
        let fresh = Self::on(self.file.try_clone().unwrap(), acked, self.first / 2);
        Self { kicks: self.kicks, calls: self.calls, ..fresh }
    }

    pub fn mem_table(&self) -> Vec<u8> {
        let mut body = words(&[1, 0]);
        body.extend(longs(&[BASE, SIZE, BASE + USER, 0]));
        body
    }

    pub fn send_mem_table(&self, front: &Front) {
        front.tell(SET_MEM_TABLE, &self.mem_table(), &[self.file.as_fd()]);
    }

    /// The payload of `SET_VRING_ADDR`.
    pub fn addresses(&self, index: u32, log: u64) -> Vec<u8> {
        let config = ring(index, self.acked);
        let mut body = words(&[index, 0]);
        body.extend(longs(&[config.desc.0 + USER, config.device.0 + USER, config.driver.0 + USER, log]));
        body
    }

    pub fn event_message(&self, front: &Front, request: u32, index: u32, fd: BorrowedFd<'_>) {
        front.tell(request, &longs(&[index.into()]), &[fd]);
    }

    /// Number, base and addresses of one ring, and its call descriptor.
    pub fn describe(&self, front: &Front, index: u32, base: u32) {
        front.tell(SET_VRING_NUM, &words(&[index, RING.into()]), &[]);
        front.tell(SET_VRING_BASE, &words(&[index, base]), &[]);
        front.tell(SET_VRING_ADDR, &self.addresses(index, 0), &[]);
        self.send_call(front, index);
    }

    pub fn send_call(&self, front: &Front, index: u32) {
        self.event_message(front, SET_VRING_CALL, index, self.calls[(index & 1) as usize].as_fd());
    }

    pub fn send_kick(&self, front: &Front, index: u32) {
        self.event_message(front, SET_VRING_KICK, index, self.kicks[(index & 1) as usize].as_fd());
    }

    /// Both rings, from their beginning, enabled if the protocol's bit was acknowledged.
    pub fn start(&self, front: &Front, enable: bool) {
        self.send_mem_table(front);
        for index in [self.first, self.first + 1] {
            self.describe(front, index, place(self.acked, 0));
            self.send_kick(front, index);
            if enable {
                front.enable(index, true);
            }
        }
    }

    /// Makes all visible, and kicks if the device wants that.
    pub fn flush(&mut self) {
        let (rx, tx) = self.driver.flush();
        for (wanted, kick) in [rx, tx].into_iter().zip(&self.kicks) {
            if wanted.is_needed() {
                self.kicked += 1;
                rustix::io::write(kick, &1_u64.to_ne_bytes()).unwrap();
            }
        }
    }

    fn frame(number: u64, len: usize) -> Vec<u8> {
        let mut frame = vec![0; len];
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        frame[6..12].copy_from_slice(&OWN);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        frame[14..22].copy_from_slice(&number.to_le_bytes());
        for (i, byte) in frame[22..].iter_mut().enumerate() {
            *byte = (number as usize + i) as u8;
        }
        frame
    }

    /// Sends as many frames of this length as fit, at most `count`; returns how many.
    pub fn send(&mut self, count: u64, len: usize) -> u64 {
        for n in 0..count {
            let frame = Self::frame(self.sent, len);
            if !self.driver.send(&NetHeader::NONE, &frame).unwrap() {
                self.flush();
                return n;
            }
            self.sent += 1;
        }
        self.flush();
        count
    }

    /// Takes what came and checks it; returns how many frames.
    pub fn receive(&mut self, len: usize) -> u64 {
        let mut count = 0;
        while let Some((_, frame)) = self.driver.receive().unwrap() {
            let mut expected = Self::frame(self.received, len);
            let (to, rest) = expected.split_at_mut(6);
            to.swap_with_slice(&mut rest[..6]);
            assert!(frame == expected, "frame {} is another one", self.received);
            self.received += 1;
            count += 1;
        }
        self.flush();
        count
    }

    /// Forgets about frames that were lost.
    pub fn forget(&mut self) {
        self.received = self.sent;
    }

    /// Sends `count` frames and gets them all back.
    pub fn exchange(&mut self, count: u64, len: usize) {
        let (mut sent, mut got) = (0, 0);
        until("frames come back", || {
            sent += self.send((count - sent).min(32), len);
            got += self.receive(len);
            got == count
        });
    }
}

/// After 10 frames: more chains than the ring holds, or one that never ends.
pub fn break_transmit_ring(guest: &Guest) {
    let config = ring(1, guest.acked);
    let write = |addr: u64, bytes: &[u8]| {
        guest.mem.translate(GuestAddr(addr), bytes.len(), Access::Write).unwrap().write(bytes);
    };
    if format(guest.acked) == Format::Split {
        return write(config.driver.0 + 2, &2000_u16.to_le_bytes());
    }
    // NEXT and AVAIL, of the first lap; the slot that the device looks at last of all.
    let flags = 0x81_u16.to_le_bytes();
    (11..=RING).chain(0..=10).for_each(|slot| write(config.desc.0 + u64::from(slot % RING) * 16 + 14, &flags));
}

/// The control queue's driver.
pub struct Control {
    mem: Mem,
    ring: AnyDriver<MappedArea<Arc<Mapping>>>,
    kick: OwnedFd,
}

impl Control {
    /// Where commands are.
    const COMMAND: u64 = BASE + 0xf_0000;
    const INDEX: u32 = 4;

    pub fn new(guest: &Guest) -> Self {
        let ring = AnyDriver::new(&guest.mem, format(guest.acked), &ring(Self::INDEX, guest.acked)).unwrap();
        Self { mem: guest.mem.clone(), ring, kick: event() }
    }

    pub fn start(&self, front: &Front, guest: &Guest, index: u32) {
        self.start_at(front, guest, index, place(guest.acked, 0));
    }

    pub fn start_at(&self, front: &Front, guest: &Guest, index: u32, base: u32) {
        front.tell(SET_VRING_NUM, &words(&[index, RING.into()]), &[]);
        front.tell(SET_VRING_BASE, &words(&[index, base]), &[]);
        front.tell(SET_VRING_ADDR, &guest.addresses(index, 0), &[]);
        guest.event_message(front, SET_VRING_KICK, index, self.kick.as_fd());
        front.enable(index, true);
    }

    /// Sends one command; returns the answer.
    pub fn command(&mut self, bytes: &[u8]) -> u8 {
        let at = |offset| GuestAddr(Self::COMMAND + offset);
        self.mem.translate(at(0), bytes.len(), Access::Write).unwrap().write(bytes);
        self.mem.translate(at(64), 1, Access::Write).unwrap().write(&[0xee]);
        let readable = Element { addr: at(0), len: bytes.len() as u32, writable: false };
        let writable = Element { addr: at(64), len: 1, writable: true };
        self.ring.add(&[readable, writable]).unwrap();
        if self.ring.flush().is_needed() {
            rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).unwrap();
        }
        until("the command is answered", || self.ring.poll_used().unwrap().is_some());
        let mut answer = [0];
        self.mem.translate(at(64), 1, Access::Read).unwrap().read(&mut answer);
        answer[0]
    }
}
