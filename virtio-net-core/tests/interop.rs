//! The published driver `virtio-drivers` on our device side: frames both ways, in every combination of ring features.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]
#![expect(unsafe_code, reason = "the other driver's traits and calls are unsafe")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use virtio_net_core::backend::{FrameSink, FrameSource, Placed, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::{RxFilter, RxPump};
use virtio_net_core::tx::{TxFilter, TxPump};
use virtio_net_core::{Features, NetHeader, rx_format, tx_format};
use virtio_ring::{
    Access, DeviceRing, GuestAddr, GuestMemory, HeapBlock, HeapMemory, MappedArea, QueueConfig, QueueState, SplitDevice,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const QUEUE: usize = 16;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const BASE: u64 = 0x10_0000;
const LEN: usize = 256 << 20;

/// The guest's memory: everything that the driver shares is copied into it and back.
fn memory() -> &'static HeapMemory {
    static MEMORY: OnceLock<HeapMemory> = OnceLock::new();
    MEMORY.get_or_init(|| HeapMemory::zeroed(GuestAddr(BASE), LEN).unwrap())
}

/// Guest addresses are given out once: the tests move less than there is.
fn take(len: usize) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(BASE);
    let at = NEXT.fetch_add(len.next_multiple_of(16) as u64, Ordering::Relaxed);
    assert!(at + len as u64 <= BASE + LEN as u64, "guest memory is used up");
    at
}

fn take_pages(pages: usize) -> u64 {
    take((pages + 1) * PAGE_SIZE).next_multiple_of(PAGE_SIZE as u64)
}

struct Guest;

// SAFETY: pages are given out once, zeroed, aligned, and live as long as the process; `share` copies.
unsafe impl Hal for Guest {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let at = take_pages(pages);
        let slice = memory().translate(GuestAddr(at), pages * PAGE_SIZE, Access::Write).unwrap();
        (at, NonNull::new(slice.as_ptr()).unwrap())
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, _vaddr: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        panic!("there is no MMIO here")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        let at = take(buffer.len());
        // SAFETY: the caller's contract: valid and not accessed by others during this call.
        let bytes = unsafe { buffer.as_ref() };
        let slice = memory().translate(GuestAddr(at), bytes.len(), Access::Write).unwrap();
        assert_eq!(slice.write(bytes), bytes.len());
        at
    }

    unsafe fn unshare(paddr: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: the caller's contract: valid and not accessed by others during this call.
            let bytes = unsafe { buffer.as_mut() };
            let slice = memory().translate(GuestAddr(paddr), bytes.len(), Access::Read).unwrap();
            assert_eq!(slice.read(bytes), bytes.len());
        }
    }
}

struct Queue<P> {
    ring: SplitDevice<MappedArea<std::sync::Arc<HeapBlock>>>,
    pump: P,
}

/// The host's side: our device.
#[derive(Default)]
struct Host {
    offered: u64,
    acked: u64,
    status: u32,
    configs: [QueueConfig; 2],
    rx: Option<Queue<RxPump<HeapMemory>>>,
    tx: Option<Queue<TxPump<HeapMemory>>>,
    /// Frames that the guest sent.
    sent: Vec<Vec<u8>>,
    /// Frames for the guest.
    inbox: VecDeque<Vec<u8>>,
    kicks: [u64; 2],
    calls: [u64; 2],
}

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

struct Wire<'a>(&'a mut Vec<Vec<u8>>);
impl FrameSink for Wire<'_> {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        for frame in burst.iter() {
            let mut bytes = vec![0; frame.len()];
            assert_eq!(frame.copy_to(&mut bytes), bytes.len());
            assert_eq!(frame.header, NetHeader::NONE);
            self.0.push(bytes);
        }
        Taken { count: burst.len(), failed: 0 }
    }
}

