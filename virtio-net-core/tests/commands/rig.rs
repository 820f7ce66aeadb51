//! A device with four queue pairs, all of them enabled.

use net_filter::MacAddr;
use virtio_net_core::ctrl::{Ack, Counters, CtrlHandler, Reply, RxCounters, TxCounters};
use virtio_net_core::{Features, NetConfig, NetDevice};

pub(crate) const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
pub(crate) const PAIRS: u16 = 4;

/// Counters that the test sets.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) rx: RxCounters,
    pub(crate) tx: TxCounters,
}

impl Counters for Counted {
    fn rx(&self, pair: u16) -> RxCounters {
        RxCounters { notifications: self.rx.notifications.wrapping_add(pair.into()), ..self.rx }
    }

    fn tx(&self, pair: u16) -> TxCounters {
        TxCounters { notifications: self.tx.notifications.wrapping_add(pair.into()), ..self.tx }
    }
}

pub(crate) struct Rig {
    pub(crate) device: NetDevice,
    pub(crate) counted: Counted,
}

impl Rig {
    /// With a driver that acknowledges what of `wanted` can be had.
    pub(crate) fn new(wanted: Features) -> Self {
        let config = NetConfig { pairs: PAIRS, mtu: Some(1500), speed: Some(1000), ..NetConfig::new(OWN) };
        let device = NetDevice::new(&config, Features::SUPPORTED, Features::BACK_END).unwrap();
        let mut rig = Self { device, counted: Counted::default() };
        rig.negotiate(wanted);
        rig
    }

    pub(crate) fn negotiate(&mut self, wanted: Features) {
        let mut acked = wanted & self.device.offer().features | Features::VERSION_1;
        // A driver that takes nothing without what that needs.
        while let Err(virtio_net_core::features::FeatureError::Dependency { feature, .. }) =
            self.device.acknowledge(acked)
        {
            acked.remove(feature);
        }
        self.device.begin_commands();
        for index in 0..2 * PAIRS {
            self.device.set_enabled(index, true);
        }
    }

    /// Runs a command with room for `room` bytes of result.
    pub(crate) fn run_with(&mut self, room: usize, class: u8, cmd: u8, data: &[u8]) -> (Ack, Vec<u8>) {
        let mut reply = Reply::new(room);
        let ack = self.device.commands(&self.counted).handle(class, cmd, data, &mut reply);
        (ack, reply.as_bytes().to_vec())
    }

    pub(crate) fn run(&mut self, class: u8, cmd: u8, data: &[u8]) -> (Ack, Vec<u8>) {
        self.run_with(4096, class, cmd, data)
    }

    pub(crate) fn accepts(&self, dst: MacAddr) -> bool {
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&dst.0);
        self.device.settings().filter.accepts(&frame)
    }
}

/// `struct virtio_net_rss_config` with all types and a key of 40 bytes.
pub(crate) fn rss(table: &[u16], unclassified: u16, max_tx_vq: u16) -> Vec<u8> {
    let mut bytes = 0x1ff_u32.to_le_bytes().to_vec();
    for word in [table.len() as u16 - 1, unclassified].iter().chain(table).chain([&max_tx_vq]) {
        bytes.extend(word.to_le_bytes());
    }
    bytes.push(40);
    bytes.extend(1..=40);
    bytes
}
