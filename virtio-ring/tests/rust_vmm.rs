//! The same memory with rust-vmm's `virtio-queue` on the other side.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod common;

use std::sync::Arc;

use common::guest::{BUFFER, INDIRECT, NEXT, RING, RawRing, TABLE, WRITE, config, descriptor, poke};
use proptest::prelude::*;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use virtio_ring::{
    ChainFault, ChainSink, DeviceRing, DriverRing, Element, GuestAddr, MappedArea, Notify, QueueConfig, QueueState,
    Region, RegionMemory, SplitDevice, SplitDriver, Used,
};
use vm_memory::{Address as _, Bytes, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};

type Ours = RegionMemory<Arc<GuestMemoryMmap>>;
type Area = MappedArea<Arc<GuestMemoryMmap>>;

/// Where their mock driver puts indirect tables.
const MOCK_TABLES: u64 = 0x3000_0000;

/// One memory for both.
#[expect(unsafe_code, reason = "names host memory by its address")]
fn memory() -> (Arc<GuestMemoryMmap>, Ours) {
    let ranges = [(GuestAddress(0), 0x40_0000), (GuestAddress(MOCK_TABLES), 0x1_0000)];
    let theirs: Arc<GuestMemoryMmap> = Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
    let regions = theirs.iter().map(|r| {
        let (guest, len) = (GuestAddr(r.start_addr().0), r.len() as usize);
        let host = r.get_host_address(vm_memory::MemoryRegionAddress(0)).unwrap();
        // SAFETY: the clone of the `Arc` keeps the region mapped; their crate makes no reference to its bytes either.
        unsafe { Region::new(guest, len, host, Arc::clone(&theirs)) }.unwrap()
    });
    let ours = RegionMemory::new(regions.collect()).unwrap();
    (theirs, ours)
}

fn their_queue(config: &QueueConfig) -> Queue {
    let mut queue = Queue::new(config.size).unwrap();
    queue.set_size(config.size);
    let halves = |a: GuestAddr| (Some(a.0 as u32), Some((a.0 >> 32) as u32));
    let (low, high) = halves(config.desc);
    queue.set_desc_table_address(low, high);
    let (low, high) = halves(config.driver);
    queue.set_avail_ring_address(low, high);
    let (low, high) = halves(config.device);
    queue.set_used_ring_address(low, high);
    queue.set_event_idx(config.event_idx);
    queue.set_ready(true);
    queue
}

/// Chains of random buffers, readable ones first.
fn chain(most: usize) -> impl Strategy<Value = Vec<Element>> {
    let one = (0..0x1000_u64, 1..3000_u32);
    (prop::collection::vec(one, 1..=most), 0..=most).prop_map(|(all, readable)| {
        let element = |(i, (at, len))| Element { addr: GuestAddr(BUFFER + at), len, writable: i >= readable };
        all.into_iter().enumerate().map(element).collect()
    })
}

fn room(elements: &[Element]) -> u32 {
    elements.iter().filter(|e| e.writable).map(|e| e.len).sum()
}

#[derive(Default)]
struct List(Vec<Element>);
impl ChainSink for List {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        self.0.push(e);
        Ok(())
    }
}