struct Inbox<'a>(&'a mut VecDeque<Vec<u8>>);
impl FrameSource for Inbox<'_> {
    type Error = Infallible;
    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        while let Some(frame) = self.0.front() {
            if room.put(&NetHeader::NONE, frame) == Placed::NoRoom {
                return Ok(Supply::More);
            }
            self.0.pop_front();
        }
        Ok(Supply::Dry)
    }
}

impl Host {
    fn start(&mut self) {
        let acked = Features::from_bits_retain(self.acked.into());
        let ring = |config: &QueueConfig| SplitDevice::new(memory(), config, QueueState::default()).unwrap();
        let mut configs = self.configs;
        for config in &mut configs {
            config.event_idx = acked.contains(Features::RING_EVENT_IDX);
            config.indirect = acked.contains(Features::RING_INDIRECT_DESC);
        }
        let pump = RxPump::new(memory().clone(), configs[0].size, rx_format(acked));
        self.rx = Some(Queue { ring: ring(&configs[0]), pump });
        self.tx = Some(Queue { ring: ring(&configs[1]), pump: TxPump::new(memory().clone(), tx_format(acked)) });
    }

    /// Serves both queues until they may sleep.
    fn serve(&mut self) {
        let Some(tx) = &mut self.tx else { return };
        loop {
            tx.ring.disarm();
            let done = tx.pump.pump(&mut tx.ring, &mut Wire(&mut self.sent), &mut Open, 64).unwrap();
            self.calls[1] += u64::from(done.notify.is_needed());
            if tx.ring.arm() {
                break;
            }
        }
        let Some(rx) = &mut self.rx else { return };
        loop {
            rx.ring.disarm();
            let done = rx.pump.pump(&mut rx.ring, &mut Inbox(&mut self.inbox), &mut Open, 64).unwrap();
            self.calls[0] += u64::from(done.notify.is_needed());
            if rx.ring.arm() {
                break;
            }
        }
    }
}

#[derive(Clone)]
struct Wires(Rc<RefCell<Host>>);

impl Transport for Wires {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }
    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().offered
    }
    fn write_driver_features(&mut self, driver_features: u64) {
        self.0.borrow_mut().acked = driver_features;
    }
    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        QUEUE as u32
    }
    fn notify(&mut self, queue: u16) {
        let mut host = self.0.borrow_mut();
        host.kicks[usize::from(queue)] += 1;
        host.serve();
    }
    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.0.borrow().status)
    }
    fn set_status(&mut self, status: DeviceStatus) {
        let mut host = self.0.borrow_mut();
        host.status = status.bits();
        if status.contains(DeviceStatus::DRIVER_OK) {
            host.start();
        }
    }
    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        false
    }
    fn queue_set(&mut self, queue: u16, size: u32, desc: PhysAddr, driver: PhysAddr, device: PhysAddr) {
        self.0.borrow_mut().configs[usize::from(queue)] = QueueConfig {
            size: size as u16,
            desc: GuestAddr(desc),
            driver: GuestAddr(driver),
            device: GuestAddr(device),
            ..QueueConfig::default()
        };
    }
    fn queue_unset(&mut self, _queue: u16) {}
    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.borrow().configs[usize::from(queue)].size != 0
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::QUEUE_INTERRUPT
    }
    fn read_config_generation(&self) -> u32 {
        0
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let mut space = [0; 12];
        space[..6].copy_from_slice(&MAC);
        space[6] = 1; // link up
        Ok(T::read_from_prefix(&space[offset..]).unwrap().0)
    }
    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _offset: usize,
        _value: T,
    ) -> virtio_drivers::Result<()> {
        Ok(())
    }
}

/// A frame that says where it belongs.
fn frame(n: u64) -> Vec<u8> {
    let len = 14 + (n as usize * 37) % 1501;
    (0..len).map(|i| (i as u64 * 7 + n * 31) as u8).collect()
}

type Driver = VirtIONetRaw<Guest, Wires, QUEUE>;

