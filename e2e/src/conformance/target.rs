//! The device side that is looked at, as far as all cases want to know it.

use super::frames;
use super::outcome::{Check, Stop, need};
use super::plug::{Plug, Setup};
use super::ring::Format;
use super::wire::{Wire, longs, protocol, request};
use crate::daemon::DEFAULT_MAC;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use virtio_net_core::Features;

/// `VHOST_USER_F_PROTOCOL_FEATURES`, the bit that the transport keeps for itself.
pub(super) const PROTOCOL_BIT: u64 = 1 << 30;
/// It answers, and frames come back, within this time.
const PATIENCE: Duration = Duration::from_secs(4);
/// What has not happened by then is taken not to happen. Too short a time overlooks a fault and makes up none.
const QUIET: Duration = Duration::from_millis(25);
/// One that was started anew listens within this time.
const RETURN: Duration = Duration::from_secs(10);
/// Of config space this much is read; longer than any field.
pub(super) const CONFIG: u32 = 60;

/// What becomes of a frame that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    /// It does not come back.
    Never,
    /// It comes back as it is.
    Same,
    /// It comes back with its MAC addresses swapped.
    Swapped,
}

/// A device side that listens at a socket.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) socket: PathBuf,
    pub(super) patience: Duration,
    pub(super) quiet: Duration,
    /// With the transport's own bit.
    pub(super) offered: u64,
    /// Protocol features.
    pub(super) protocol: u64,
    /// Config space at the beginning; empty if it cannot be read.
    pub(super) config: Vec<u8>,
    /// The guest's address.
    pub(super) mac: [u8; 6],
    pub(super) returns: Returns,
    /// The control queue's commands are answered.
    pub(super) control: bool,
}

impl Target {
    /// Asks it for all of that.
    pub(super) fn probe(socket: &Path) -> Check<Self> {
        let mut target = Self {
            socket: socket.to_owned(),
            patience: PATIENCE,
            quiet: QUIET,
            offered: 0,
            protocol: 0,
            config: Vec::new(),
            mac: DEFAULT_MAC,
            returns: Returns::Never,
            control: false,
        };
        let mut wire = target.connect()?;
        target.offered = wire.number(request::GET_FEATURES)?;
        if target.offered & PROTOCOL_BIT != 0 {
            target.protocol = wire.number(request::GET_PROTOCOL_FEATURES)?;
        }
        drop(wire);
        if target.has(protocol::CONFIG) {
            target.config = read_config(&mut target.open(protocol::CONFIG)?, 0, CONFIG)?;
        }
        if target.offers(Features::MAC) {
            target.mac = target.config.first_chunk().copied().unwrap_or(DEFAULT_MAC);
        }
        target.returns = target.probe_returns()?;
        target.control = target.offers(Features::CTRL_VQ) && target.probe_control();
        Ok(target)
    }

    /// All of these.
    pub(super) const fn offers(&self, features: Features) -> bool {
        let bits = features.bits() as u64;
        self.offered & bits == bits
    }

    /// Of these, what is offered.
    pub(super) fn of(&self, features: Features) -> Features {
        features & Features::from_bits_retain((self.offered & !PROTOCOL_BIT).into())
    }

    /// Not applicable unless all of these are offered.
    pub(super) fn needs(&self, features: Features) -> Check {
        let missing = features.difference(self.of(features));
        need!(missing.is_empty(), "not offered: {missing}");
        Ok(())
    }

    pub(super) fn has(&self, protocol: u64) -> bool {
        self.protocol & protocol == protocol
    }

    /// Config space as it was at the beginning, before anything was negotiated.
    pub(super) fn config(&self) -> Check<&[u8]> {
        need!(!self.config.is_empty(), "config space cannot be read: the protocol feature is not offered");
        Ok(&self.config)
    }