/// Our driver, their device: bursts of chains, each answered in a burst, in reverse order.
fn our_driver(config: &QueueConfig, bursts: &[Vec<Vec<Element>>], asleep: &[bool]) {
    let (theirs, ours) = memory();
    let mut driver: SplitDriver<Area> = SplitDriver::new(&ours, config).unwrap();
    if config.indirect {
        driver = driver.with_indirect(&ours, GuestAddr(TABLE), 4).unwrap();
    }
    let mut device = their_queue(config);
    assert!(device.is_valid(theirs.as_ref()));
    for (burst, asleep) in bursts.iter().zip(asleep) {
        if *asleep {
            assert!(!device.enable_notification(theirs.as_ref()).unwrap(), "nothing to do");
        } else {
            device.disable_notification(theirs.as_ref()).unwrap();
        }
        let added: Vec<_> = burst.iter().map_while(|e| Some((driver.add(e).ok()?, e))).collect();
        let kick = driver.flush();
        assert!(!added.is_empty());
        if *asleep {
            assert_eq!(kick, Notify::Needed, "a device that sleeps is woken");
        } else if !config.event_idx {
            assert_eq!(kick, Notify::Suppressed, "a device that polls is left alone");
        }
        assert!(driver.arm());
        let mut seen = Vec::new();
        while let Some(chain) = device.pop_descriptor_chain(theirs.as_ref()) {
            let head = chain.head_index();
            let elements: Vec<Element> = chain
                .map(|d| Element { addr: GuestAddr(d.addr().0), len: d.len(), writable: d.is_write_only() })
                .collect();
            seen.push((head, elements));
        }
        let expected: Vec<_> = added.iter().map(|(h, e)| (h.0, (*e).clone())).collect();
        assert_eq!(seen, expected);
        for (head, elements) in seen.iter().rev() {
            device.add_used(theirs.as_ref(), *head, room(elements)).unwrap();
        }
        assert!(device.needs_notification(theirs.as_ref()).unwrap(), "the driver sleeps");
        assert!(!driver.arm(), "there is something to reap");
        for (handle, elements) in added.iter().rev() {
            assert_eq!(driver.poll_used().unwrap(), Some(Used { handle: *handle, len: room(elements) }));
        }
        assert_eq!(driver.poll_used().unwrap(), None);
        assert_eq!(driver.free_slots(), config.size);
    }
}

/// Our device and theirs walk the same ring contents, whatever they are, and see the same.
fn both_devices(config: &QueueConfig, descs: &[(u64, u32, u16, u16)], heads: &[u16]) -> Result<(), TestCaseError> {
    let (theirs, ours) = memory();
    let raw = RawRing(*config);
    let size = config.size;
    for (i, &(addr, len, flags, next)) in descs.iter().enumerate() {
        raw.desc(&ours, i as u16, (addr, len, flags, next));
        // The table holds the same descriptors, without tables in it.
        poke(&ours, TABLE + 16 * i as u64, &descriptor(addr, len, flags & !INDIRECT, next));
    }
    for (i, &head) in heads.iter().enumerate() {
        raw.avail_entry(&ours, i as u16, head % size);
    }
    raw.set_avail_idx(&ours, heads.len() as u16);
    let mut ours_device = SplitDevice::new(&ours, config, QueueState::default()).unwrap();
    let mut their_device = their_queue(config);
    for _ in heads {
        let mut list = List::default();
        let peeked = ours_device.peek(&ours, &mut list).unwrap().unwrap();
        let fault = peeked.fault();
        let token = peeked.accept();
        ours_device.complete(token, 0);
        let chain = their_device.pop_descriptor_chain(theirs.as_ref()).unwrap();
        let seen: Vec<Element> =
            chain.map(|d| Element { addr: GuestAddr(d.addr().0), len: d.len(), writable: d.is_write_only() }).collect();
        // They end a bad chain early and say nothing; as far as they get, the two agree. They do not check the order.
        if fault.is_none() {
            prop_assert_eq!(&list.0, &seen);
        } else {
            prop_assert!(seen.starts_with(&list.0), "{:?}: ours {:?}, theirs {:?}", fault, list.0, seen);
        }
    }
    Ok(())
}

