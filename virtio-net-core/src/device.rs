//! What a device is before and between its queues: offer, config space, acknowledged features, queue numbers.

mod commands;
mod suspend;

pub use commands::Commands;

use suspend::Suspension;

use alloc::sync::Arc;
use alloc::vec::Vec;

use net_filter::RxRules;

use crate::config::{ConfigError, ConfigSpace, NetConfig};
use crate::ctrl::{CommandCounters, Counters};
use crate::features::{self, FeatureError, Features, Offer, WithheldReason};
use crate::offload::{rx_format, tx_format};
use crate::rx::RxFormat;
use crate::settings::Settings;
use crate::state::NetState;
use crate::steering::{MAX_KEY, MAX_TABLE, RssLimits};
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
    /// The driver may not choose another address.
    fixed_mac: bool,
    acked: Features,
    /// Everything as it is before a driver comes.
    initial: RxRules,
    settings: Arc<Settings>,
    /// Queues that are enabled, in the order of the virtqueues.
    enabled: Vec<bool>,
    /// The driver has a control queue here.
    commanded: bool,
    suspension: Suspension,
    commands: CommandCounters,
}

impl NetDevice {
    /// A device that wants to offer `wanted` ([`Features::SUPPORTED`] for all there is, without what its transport cannot
    /// do of [`Features::TRANSPORT`]) with a back end that has `back_end`.
    ///
    /// `MTU`, `SPEED_DUPLEX` and `MQ` are offered if the configuration has a value for them.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that cannot be.
    pub fn new(config: &NetConfig, wanted: Features, back_end: Features) -> Result<Self, ConfigError> {
        let mut offer = features::offer(wanted, back_end);
        offer.withhold(config.lacks(), WithheldReason::Config);
        let space = ConfigSpace::new(config, offer.features)?;
        let initial = RxRules::new(config.mac).with_limits(config.tables, config.seed);
        let settings = Arc::new(Settings::new(initial.clone(), config.pairs, Features::empty()));
        let enabled = alloc::vec![false; usize::from(config.pairs).saturating_mul(2)];
        Ok(Self {
            config: space,
            offer,
            pairs: config.pairs,
            fixed_mac: config.fixed_mac,
            acked: Features::empty(),
            initial,
            settings,
            enabled,
            commanded: false,
            suspension: Suspension::default(),
            commands: CommandCounters::default(),
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

    /// Writes to the config space for the driver; to a suspended device it does not.
    ///
    /// # Errors
    /// As [`ConfigSpace::write`].
    pub fn write_config(&mut self, offset: usize, data: &[u8]) -> Result<(), ConfigError> {
        let mut config = self.config;
        config.write(offset, data, self.acked)?;
        if !self.is_suspended() {
            self.config = config;
        }
        Ok(())
    }

    /// Takes the features that the driver acknowledged. Refused, the device keeps what it had.
    ///
    /// # Errors
    /// [`FeatureError`]: `FEATURES_OK` stays unset.
    pub fn acknowledge(&mut self, acked: Features) -> Result<(), FeatureError> {
        self.acked = features::acknowledge(self.offer.features, acked)?;
        self.settings = Arc::new(Settings::new(self.initial.clone(), self.pairs, acked));
        self.commanded = false;
        Ok(())
    }

    /// A driver with a control queue of its own is here: until it says otherwise it gets what the specification has it
    /// get then, no groups and no VLANs if it can name them.
    ///
    /// Not called for a front end that keeps the control queue to itself: its driver's commands never come. Called again,
    /// it changes nothing.
    pub fn begin_commands(&mut self) {
        if core::mem::replace(&mut self.commanded, true) {
            return;
        }
        let acked = self.acked;
        self.filter_mut().begin(acked.contains(Features::CTRL_RX), acked.contains(Features::CTRL_VLAN));
    }

    /// What the driver acknowledged; nothing after a reset.
    #[must_use]
    pub const fn acked(&self) -> Features {
        self.acked
    }

    /// Back to the state before the driver came. The offer, the MTU and the link stay.
    pub fn reset(&mut self) {
        self.acked = Features::empty();
        self.settings = Arc::new(Settings::new(self.initial.clone(), self.pairs, self.acked));
        self.enabled.fill(false);
        self.commanded = false;
        // What was to be shown of the link is shown; nobody is notified of it.
        self.resume();
        self.config.set_mac(self.initial.own());
        self.config.announced();
    }

    /// What the driver asked for by command: a picture, which later commands do not change.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// Carries out commands; `counters` has those of the queues, for a driver that asks.
    pub fn commands<'a>(&'a mut self, counters: &'a dyn Counters) -> Commands<'a> {
        Commands { device: self, counters }
    }

    /// A receive or transmit queue was set up, or stopped. One that comes back forgets what was set for it alone (virtio
    /// 1.4, 5.1.6.5.9.5).
    pub fn set_enabled(&mut self, index: u16, on: bool) {
        let Some(enabled) = self.enabled.get_mut(usize::from(index)) else { return };
        if on && !core::mem::replace(enabled, on) {
            self.settings_mut().coalescing.restart(index);
        }
        if let Some(enabled) = self.enabled.get_mut(usize::from(index)) {
            *enabled = on;
        }
    }

    pub(crate) const fn pairs(&self) -> u16 {
        self.pairs
    }

    pub(crate) const fn has_fixed_mac(&self) -> bool {
        self.fixed_mac
    }

    /// True if the driver has a control queue here.
    #[must_use]
    pub const fn is_commanded(&self) -> bool {
        self.commanded
    }

    pub(crate) fn enabled_queues(&self) -> &[bool] {
        &self.enabled
    }

    pub(crate) const fn command_counters(&self) -> CommandCounters {
        self.commands
    }

    /// Goes on where another device stopped: the rest of its state was checked.
    pub(crate) fn go_on(&mut self, state: &NetState, settings: Arc<Settings>) {
        self.config.set_mac(settings.filter.own());
        self.config.set_link(state.link_up);
        if state.announce {
            self.config.announce();
        } else {
            self.config.announced();
        }
        self.settings = settings;
        self.enabled.clone_from(&state.enabled);
        self.commanded = state.commanded;
        self.commands = state.commands;
        self.suspension = Suspension::of(state);
    }

    /// True if it is a receive or transmit queue that is set up.
    fn is_enabled(&self, index: u16) -> bool {
        self.enabled.get(usize::from(index)).copied().unwrap_or(false)
    }

    pub(crate) fn rss_limits(&self) -> RssLimits {
        RssLimits { pairs: self.pairs, table: MAX_TABLE, key: MAX_KEY as u8 }
    }

    /// How received frames are laid out for this driver.
    #[must_use]
    pub fn rx_format(&self) -> RxFormat {
        let mut mtu = [0; 2];
        self.config.read(crate::config::MTU, &mut mtu);
        // virtio 1.3, 5.1.4.1: binding once the driver acknowledged it.
        let mtu = self.acked.contains(Features::MTU).then_some(u16::from_le_bytes(mtu));
        let on = self.acked.difference(Features::GUEST_OFFLOADS).union(self.settings.offloads);
        RxFormat { mtu, steered: self.settings.steering.is_on(), ..rx_format(on) }
    }

    /// How this driver lays frames out that it sends.
    #[must_use]
    pub const fn tx_format(&self) -> TxFormat {
        tx_format(self.acked)
    }

    /// Queue pairs that the driver uses: 1 until it asks for more by control command.
    #[must_use]
    pub fn enabled_pairs(&self) -> u16 {
        self.settings.pairs
    }

    /// Queue pairs that a driver with these features may use.
    #[must_use]
    pub const fn usable_pairs(&self, acked: Features) -> u16 {
        if acked.intersects(Features::MQ.union(Features::RSS)) { self.pairs } else { 1 }
    }

    /// Queue pairs that frames may go to: those that the driver uses, or all if it cannot say here.
    #[must_use]
    pub fn active_pairs(&self) -> u16 {
        if self.commanded { self.settings.pairs } else { self.pairs }
    }

    /// Number of queues that a driver with these features may set up.
    #[must_use]
    pub const fn queues(&self, acked: Features) -> u32 {
        let pairs = self.usable_pairs(acked);
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
        let pairs = self.usable_pairs(acked);
        Some(match (pair >= pairs, index & 1) {
            (true, _) => QueueRole::Ctrl,
            (false, 0) => QueueRole::Rx(pair),
            (false, _) => QueueRole::Tx(pair),
        })
    }
}
