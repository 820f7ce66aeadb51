//! A guest without a machine: driver, rings and pumps in one thread.
#![allow(
    dead_code,
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "tests"
)]

use std::io;

use virtio_net_core::backend::{FrameSink, FrameSource, MAX_FRAME};
use virtio_net_core::driver::{BufferPlan, NetDriver};
use virtio_net_core::rx::{RxFilter, RxOutcome, RxPump};
use virtio_net_core::tx::{TxFilter, TxFormat, TxOutcome, TxPump};
use virtio_net_core::{Features, TxOffloads, rx_format};
use virtio_ring::{Access, Element, GuestAddr, GuestMemory, HeapMemory, MappedArea, QueueConfig, QueueState};
use virtio_ring::{DriverRing, SplitDevice, SplitDriver};

pub type Area = MappedArea<std::sync::Arc<virtio_ring::HeapBlock>>;

pub struct All;
impl RxFilter for All {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}
impl TxFilter for All {
    fn permits(&mut self, _head: &[u8]) -> bool {
        true
    }
}

pub struct Guest {
    pub driver: NetDriver<SplitDriver<Area>, HeapMemory>,
    rx: SplitDevice<Area>,
    tx: SplitDevice<Area>,
    pub rx_pump: RxPump<HeapMemory>,
    pub tx_pump: TxPump<HeapMemory>,
}

fn queue(size: u16, base: u64) -> QueueConfig {
    QueueConfig { event_idx: true, ..QueueConfig::split(GuestAddr(base), size).0 }
}

impl Guest {
    pub fn new(size: u16, acked: Features) -> Self {
        Self::with_rx_buffers(size, size, acked)
    }

    pub fn with_rx_buffers(size: u16, buffers: u16, acked: Features) -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 64 << 20).unwrap();
        let (rx, tx) = (queue(size, 0), queue(size, 0x10_0000));
        let plan = BufferPlan { base: GuestAddr(0x20_0000), rx: buffers, tx: size, tx_frame: MAX_FRAME };
        let rx_driver = SplitDriver::new(&mem, &rx).unwrap();
        let tx_driver = SplitDriver::new(&mem, &tx).unwrap();
        let format = TxFormat { header_len: acked.header_len(), offloads: TxOffloads::new(acked) };
        Self {
            driver: NetDriver::new(mem.clone(), rx_driver, tx_driver, &plan, acked).unwrap(),
            rx: SplitDevice::new(&mem, &rx, QueueState::default()).unwrap(),
            tx: SplitDevice::new(&mem, &tx, QueueState::default()).unwrap(),
            rx_pump: RxPump::new(mem.clone(), size, rx_format(acked)),
            tx_pump: TxPump::new(mem, format),
        }
    }

    pub fn pump_tx(&mut self, sink: &mut impl FrameSink) -> TxOutcome {
        let _ = self.driver.flush();
        self.tx_pump.pump(&mut self.tx, sink, &mut All, 100_000).unwrap()
    }

    pub fn pump_rx(&mut self, source: &mut impl FrameSource<Error = io::Error>) -> RxOutcome<io::Error> {
        self.pump_rx_through(source, &mut All)
    }

    pub fn pump_rx_through(
        &mut self,
        source: &mut impl FrameSource<Error = io::Error>,
        filter: &mut dyn RxFilter,
    ) -> RxOutcome<io::Error> {
        let _ = self.driver.flush();
        self.rx_pump.pump(&mut self.rx, source, filter, 100_000).unwrap()
    }
}

/// A transmit ring whose chains the test lays out itself.
pub struct Segments {
    mem: HeapMemory,
    driver: SplitDriver<Area>,
    device: SplitDevice<Area>,
    pub pump: TxPump<HeapMemory>,
}

const SPACING: u64 = 256;

impl Segments {
    pub fn new() -> Self {
        let mem = HeapMemory::zeroed(GuestAddr(0), 4 << 20).unwrap();
        let config = queue(2048, 0);
        let acked = Features::VERSION_1;
        Self {
            driver: SplitDriver::new(&mem, &config).unwrap(),
            device: SplitDevice::new(&mem, &config, QueueState::default()).unwrap(),
            pump: TxPump::new(
                mem.clone(),
                TxFormat { header_len: acked.header_len(), offloads: TxOffloads::new(acked) },
            ),
            mem,
        }
    }

    /// Sends `pieces` as one chain of one segment each, none longer than 256 bytes, the header included.
    pub fn send(&mut self, pieces: &[&[u8]], sink: &mut impl FrameSink) -> TxOutcome {
        let mut elements = Vec::new();
        for (i, piece) in (0..).zip(pieces) {
            assert!(piece.len() as u64 <= SPACING);
            let addr = GuestAddr(0x10_0000 + i * SPACING);
            let place = self.mem.translate(addr, piece.len(), Access::Write).unwrap();
            assert_eq!(place.write(piece), piece.len());
            elements.push(Element { addr, len: piece.len() as u32, writable: false });
        }
        self.driver.add(&elements).unwrap();
        let _ = self.driver.flush();
        let out = self.pump.pump(&mut self.device, sink, &mut All, 1000).unwrap();
        while self.driver.poll_used().unwrap().is_some() {}
        out
    }
}

/// Recognisable bytes.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8).wrapping_add(seed)).collect()
}
