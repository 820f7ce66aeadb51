//! What a device is before and between its queues: offer, config space, acknowledged features, queue numbers.

use crate::config::{ConfigError, ConfigSpace, NetConfig};
use crate::ctrl::{self, Ack, CtrlHandler};
use crate::features::{self, FeatureError, Features, Offer, WithheldReason};
use crate::offload::{rx_format, tx_format};
use crate::rx::RxFormat;
use crate::tx::TxFormat;

/// What a queue is for (virtio 1.3, 5.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueRole {
    /// Frames to the guest; the pair it belongs to, from 0.
    Rx(u16),
    /// Frames from the guest; the pair it belongs to, from 0.
    Tx(u16),
    /// Commands.
    Ctrl,
}

/// One net device: everything but its rings and its back end.
#[derive(Clone, Debug)]
pub struct NetDevice {
    offer: Offer,
    config: ConfigSpace,
    pairs: u16,
    acked: Features,
    enabled_pairs: u16,
}

impl NetDevice {
    /// A device that wants to offer `wanted` ([`Features::SUPPORTED`] for all there is, without what its transport cannot
    /// do of [`Features::TRANSPORT`]) with a back end that has `back_end`.
    ///
    /// `MTU`, `SPEED_DUPLEX` and `MQ` are offered if the configuration has a value for them, `CTRL_VQ` if there is
    /// more than one pair.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that cannot be.
    pub fn new(config: &NetConfig, wanted: Features, back_end: Features) -> Result<Self, ConfigError> {
        let mut offer = features::offer(wanted, back_end);
        offer.withhold(config.lacks(), WithheldReason::Config);
        Ok(Self {
            config: ConfigSpace::new(config, offer.features)?,
            offer,
            pairs: config.pairs,
            acked: Features::empty(),
            enabled_pairs: 1,
        })
    }

    /// What is offered, and what is not although it was wanted.
    #[must_use]
    pub const fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The config space.
    #[must_use]
    pub const fn config(&self) -> &ConfigSpace {
        &self.config
    }

    /// The config space, for changes of the link.
    pub const fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    /// Writes to the config space for the driver.
    ///
    /// # Errors
    /// As [`ConfigSpace::write`].
    pub fn write_config(&mut self, offset: usize, data: &[u8]) -> Result<(), ConfigError> {
        self.config.write(offset, data, self.acked)
    }

    /// Takes the features that the driver acknowledged. Refused, the device keeps what it had.
    ///
    /// # Errors
    /// [`FeatureError`]: `FEATURES_OK` stays unset.
    pub fn acknowledge(&mut self, acked: Features) -> Result<(), FeatureError> {
        self.acked = features::acknowledge(self.offer.features, acked)?;
        Ok(())
    }

    /// What the driver acknowledged; nothing after a reset.
    #[must_use]
    pub const fn acked(&self) -> Features {
        self.acked
    }

    /// Back to the state before the driver came. The offer, the MTU and the link stay.
    pub fn reset(&mut self) {
        self.acked = Features::empty();
        // virtio 1.3, 5.1.6.5.6: only the first pair until the driver asks for more.
        self.enabled_pairs = 1;
        self.config.announced();
    }

    /// How received frames are laid out for this driver.
    #[must_use]
    pub fn rx_format(&self) -> RxFormat {
        let mut mtu = [0; 2];
        self.config.read(crate::config::MTU, &mut mtu);
        // virtio 1.3, 5.1.4.1: binding once the driver acknowledged it.
        let mtu = self.acked.contains(Features::MTU).then_some(u16::from_le_bytes(mtu));
        RxFormat { mtu, ..rx_format(self.acked) }
    }

    /// How this driver lays frames out that it sends.
    #[must_use]
    pub const fn tx_format(&self) -> TxFormat {
        tx_format(self.acked)
    }

    /// Queue pairs that the driver uses: 1 until it asks for more by control command.
    #[must_use]
    pub const fn enabled_pairs(&self) -> u16 {
        self.enabled_pairs
    }

    /// Number of queues that a driver with these features may set up.
    #[must_use]
    pub const fn queues(&self, acked: Features) -> u32 {
        let pairs = if acked.contains(Features::MQ) { self.pairs } else { 1 };
        let ctrl = if acked.contains(Features::CTRL_VQ) { 1 } else { 0 };
        (pairs as u32).wrapping_mul(2).wrapping_add(ctrl) // at most 65537
    }

    /// What queue `index` is for a driver with these features; `None` if there is no such queue.
    ///
    /// The control queue comes behind the pairs that the device *has* if `MQ` was acknowledged, else behind the first.
    #[must_use]
    pub const fn queue_role(&self, index: u32, acked: Features) -> Option<QueueRole> {
        if index >= self.queues(acked) {
            return None;
        }
        let pair = (index >> 1) as u16; // `index` is at most 65536
        let pairs = if acked.contains(Features::MQ) { self.pairs } else { 1 };
        Some(match (pair >= pairs, index & 1) {
            (true, _) => QueueRole::Ctrl,
            (false, 0) => QueueRole::Rx(pair),
            (false, _) => QueueRole::Tx(pair),
        })
    }
}

/// The commands of the control queue that this device knows.
impl CtrlHandler for NetDevice {
    fn handle(&mut self, class: u8, cmd: u8, data: &[u8]) -> Ack {
        match (class, cmd) {
            (ctrl::CLASS_MQ, ctrl::VQ_PAIRS_SET) if self.acked.contains(Features::MQ) => match data {
                [low, high] => match u16::from_le_bytes([*low, *high]) {
                    pairs if (1..=self.pairs).contains(&pairs) => {
                        self.enabled_pairs = pairs;
                        Ack::Ok
                    }
                    _ => Ack::Err,
                },
                _ => Ack::Err,
            },
            (ctrl::CLASS_ANNOUNCE, ctrl::ANNOUNCE_ACK)
                if self.acked.contains(Features::GUEST_ANNOUNCE) && data.is_empty() =>
            {
                self.config.announced();
                Ack::Ok
            }
            _ => Ack::Err,
        }
    }
}
