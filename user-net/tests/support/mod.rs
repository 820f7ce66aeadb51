//! A guest in the same thread: driver, rings, pumps and the network behind them, all of them real.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic)]

pub(crate) mod client;
pub(crate) mod raw;

use std::sync::Arc;

use user_net::{UserNet, UserNetConfig, UserNetQueue};
use virtio_net_core::driver::{BufferPlan, NetDriver};
use virtio_net_core::rx::{RxFilter, RxPump, RxStop};
use virtio_net_core::tx::{TxFilter, TxPump, TxStop};
use virtio_net_core::{Features, NetHeader, rx_format, tx_format};
use virtio_ring::{GuestAddr, HeapBlock, HeapMemory, MappedArea, QueueConfig, QueueState, SplitDevice, SplitDriver};

type Area = MappedArea<Arc<HeapBlock>>;

/// Every offload there is, and mergeable buffers.
pub(crate) fn all() -> Features {
    UserNet::features() | Features::VERSION_1 | Features::MRG_RXBUF
}

/// No offload.
pub(crate) fn plain() -> Features {
    Features::VERSION_1
}

struct Everything;
impl RxFilter for Everything {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}
impl TxFilter for Everything {
    fn permits(&mut self, _head: &[u8]) -> bool {
        true
    }
}

pub(crate) struct Guest {
    pub(crate) net: UserNet,
    pub(crate) queue: UserNetQueue,
    pub(crate) acked: Features,
    driver: NetDriver<SplitDriver<Area>, HeapMemory>,
    rx: SplitDevice<Area>,
    tx: SplitDevice<Area>,
    rx_pump: RxPump<HeapMemory>,
    tx_pump: TxPump<HeapMemory>,
}

impl Guest {
    pub(crate) fn new(acked: Features) -> Self {
        Self::with(acked, UserNetConfig::default(), 256)
    }

    pub(crate) fn with(acked: Features, config: UserNetConfig, size: u16) -> Self {
        let net = UserNet::new(config).unwrap();
        net.start(acked);
        let mem = HeapMemory::zeroed(GuestAddr(0), 64 << 20).unwrap();
        let queue = |base| QueueConfig { event_idx: true, ..QueueConfig::split(GuestAddr(base), size).0 };
        let (rx, tx) = (queue(0), queue(0x10_0000));
        let plan = BufferPlan { base: GuestAddr(0x20_0000), rx: size, tx: size, tx_frame: 65_589 };
        let (rx_driver, tx_driver) = (SplitDriver::new(&mem, &rx).unwrap(), SplitDriver::new(&mem, &tx).unwrap());
        Self {
            queue: net.queue(0),
            net,
            acked,
            driver: NetDriver::new(mem.clone(), rx_driver, tx_driver, &plan, acked).unwrap(),
            rx: SplitDevice::new(&mem, &rx, QueueState::default()).unwrap(),
            tx: SplitDevice::new(&mem, &tx, QueueState::default()).unwrap(),
            rx_pump: RxPump::new(mem.clone(), size, rx_format(acked)),
            tx_pump: TxPump::new(mem, tx_format(acked)),
        }
    }

    /// Puts a frame into the transmit ring. False if it is full.
    pub(crate) fn post(&mut self, header: &NetHeader, frame: &[u8]) -> bool {
        self.driver.send(header, frame).unwrap()
    }

    /// Lets the device take what was posted.
    pub(crate) fn transmit(&mut self) {
        let _ = self.driver.flush();
        let out = self.tx_pump.pump(&mut self.tx, &mut self.queue, &mut Everything, u64::MAX).unwrap();
        assert_eq!(out.stop, TxStop::Empty, "the network is never busy");
    }

    /// Lets the device deliver what it has.
    pub(crate) fn deliver(&mut self) -> RxStop {
        let _ = self.driver.flush();
        self.rx_pump.pump(&mut self.rx, &mut self.queue, &mut Everything, u64::MAX).unwrap().stop
    }

    /// The next frame delivered.
    pub(crate) fn receive(&mut self) -> Option<(NetHeader, &[u8])> {
        self.driver.receive().unwrap()
    }

    /// Sends one complete frame and returns everything that comes back at once.
    pub(crate) fn exchange(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.exchange_with(&NetHeader::NONE, frame)
    }

    pub(crate) fn exchange_with(&mut self, header: &NetHeader, frame: &[u8]) -> Vec<Vec<u8>> {
        assert!(self.post(header, frame));
        self.transmit();
        self.drain()
    }

    /// Everything that waits for the guest.
    pub(crate) fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let stop = self.deliver();
            let before = frames.len();
            while let Some((_, frame)) = self.receive() {
                frames.push(frame.to_vec());
            }
            if stop == RxStop::Dry && frames.len() == before {
                return frames;
            }
        }
    }

    /// Frames that the device found wrong before the network saw them.
    pub(crate) fn rejected(&self) -> u64 {
        self.tx_pump.stats().bad_frames
    }
}
