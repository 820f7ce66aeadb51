//! A network device that serves one front end after the other.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_filter::{IpSources, Lease, MacAddr, SpoofCheck};
use virtio_net_core::config::ConfigError;
use virtio_net_core::state::NetState;
use virtio_net_core::{Duplex, Features, NetConfig, NetDevice};

use crate::config::{DeviceConfig, SpoofPolicy};
use crate::error::{SessionEnd, SessionError};
use crate::message::Channel;
use crate::pair::Learner;
use crate::port::Port;
use crate::session::Session;
use crate::stats::Stats;
use crate::stop::Stop;
use crate::workers::Workers;

/// Most queue pairs: a ring's number has eight bits in half of the messages, and the control queue needs one.
pub const MAX_PAIRS: u16 = 127;

/// A device that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A setting that the config space cannot hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// More queue pairs than the port or the protocol has.
    #[error("{pairs} queue pairs, expected 1 to {max}")]
    Pairs {
        /// Queue pairs asked for.
        pairs: u16,
        /// Queue pairs that can be had.
        max: u16,
    },
}

/// What stays the same from session to session.
#[derive(Debug)]
pub(crate) struct Parts {
    /// As it is before a driver comes.
    pub(crate) net: NetDevice,
    pub(crate) stats: Stats,
    pub(crate) workers: Workers,
    /// What is checked of frames from the guest, and what learns its address for that: a lease outlives sessions.
    pub(crate) spoof_check: SpoofCheck,
    pub(crate) learner: Option<Arc<Learner>>,
    /// The state at the end of the last session.
    pub(crate) kept: Mutex<Option<NetState>>,
}

impl Parts {
    pub(crate) fn offered(&self) -> Features {
        self.net.offer().features
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Option<NetState>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings that a front end may set up.
    pub(crate) fn rings(&self) -> u32 {
        self.net.queues(self.offered())
    }
}

/// A virtio network device behind a vhost-user socket, with a [`Port`] as the other end of its wire.
#[derive(Debug)]
pub struct Device<P> {
    parts: Parts,
    port: P,
}

impl<P: Port> Device<P> {
    /// A device with these settings, whose queue pairs `workers` serve.
    ///
    /// # Errors
    /// [`DeviceError`] names the setting that cannot be.
    pub fn new(config: DeviceConfig, port: P, workers: &Workers) -> Result<Self, DeviceError> {
        let max = port.max_pairs().clamp(1, MAX_PAIRS);
        let pairs = config.queues;
        if pairs == 0 || pairs > max {
            return Err(DeviceError::Pairs { pairs, max });
        }
        let duplex = if config.speed.is_some() { Duplex::Full } else { Duplex::Unknown };
        let (mtu, speed) = (config.mtu, config.speed);
        let net = NetConfig {
            mtu,
            pairs,
            speed,
            duplex,
            fixed_mac: config.spoof_check != SpoofPolicy::Off,
            seed: std::hash::RandomState::new().build_hasher().finish(),
            ..NetConfig::new(MacAddr(config.mac))
        };
        // The protocol has no way to tell the driver later that it should announce itself.
        let mut wanted = Features::SUPPORTED.difference(Features::GUEST_ANNOUNCE);
        if !config.packed {
            wanted.remove(Features::RING_PACKED);
        }
        if !config.ring_reset {
            wanted.remove(Features::RING_RESET);
        }
        if !config.suspend {
            wanted.remove(Features::SUSPEND);
        }
        let net = NetDevice::new(&net, wanted, port.features())?;
        let stats = Stats::new(pairs);
        let (spoof_check, learner) = spoof_check(MacAddr(config.mac), &config.spoof_check);
        let (workers, kept) = (workers.clone(), Mutex::new(None));
        Ok(Self { parts: Parts { net, stats, workers, spoof_check, learner, kept }, port })
    }

    /// What is offered to drivers.
    #[must_use]
    pub fn offered(&self) -> Features {
        self.parts.offered()
    }

    /// A reader of the statistics, for another thread.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.parts.stats.clone()
    }

    /// The device's state at the end of the last session, rings included: to be kept for [`go_on_from`](Self::go_on_from).
    #[must_use]
    pub fn state(&self) -> Option<NetState> {
        self.parts.kept().clone()
    }

    /// Goes on from this state in the next session if it is its continuation: the same features, and the control ring starts
    /// where it stood in this state, past its beginning. Front ends that lose their back end connect again
    /// and go on so, and their driver does not repeat its commands. Any other session begins anew.
    pub fn go_on_from(&mut self, state: NetState) {
        *self.parts.kept() = Some(state);
    }

    /// The host end, between sessions.
    pub const fn port(&mut self) -> &mut P {
        &mut self.port
    }

    /// Serves one front end until it hangs up, a stop is requested, or it breaks the protocol. Whatever the end, all
    /// rings are stopped in an orderly way, everything that the front end gave is closed and unmapped, and the
    /// device is ready for the next one.
    ///
    /// # Errors
    /// [`SessionError`]: why the session ended in bad order.
    pub fn serve(&mut self, connection: UnixStream, stop: &Stop) -> Result<SessionEnd, SessionError> {
        let channel = Channel::new(connection, stop.clone())?;
        self.parts.stats.begin();
        let end = Session::new(&self.parts, &mut self.port, channel).and_then(Session::run);
        self.parts.stats.session(|s| s.connected = false);
        end
    }
}

/// The check of what the guest sends, and what learns its address for that.
fn spoof_check(own: MacAddr, policy: &SpoofPolicy) -> (SpoofCheck, Option<Arc<Learner>>) {
    let addresses = match policy {
        SpoofPolicy::Off => return (SpoofCheck::off(), None),
        SpoofPolicy::Mac => return (SpoofCheck::new(own), None),
        SpoofPolicy::Ip { addresses } => addresses,
    };
    let lease = (!addresses.iter().any(IpAddr::is_ipv4)).then(Arc::<Lease>::default);
    let sources = IpSources::new(own, addresses, lease.clone());
    (SpoofCheck::with_ip(own, Arc::new(sources)), lease.map(|lease| Arc::new(Learner::new(own, lease))))
}