    /// `max_virtqueue_pairs`.
    pub(super) fn max_pairs(&self) -> Check<u32> {
        let pairs = self.config()?.get(8..).and_then(|bytes| bytes.first_chunk());
        Ok(pairs.map_or(1, |bytes| u16::from_le_bytes(*bytes).into()))
    }

    /// Not applicable unless frames come back.
    pub(super) fn needs_returns(&self) -> Check {
        need!(self.returns != Returns::Never, "frames that are sent do not come back");
        Ok(())
    }

    /// A connection with an owner.
    pub(super) fn connect(&self) -> Check<Wire> {
        let mut wire = Wire::connect(&self.socket, self.patience)?;
        wire.tell(request::SET_OWNER, &[], &[])?;
        Ok(wire)
    }

    /// A connection whose protocol features are negotiated: those of `these` that there are.
    pub(super) fn open(&self, these: u64) -> Check<Wire> {
        let mut wire = self.connect()?;
        let protocol = self.protocol & these;
        if self.offered & PROTOCOL_BIT != 0 {
            wire.tell(request::SET_PROTOCOL_FEATURES, &longs(&[protocol]), &[])?;
            wire.acknowledged = protocol & protocol::REPLY_ACK != 0;
        }
        Ok(wire)
    }

    /// What is offered, by its bits, without the transport's own.
    pub(super) fn features(&self) -> Features {
        Features::from_bits_retain((self.offered & !PROTOCOL_BIT).into())
    }

    fn probe_returns(&self) -> Check<Returns> {
        let mut plug = Plug::start(self, Setup::new(self, Format::Split))?;
        let mut there_and_back = |frame: &[u8]| -> Check<Option<Vec<u8>>> {
            plug.give(&[2048])?;
            plug.send(&frames::NONE, frame)?;
            Ok(plug.receive(self.patience)?.map(|packet| packet.frame))
        };
        if there_and_back(&frames::plain(self.mac, self.mac, 1))?.is_none() {
            return Ok(Returns::Never);
        }
        // A filter may drop it if its addresses are not swapped.
        let other = [2, 0, 0, 0, 0, 1];
        let back = there_and_back(&frames::plain(other, self.mac, 2))?;
        let swapped = back.is_some_and(|frame| frame.starts_with(&self.mac));
        Ok(if swapped { Returns::Swapped } else { Returns::Same })
    }

    fn probe_control(&self) -> bool {
        let features = Features::CTRL_VQ | self.of(Features::CTRL_RX);
        let started = Plug::start(self, Setup::new(self, Format::Split).with(features));
        started.is_ok_and(|mut plug| plug.command(0, 0, &[0], 0).is_ok())
    }

    /// Whether somebody listens there: one that was started anew for some time.
    pub(super) fn is_back(&self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < RETURN {
            if self.connect().is_ok() {
                return true;
            }
            std::thread::sleep(self.quiet);
        }
        false
    }

    /// Whether it serves a driver that does nothing wrong: from the connection to a frame.
    pub(super) fn lives(&self) -> Check {
        let mut plug = Plug::start(self, Setup::new(self, Format::Split))?;
        let frame = frames::plain(self.mac, self.mac, 77);
        if self.returns == Returns::Never {
            plug.send(&frames::NONE, &frame).map(|_| ())
        } else {
            plug.there_and_back(&frames::NONE, &frame).map(|_| ())
        }
    }
}

/// Part of config space.
pub(super) fn read_config(wire: &mut Wire, offset: u32, len: u32) -> Check<Vec<u8>> {
    let mut body = super::wire::words(&[offset, len, 0]);
    body.resize(body.len().saturating_add(len as usize), 0);
    let reply = wire.ask(request::GET_CONFIG, &body)?;
    let data = reply.get(12..).unwrap_or_default();
    if data.len() == len as usize {
        Ok(data.to_vec())
    } else {
        Err(Stop::Fail(format!("GET_CONFIG of {len} bytes from {offset} gave {}", data.len())))
    }
}