fn any_descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let buffer = (0..0x1000_u64).prop_map(|at| BUFFER + at);
    let flags = prop_oneof![3 => Just(0), 6 => Just(NEXT), 2 => Just(WRITE), 3 => Just(NEXT | WRITE)];
    prop_oneof![
        6 => (buffer, 1..2000_u32, flags, 0..9_u16),
        1 => (0..3_u64, 1..=8_u32).prop_map(|(i, n)| (TABLE + 16 * i, 16 * n, INDIRECT, 0)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn their_device_serves_our_driver(
        shift in 0..=6_u32,
        event_idx: bool,
        indirect: bool,
        bursts in prop::collection::vec((prop::collection::vec(chain(5), 1..10), any::<bool>()), 1..40),
    ) {
        let config = config(1 << shift, event_idx, indirect);
        // A first chain of one element always fits.
        let (bursts, asleep): (Vec<Vec<_>>, Vec<bool>) = bursts.into_iter().map(|(mut burst, asleep)| {
            burst[0].truncate(1);
            (burst, asleep)
        }).unzip();
        our_driver(&config, &bursts, &asleep);
    }

    #[test]
    fn both_devices_see_the_same_chains(
        descs in prop::collection::vec(any_descriptor(), 8),
        heads in prop::collection::vec(0..8_u16, 1..=8),
    ) {
        both_devices(&config(8, true, true), &descs, &heads)?;
    }

    #[test]
    fn our_device_serves_their_mock_driver(chains in prop::collection::vec(chain(5), 1..8)) {
        let (theirs, ours) = memory();
        let mock = MockSplitQueue::create(theirs.as_ref(), GuestAddress(RING), 64);
        let mut raw = Vec::new();
        for (c, chain) in chains.iter().enumerate() {
            for (i, e) in chain.iter().enumerate() {
                let more = if i + 1 == chain.len() { 0 } else { NEXT };
                let write = if e.writable { WRITE } else { 0 };
                // The mock wants the descriptors in a row, each naming the one behind it.
                let next = raw.len() as u16 + 1;
                raw.push(RawDescriptor::from(Descriptor::new(e.addr.0, e.len, write | more, next)));
            }
            prop_assert!(c < 64);
        }
        mock.add_desc_chains(&raw, 0).unwrap();
        serve_mock(&mock, &theirs, &ours, &chains)?;
    }
}

fn mock_config<M: vm_memory::GuestMemory>(mock: &MockSplitQueue<'_, M>, size: u16) -> QueueConfig {
    QueueConfig {
        size,
        desc: GuestAddr(mock.desc_table_addr().0),
        driver: GuestAddr(mock.avail_addr().0),
        device: GuestAddr(mock.used_addr().0),
        event_idx: false,
        indirect: true,
        in_order: false,
    }
}

fn serve_mock(
    mock: &MockSplitQueue<'_, GuestMemoryMmap>,
    theirs: &GuestMemoryMmap,
    ours: &Ours,
    chains: &[Vec<Element>],
) -> Result<(), TestCaseError> {
    let mut device = SplitDevice::new(ours, &mock_config(mock, 64), QueueState::default()).unwrap();
    for chain in chains {
        let mut list = List::default();
        let token = device.peek(ours, &mut list).unwrap().unwrap().accept();
        prop_assert_eq!(&list.0, chain);
        device.complete(token, room(chain));
    }
    prop_assert!(device.peek(ours, &mut List::default()).unwrap().is_none());
    prop_assert_eq!(device.flush(), Notify::Needed);
    prop_assert_eq!(u16::from_le(mock.used().idx().load()), chains.len() as u16);
    let mut head = 0;
    for (i, chain) in chains.iter().enumerate() {
        let entry = mock.used().ring().ref_at(i).unwrap().load();
        prop_assert_eq!((entry.id(), entry.len()), (head, room(chain)));
        head += chain.len() as u32;
    }
    // And the bytes are where they say.
    prop_assert_eq!(theirs.read_obj::<u16>(mock.used_addr().unchecked_add(2)).unwrap(), chains.len() as u16);
    Ok(())
}

#[test]
fn our_device_serves_the_indirect_chains_of_their_mock_driver() {
    let (theirs, ours) = memory();
    let mut mock = MockSplitQueue::create(theirs.as_ref(), GuestAddress(RING), 16);
    let mut device = SplitDevice::new(&ours, &mock_config(&mock, 16), QueueState::default()).unwrap();
    // The mock takes the same descriptors every time: one chain at once.
    for len in [1, 2, 7, 16, 33, 4] {
        if len == 4 {
            mock.add_chain(4).unwrap();
        } else {
            mock.add_indirect_chain(len).unwrap();
        }
        let mut list = List::default();
        let peeked = device.peek(&ours, &mut list).unwrap().unwrap();
        assert_eq!(peeked.fault(), None);
        let token = peeked.accept();
        assert_eq!(list.0.len(), usize::from(len));
        device.complete(token, 0);
    }
    let _ = device.flush();
    assert_eq!(u16::from_le(mock.used().idx().load()), 6);
}
