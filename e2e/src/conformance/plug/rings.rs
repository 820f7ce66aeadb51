//! Rings and their descriptors.

use super::super::guest::Guest;
use super::super::outcome::{Check, Stop, at};
use super::super::ring::{Calls, Format, Place, Ring};
use super::super::target::PROTOCOL_BIT;
use super::super::wire::{longs, request, words};
use super::Plug;
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, OwnedFd};

/// One ring with its kick and its call.
pub(in super::super) struct Queue {
    /// Its number for the device side.
    pub(in super::super) index: u32,
    pub(in super::super) ring: Ring,
    kick: OwnedFd,
    call: OwnedFd,
}

impl Queue {
    pub(super) fn new(guest: &mut Guest, index: u32, format: Format, size: u16) -> Check<Self> {
        let ring = Ring::new(format, Place::take(guest, size)?);
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(at("eventfd"));
        Ok(Self { index, ring, kick: event()?, call: event()? })
    }

    /// Says that there is something new.
    pub(in super::super) fn kick(&self) -> Check {
        rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).map(|_| ()).map_err(at("kick"))
    }

    /// How often the device side called since this was asked last.
    pub(in super::super) fn called(&self) -> u64 {
        let mut count = [0; 8];
        rustix::io::read(&self.call, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
    }
}

impl Plug<'_> {
    /// Memory table and rings.
    pub(super) fn hand_over(&mut self) -> Check {
        let region = self.guest.mapping.describe();
        let table = [
            words(&[1, 0]),
            longs(&[region.guest_phys_addr, region.memory_size, region.userspace_addr, region.mmap_offset]),
        ];
        let file = self.guest.mapping.file();
        self.wire.tell(request::SET_MEM_TABLE, &table.concat(), &[file])?;
        for ring in 0..self.queues.len() {
            self.describe(ring, None)?;
        }
        Ok(())
    }

    /// Rings begin with this.
    pub(in super::super) fn begin(&mut self) -> Check {
        (0..self.queues.len()).try_for_each(|ring| self.give_kick(ring))
    }

    fn give_kick(&mut self, ring: usize) -> Check {
        let Some(queue) = self.queues.get(ring) else { return Ok(()) };
        self.wire.tell(request::SET_VRING_KICK, &longs(&[queue.index.into()]), &[queue.kick.as_fd()])
    }

    /// One ring, from this base on instead of its beginning.
    pub(in super::super) fn set_up(&mut self, ring: usize, base: Option<u32>) -> Check {
        self.describe(ring, base)?;
        self.give_kick(ring)
    }

    /// All about a ring but its kick.
    fn describe(&mut self, ring: usize, base: Option<u32>) -> Check {
        let Some(queue) = self.queues.get(ring) else { return Ok(()) };
        let (place, index) = (queue.ring.place(), queue.index);
        let base = base.unwrap_or_else(|| queue.ring.base());
        let user = |addr| self.guest.mapping.user(addr);
        let addresses = [words(&[index, 0]), longs(&[user(place.desc), user(place.device), user(place.driver), 0])];
        self.wire.tell(request::SET_VRING_NUM, &words(&[index, place.size.into()]), &[])?;
        self.wire.tell(request::SET_VRING_BASE, &words(&[index, base]), &[])?;
        self.wire.tell(request::SET_VRING_ADDR, &addresses.concat(), &[])?;
        self.wire.tell(request::SET_VRING_CALL, &longs(&[index.into()]), &[queue.call.as_fd()])
    }

    /// A new ring in the place of a stopped one; what was out is forgotten.
    pub(in super::super) fn renew(&mut self, ring: usize, size: u16) -> Check {
        let format = self.format();
        let place = Place::take(&mut self.guest, size)?;
        self.queue(ring)?.ring = Ring::new(format, place);
        // Buffers come from behind the rings.
        self.mark = self.guest.mark();
        self.given.retain(|(of, _), _| *of != ring);
        Ok(())
    }

    /// Every ring; without the protocol's own feature rings begin enabled.
    pub(in super::super) fn enable(&mut self, on: bool) -> Check {
        for ring in 0..self.queues.len() {
            self.enable_ring(ring, on)?;
        }
        Ok(())
    }

    pub(in super::super) fn enable_ring(&mut self, ring: usize, on: bool) -> Check {
        let index = self.queue(ring)?.index;
        if self.target.offered & PROTOCOL_BIT == 0 {
            return Ok(());
        }
        self.wire.tell(request::SET_VRING_ENABLE, &words(&[index, on.into()]), &[])
    }

    /// Stops a ring; where it stood.
    pub(in super::super) fn stop(&mut self, ring: usize) -> Check<u32> {
        let index = self.queue(ring)?.index;
        let reply = self.wire.ask(request::GET_VRING_BASE, &words(&[index, 0]))?;
        let base = reply.get(4..).and_then(|bytes| bytes.first_chunk());
        let short = || Stop::Fail(format!("GET_VRING_BASE is answered with {} bytes", reply.len()));
        base.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or_else(short)
    }

    /// When this ring's driver wants to be called; calls so far are forgotten.
    pub(in super::super) fn calls(&mut self, ring: usize, when: Calls) {
        if let Some(queue) = self.queues.get(ring) {
            queue.ring.calls(&self.guest, when);
            queue.called();
        }
    }

    /// Whether a call comes.
    pub(in super::super) fn called(&mut self, ring: usize) -> Check<bool> {
        let limit = self.target.patience;
        self.until(limit, |plug| Ok(plug.queue(ring)?.called() > 0))
    }

    /// Whether none comes.
    pub(in super::super) fn silent(&mut self, ring: usize) -> Check<bool> {
        let limit = self.target.quiet;
        Ok(!self.until(limit, |plug| Ok(plug.queue(ring)?.called() > 0))?)
    }

    /// Whether nothing is used in this ring for a while.
    pub(in super::super) fn untouched(&mut self, ring: usize) -> Check<bool> {
        let limit = self.target.quiet;
        Ok(!self.until(limit, |plug| Ok(plug.look(ring)?.is_some()))?)
    }
}