fn pair(extra: Features) -> (Rc<RefCell<Host>>, Driver) {
    let offered = Features::VERSION_1 | Features::MAC | Features::STATUS | extra;
    let host = Rc::new(RefCell::new(Host { offered: offered.bits() as u64, ..Host::default() }));
    let driver = Driver::new(Wires(Rc::clone(&host))).unwrap();
    assert_eq!(driver.mac_address(), MAC);
    assert_eq!(host.borrow().acked, host.borrow().offered, "the driver takes all of it");
    (host, driver)
}

fn combinations() -> [Features; 4] {
    let both = Features::RING_EVENT_IDX | Features::RING_INDIRECT_DESC;
    [Features::empty(), Features::RING_EVENT_IDX, Features::RING_INDIRECT_DESC, both]
}

#[test]
fn frames_from_their_driver_arrive_whole() {
    for features in combinations() {
        let (host, mut driver) = pair(features);
        let mut expected = Vec::new();
        // Header and frame in buffers of their own; the driver spins until the frame is used.
        for n in 0..300 {
            driver.send(&frame(n)).unwrap();
            expected.push(frame(n));
        }
        // Both in one buffer, several at once.
        for burst in 0..60 {
            let buffers: Vec<Vec<u8>> =
                (0..QUEUE as u64).map(|i| [vec![0; 12], frame(burst * 100 + i)].concat()).collect();
            // SAFETY: `buffers` is not touched until `transmit_complete`.
            let tokens: Vec<u16> = buffers.iter().map(|b| unsafe { driver.transmit_begin(b) }.unwrap()).collect();
            for (token, buffer) in tokens.iter().zip(&buffers) {
                assert_eq!(driver.poll_transmit(), Some(*token));
                // SAFETY: the buffer that this token was given for.
                assert_eq!(unsafe { driver.transmit_complete(*token, buffer) }, Ok(0));
                expected.push(buffer[12..].to_vec());
            }
        }
        let host = host.borrow();
        assert_eq!(host.sent.len(), expected.len());
        assert!(host.sent == expected, "{features:?}");
        assert!(host.kicks[1] > 0);
        let stats = host.tx.as_ref().unwrap().pump.stats();
        assert_eq!((stats.frames, stats.bad_chains, stats.bad_frames), (expected.len() as u64, 0, 0));
    }
}

#[test]
fn frames_to_their_driver_arrive_whole() {
    for features in combinations() {
        let (host, mut driver) = pair(features);
        let mut buffers: Vec<Vec<u8>> = vec![vec![0; 2048]; QUEUE];
        let mut posted = VecDeque::new();
        let mut got = 0;
        for n in 0..400_u64 {
            while let Some(mut buffer) = buffers.pop() {
                // SAFETY: the buffer is put away until `receive_complete`.
                let token = unsafe { driver.receive_begin(&mut buffer) }.unwrap();
                posted.push_back((token, buffer));
            }
            {
                let mut host = host.borrow_mut();
                for i in 0..=n % QUEUE as u64 {
                    host.inbox.push_back(frame(n + i));
                }
                host.serve();
                assert!(host.inbox.is_empty());
            }
            for i in 0..=n % QUEUE as u64 {
                let (token, mut buffer) = posted.pop_front().unwrap();
                assert_eq!(driver.poll_receive(), Some(token));
                // SAFETY: the buffer that this token was given for.
                let (header, len) = unsafe { driver.receive_complete(token, &mut buffer) }.unwrap();
                assert!(buffer[header..header + len] == frame(n + i), "{features:?}, frame {n} + {i}");
                assert_eq!(buffer[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "header with one buffer");
                buffers.push(buffer);
                got += 1;
            }
            assert_eq!(driver.poll_receive(), None);
        }
        let host = host.borrow();
        assert_eq!(host.rx.as_ref().unwrap().pump.stats().frames, got);
        assert!(host.calls[0] > 0);
    }
}
