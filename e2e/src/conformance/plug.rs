//! A driver on the device side that is looked at: negotiation, rings, frames in buffers of any shape, commands.

mod frames_in;
mod rings;

use super::guest::{Guest, plus};
use super::outcome::{Check, Stop, need, want};
use super::ring::{Format, Piece, Used};
use super::target::{PROTOCOL_BIT, Target};
use super::wire::{Wire, longs, protocol, request};
pub(super) use frames_in::Packet;
pub(super) use rings::Queue;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use virtio_net_core::Features;
use virtio_ring::GuestAddr;

/// Bits of the device status.
pub(super) mod status {
    pub(in super::super) const ACKNOWLEDGE: u64 = 1;
    pub(in super::super) const DRIVER: u64 = 2;
    pub(in super::super) const DRIVER_OK: u64 = 4;
    pub(in super::super) const FEATURES_OK: u64 = 8;
    pub(in super::super) const NEEDS_RESET: u64 = 64;
}

/// Protocol features that a driver takes if they are there.
const PROTOCOL: u64 = protocol::MQ | protocol::REPLY_ACK | protocol::CONFIG | protocol::RESET | protocol::STATUS;

/// Behind and between buffers, and in them before they are used.
pub(super) const CANARY: u8 = 0xa5;

/// What is negotiated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) features: Features,
    pub(super) size: u16,
    pub(super) pairs: u32,
}

impl Setup {
    /// One queue pair, mergeable buffers if they are offered, and nothing else.
    pub(super) fn new(target: &Target, format: Format) -> Self {
        let packed = if format == Format::Packed { Features::RING_PACKED } else { Features::empty() };
        let features = target.of(Features::MRG_RXBUF) | Features::VERSION_1 | packed;
        Self { features, size: 256, pairs: 1 }
    }

    pub(super) fn with(self, features: Features) -> Self {
        Self { features: self.features | features, ..self }
    }

    pub(super) fn without(self, features: Features) -> Self {
        Self { features: self.features.difference(features), ..self }
    }

    const fn format(&self) -> Format {
        if self.features.contains(Features::RING_PACKED) { Format::Packed } else { Format::Split }
    }
}

/// A driver with its rings.
pub(super) struct Plug<'t> {
    pub(super) target: &'t Target,
    pub(super) wire: Wire,
    pub(super) guest: Guest,
    pub(super) setup: Setup,
    /// By the number of the ring: rx 0, tx 0, rx 1, tx 1 and on; the control queue last, if there is one.
    pub(super) queues: Vec<Queue>,
    /// Receive buffers that are out, by ring and id.
    given: HashMap<(usize, u16), Vec<Piece>>,
    /// Where buffers begin.
    mark: u64,
    /// `FEATURES_OK` and the like pass.
    statuses: bool,
}

impl<'t> Plug<'t> {
    /// Negotiates, and hands memory and rings over; they are enabled, and the driver says so.
    pub(super) fn start(target: &'t Target, setup: Setup) -> Check<Self> {
        let mut plug = Self::prepare(target, setup)?;
        plug.enable(true)?;
        plug.driver_ok()?;
        Ok(plug)
    }

    /// The same up to the point at which rings are set up and only have no kick yet, with which they begin.
    pub(super) fn ready(target: &'t Target, setup: Setup) -> Check<Self> {
        target.needs(setup.features)?;
        let mut wire = target.open(PROTOCOL)?;
        let statuses = target.has(protocol::STATUS);
        if statuses {
            wire.tell(request::SET_STATUS, &longs(&[status::ACKNOWLEDGE | status::DRIVER]), &[])?;
        }
        let bits = setup.features.bits() as u64 | target.offered & PROTOCOL_BIT;
        wire.tell(request::SET_FEATURES, &longs(&[bits]), &[])?;
        let mut guest = Guest::new()?;
        let control = setup.features.contains(Features::CTRL_VQ);
        let last = if setup.features.intersects(Features::MQ | Features::RSS) { target.max_pairs()? } else { 1 };
        need!(setup.pairs <= last, "{} queue pairs, there are {last}", setup.pairs);
        let pairs = (0..setup.pairs.saturating_mul(2)).chain(control.then_some(last.saturating_mul(2)));
        let queues = pairs.map(|index| Queue::new(&mut guest, index, setup.format(), setup.size));
        let queues = queues.collect::<Check<Vec<Queue>>>()?;
        let mark = guest.mark();
        let mut plug = Self { target, wire, guest, setup, queues, given: HashMap::new(), mark, statuses };
        plug.features_ok()?;
        plug.hand_over()?;
        Ok(plug)
    }

    /// The same up to the point at which rings have begun and are not enabled.
    pub(super) fn prepare(target: &'t Target, setup: Setup) -> Check<Self> {
        let mut plug = Self::ready(target, setup)?;
        plug.begin()?;
        Ok(plug)
    }

    fn features_ok(&mut self) -> Check {
        if !self.statuses {
            return Ok(());
        }
        let wanted = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.set_status(wanted)?;
        let now = self.status()?;
        want!(now & status::FEATURES_OK != 0, "FEATURES_OK is not kept for {}: status {now:#x}", self.setup.features);
        Ok(())
    }

    pub(super) fn set_status(&mut self, value: u64) -> Check {
        self.wire.tell(request::SET_STATUS, &longs(&[value]), &[])
    }

    pub(super) fn status(&mut self) -> Check<u64> {
        self.wire.number(request::GET_STATUS)
    }

    /// The driver is ready, if there is a way to say so.
    pub(super) fn driver_ok(&mut self) -> Check {
        if !self.statuses {
            return Ok(());
        }
        let all = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        self.set_status(all)
    }

    /// Bytes of the header.
    pub(super) const fn header_len(&self) -> usize {
        self.setup.features.header_len()
    }

    pub(super) const fn format(&self) -> Format {
        self.setup.format()
    }

    /// The ring with this place among ours.
    pub(super) fn queue(&mut self, ring: usize) -> Check<&mut Queue> {
        self.queues.get_mut(ring).ok_or_else(|| Stop::NotApplicable(format!("there is no ring {ring}")))
    }

    /// Waits for this; false if it did not come in time.
    pub(super) fn until(&mut self, limit: Duration, mut there: impl FnMut(&mut Self) -> Check<bool>) -> Check<bool> {
        let begin = Instant::now();
        loop {
            if there(self)? {
                return Ok(true);
            }
            if begin.elapsed() > limit {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// The next used buffer of a ring, waited for.
    pub(super) fn used(&mut self, ring: usize) -> Check<Used> {
        let mut used = None;
        self.until(self.target.patience, |plug| {
            used = plug.look(ring)?;
            Ok(used.is_some())
        })?;
        used.ok_or_else(|| Stop::Fail(format!("ring {ring}: a buffer was not used within {:?}", self.target.patience)))
    }

    /// The next used buffer of a ring, if there is one now.
    pub(super) fn look(&mut self, ring: usize) -> Check<Option<Used>> {
        let queue = self.queues.get_mut(ring);
        queue.map_or(Ok(None), |queue| queue.ring.used(&self.guest))
    }

    /// Makes a chain available, and says so.
    pub(super) fn post(&mut self, ring: usize, pieces: &[Piece]) -> Check<u16> {
        let missing = || Stop::NotApplicable(format!("there is no ring {ring}"));
        let queue = self.queues.get_mut(ring).ok_or_else(missing)?;
        let id = queue.ring.post(&self.guest, pieces)?;
        queue.ring.publish(&self.guest);
        queue.kick()?;
        Ok(id)
    }

    /// Buffers with these contents, one for each length; what is left over is one more.
    pub(super) fn cut(&mut self, bytes: &[u8], lengths: &[usize]) -> Check<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        for len in lengths.iter().copied().chain([usize::MAX]) {
            let (now, later) = rest.split_at(len.min(rest.len()));
            rest = later;
            if !now.is_empty() {
                let addr = self.buffer(now.len())?;
                self.guest.write(addr, now);
                pieces.push(Piece::readable(addr, now.len() as u32));
            }
        }
        Ok(pieces)
    }

    /// A buffer that has canaries in it and around it.
    pub(super) fn buffer(&mut self, len: usize) -> Check<GuestAddr> {
        // All that was ever handed out is free if nothing is out.
        if self.given.is_empty() && self.guest.mark() > self.mark.saturating_add(super::guest::SIZE / 2) {
            self.guest.give_back(self.mark);
        }
        let around = len.saturating_add(128);
        let addr = self.guest.take(around as u64, 64)?;
        self.guest.write(addr, &vec![CANARY; around]);
        Ok(plus(addr, 64))
    }

    /// A command of the control queue: acknowledgement, and what was written behind it.
    pub(super) fn command(&mut self, class: u8, command: u8, data: &[u8], result: usize) -> Check<(u8, Vec<u8>)> {
        let request = [&[class, command], data].concat();
        let mut pieces = self.cut(&request, &[2])?;
        let room = result.saturating_add(1);
        let answer = self.buffer(room)?;
        pieces.push(Piece::writable(answer, room as u32));
        let used = self.carry_out(&pieces)?;
        want!(
            (1..=room).contains(&(used.len as usize)),
            "command {class}/{command}: length {} is reported, 1 to {room} expected",
            used.len
        );
        let written = self.guest.read(answer, used.len as usize);
        let (ack, rest) = written.split_first().ok_or_else(|| Stop::Fail("no acknowledgement".to_owned()))?;
        Ok((*ack, rest.to_vec()))
    }

    /// A chain of the control queue, whatever it is.
    pub(super) fn carry_out(&mut self, pieces: &[Piece]) -> Check<Used> {
        let ring = self.queues.len().saturating_sub(1);
        self.post(ring, pieces)?;
        self.used(ring)
    }

    /// A command that must succeed.
    pub(super) fn done(&mut self, class: u8, command: u8, data: &[u8]) -> Check {
        let (ack, _) = self.command(class, command, data, 0)?;
        want!(ack == 0, "command {class}/{command} with {} bytes is answered with {ack}, expected OK", data.len());
        Ok(())
    }

    /// A command that must be refused.
    pub(super) fn refused(&mut self, class: u8, command: u8, data: &[u8]) -> Check {
        let (ack, _) = self.command(class, command, data, 0)?;
        let shown = data.get(..data.len().min(24)).unwrap_or_default();
        want!(ack == 1, "command {class}/{command} with {shown:02x?} is answered with {ack}, expected ERR");
        Ok(())
    }
}
