//! Starting and stopping: the host end, its queue pairs at their workers, the rings in them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tracing::Span;
use virtio_net_core::state::{RingState, StateError};
use virtio_net_core::{Features, QueueRole};
use virtio_ring::{Access, Format, GuestAddr, GuestMemory, QueueConfig, QueueState};

use super::vring::{Addresses, Kick};
use super::{Fail, Session};
use crate::error::{Refusal, SessionError};
use crate::pair::{Pair, Plan, Setup, Shared, Side};
use crate::port::{Port, PortQueue};
use crate::workers::{Handle, node_of};

/// Which of a pair's rings.
fn place(role: QueueRole) -> (usize, Side) {
    match role {
        QueueRole::Rx(pair) => (pair.into(), Side::Rx),
        QueueRole::Tx(pair) => (pair.into(), Side::Tx),
        QueueRole::Ctrl => (0, Side::Control),
    }
}

impl<P: Port> Session<'_, P> {
    /// The format of every ring, by what the driver acknowledged.
    pub(super) fn format(&self) -> Format {
        match self.acked {
            Some(acked) if acked.contains(Features::RING_PACKED) => Format::Packed,
            _ => Format::Split,
        }
    }

    /// Queue pairs that the driver may use.
    const fn pairs(&self, acked: Features) -> u16 {
        self.net.usable_pairs(acked)
    }

    pub(super) fn translate(&self, addresses: &Addresses) -> Result<[GuestAddr; 3], Refusal> {
        let find = |user| self.memory.guest_addr(user).ok_or(Refusal::UserAddress { user });
        Ok([find(addresses.desc)?, find(addresses.avail)?, find(addresses.used)?])
    }

    /// The geometry of a ring as the rings' crate wants it; `None` if it is not known yet.
    fn geometry(&self, index: usize) -> Result<Option<QueueConfig>, Refusal> {
        let known = self.vrings.get(index).and_then(|vring| vring.addresses.map(|a| (vring.size, a)));
        let (Some((size, addresses)), Some(acked)) = (known, self.acked) else { return Ok(None) };
        if size == 0 || self.memory.is_empty() {
            return Ok(None);
        }
        let [desc, driver, device] = self.translate(&addresses)?;
        let event_idx = acked.contains(Features::RING_EVENT_IDX);
        let indirect = acked.contains(Features::RING_INDIRECT_DESC);
        let in_order = acked.contains(Features::IN_ORDER);
        Ok(Some(QueueConfig { size, desc, driver, device, event_idx, indirect, in_order }))
    }

    /// Starts a ring that does not run, if all about it is known.
    pub(super) fn start_ring(&mut self, index: usize) -> Result<(), Fail> {
        let (Some(vring), Some(acked)) = (self.vrings.get(index), self.acked) else { return Ok(()) };
        if vring.running.is_some() || matches!(vring.kick, Kick::Unset) {
            return Ok(());
        }
        let Some(config) = self.geometry(index)? else { return Ok(()) };
        let count = self.vrings.len();
        let role = u32::try_from(index).ok().and_then(|index| self.net.queue_role(index, acked));
        let role = role.ok_or(Refusal::Index { index: index as u64, count })?;
        let format = self.format();
        let state = vring.base.unwrap_or(format.start());
        self.start_port(acked, config.desc)?;
        if role == QueueRole::Ctrl {
            self.go_on(acked, index, state);
        }
        let Some(vring) = self.vrings.get(index) else { return Ok(()) };
        let enabled = vring.enabled.unwrap_or(!self.begins_disabled);
        self.set_enabled(index, role, true);
        let setup = Setup { index, format, config, state, signals: vring.signals(), enabled, span: Span::current() };
        let memory = self.memory.memory().clone();
        let started = self.on_worker(role, move |pair, side| pair.start(side, &memory, setup))?;
        if let Err(error) = started {
            if let Some(fd) = self.vrings.get(index).and_then(|vring| vring.error.as_ref()) {
                crate::stop::wake(std::os::fd::AsFd::as_fd(fd));
            }
            self.set_enabled(index, role, false);
            return Err(Refusal::Ring { index, error }.into());
        }
        if let Some(vring) = self.vrings.get_mut(index) {
            vring.running = Some(role);
            vring.suspended = false;
        }
        Ok(())
    }

    /// Stops a ring, if it runs, and notes where it stands. It starts again with the next kick descriptor.
    pub(super) fn stop_ring(&mut self, index: usize) -> Result<(), Fail> {
        let Some(vring) = self.vrings.get_mut(index) else { return Ok(()) };
        vring.kick = Kick::Unset;
        let Some(role) = vring.running.take() else { return Ok(()) };
        self.set_enabled(index, role, false);
        let state = self.on_worker(role, Pair::stop)?;
        if let (Some(vring), Some(state)) = (self.vrings.get_mut(index), state) {
            vring.base = Some(state);
        }
        Ok(())
    }

    /// Moves a ring, if it runs, to the memory table of now.
    pub(super) fn move_ring(&mut self, index: usize) -> Result<(), Fail> {
        let Some(role) = self.vrings.get(index).and_then(|vring| vring.running) else { return Ok(()) };
        let config = self.geometry(index).ok().flatten();
        let memory = self.memory.memory().clone();
        let stopped = self.on_worker(role, move |pair, side| pair.remap(side, &memory, config))?;
        if let (Some(vring), Some(state)) = (self.vrings.get_mut(index), stopped) {
            tracing::warn!("ring {index} is not in the new memory table: it is stopped until it is");
            vring.running = None;
            vring.suspended = true;
            vring.base = Some(state);
        }
        Ok(())
    }

    pub(super) fn enable_ring(&mut self, index: usize, on: bool) -> Result<(), Fail> {
        let Some(role) = self.vrings.get(index).and_then(|vring| vring.running) else { return Ok(()) };
        self.on_worker(role, move |pair, side| pair.enable(side, on))?;
        Ok(())
    }

    /// Gives a running ring the descriptors of now.
    pub(super) fn update_signals(&mut self, index: usize) -> Result<(), Fail> {
        let Some(vring) = self.vrings.get(index) else { return Ok(()) };
        let Some(role) = vring.running else { return Ok(()) };
        let signals = vring.signals();
        self.on_worker(role, move |pair, side| pair.set_signals(side, signals))?;
        Ok(())
    }

    /// Lets the device know which of its queues are set up.
    fn set_enabled(&self, index: usize, role: QueueRole, on: bool) {
        if let (Some(shared), Ok(index), QueueRole::Rx(_) | QueueRole::Tx(_)) =
            (&self.shared, u16::try_from(index), role)
        {
            shared.change(|net| net.set_enabled(index, on));
        }
    }

    /// Lets the worker of a ring do something.
    fn on_worker<R: Send + 'static>(
        &self,
        role: QueueRole,
        job: impl FnOnce(&mut Pair<P::Queue>, Side) -> R + Send + 'static,
    ) -> Result<R, SessionError> {
        let (pair, side) = place(role);
        let handle = self.pairs.get(pair).ok_or(SessionError::Worker { pair })?;
        handle.ask(move |pair| job(pair, side))
    }

    /// Starts the host end and gives its queue pairs to workers, if that was not done. `ring`: where the first ring is;
    /// `first`: which one it is, and where it begins.
    fn start_port(&mut self, acked: Features, ring: GuestAddr) -> Result<(), SessionError> {
        if !self.pairs.is_empty() {
            return Ok(());
        }
        let expected = self.pairs(acked);
        let queues = self.port.start(acked, expected).map_err(SessionError::Port)?;
        let (found, node) = (queues.len(), self.node(ring));
        let fds = match queues.iter().map(poll_fd).collect::<io::Result<Vec<_>>>() {
            Ok(fds) if found == usize::from(expected) => fds,
            other => {
                self.port.stop(queues);
                return Err(other.map_or_else(SessionError::Port, |_| SessionError::PortQueues { found, expected }));
            }
        };
        let (spoof_check, learner) = (self.parts.spoof_check.clone(), self.parts.learner.clone());
        let shared = Arc::new(Shared::new(self.net.clone(), expected, learner));
        for (pair, (port, port_fd)) in queues.into_iter().zip(fds).enumerate() {
            let plan = Plan {
                pair,
                port,
                port_fd,
                tx_format: self.net.tx_format(),
                spoof_check: spoof_check.clone(),
                cell: self.parts.stats.pair(pair),
                stats: self.parts.stats.clone(),
                shared: Arc::clone(&shared),
                span: Span::current(),
                suspended: self.is_suspended(),
            };
            self.pairs.push(Handle::new(&self.parts.workers, pair, node, move || Pair::new(plan))?);
        }
        shared.complete(self.pairs.iter().filter_map(Handle::bell).collect());
        self.shared = Some(shared);
        Ok(())
    }

    /// The NUMA node whose memory holds what is at this address, if that matters.
    fn node(&self, addr: GuestAddr) -> Option<usize> {
        if !self.parts.workers.is_spread() {
            return None;
        }
        let slice = self.memory.memory().translate(addr, 1, Access::Read).ok()?;
        node_of(slice.as_ptr())
    }

    /// Suspends all pairs, each when what is under way in it is done with, or lets them go on.
    pub(super) fn set_suspended(&mut self, on: bool) -> Result<(), Fail> {
        for pair in &self.pairs {
            pair.ask(move |pair| pair.set_suspended(on))?;
        }
        if let Some(shared) = &self.shared {
            let mut net = shared.net();
            if on {
                net.suspend();
            } else {
                net.resume();
            }
        }
        Ok(())
    }

    /// The control ring starts: goes on with what the driver commanded in the last session if that ring goes on where it
    /// stood then, past its beginning.
    fn go_on(&self, acked: Features, index: usize, state: QueueState) {
        let (Some(shared), Some(mut kept)) = (&self.shared, self.parts.kept().take()) else { return };
        let ring = kept.rings.iter().find(|ring| usize::from(ring.index) == index);
        if kept.acked != acked || state == self.format().start() || ring.is_none_or(|ring| ring.state != state) {
            return;
        }
        // An orderly end stops all rings. Those that there were start again, or have already.
        let was_there = |index: usize| kept.rings.iter().any(|ring| usize::from(ring.index) == index);
        kept.enabled = (0..kept.enabled.len()).map(was_there).collect();
        let suspended = self.is_suspended();
        let restored = shared.change(|net| {
            net.restore(&kept)?;
            // Whether it is suspended now the device status says.
            if !suspended {
                net.resume();
            }
            Ok::<_, StateError>(())
        });
        match restored {
            Ok(()) => tracing::info!("the device goes on with what its driver commanded before"),
            Err(e) => tracing::warn!("the state of the last session is of no use: {e}"),
        }
    }

    /// Stops everything, and keeps the state for a session that goes on from it.
    pub(super) fn keep(&mut self) {
        let state = self.shared.as_ref().map(|shared| shared.net().save());
        self.stop_port();
        let Some(mut state) = state else { return };
        for (index, vring) in self.vrings.iter().enumerate() {
            if let (Ok(index), Some(state_of)) = (u16::try_from(index), vring.base) {
                state.rings.push(RingState { index, size: vring.size, state: state_of });
            }
        }
        *self.parts.kept() = Some(state);
    }

    /// Stops every ring, takes the pairs from their workers, and stops the host end.
    pub(super) fn stop_port(&mut self) {
        if self.pairs.is_empty() {
            return;
        }
        for index in 0..self.vrings.len() {
            if let Err(Fail::Ended(e)) = self.stop_running(index) {
                tracing::error!("ring {index} is not stopped: {e}");
            }
        }
        self.shared = None;
        let queues = self.pairs.drain(..).filter_map(|pair| pair.finish(Pair::end)).collect();
        self.port.stop(queues);
    }

    /// Stops a ring without forgetting its kick descriptor.
    fn stop_running(&mut self, index: usize) -> Result<(), Fail> {
        let kick = self.vrings.get(index).map(|vring| vring.kick.clone()).unwrap_or_default();
        let stopped = self.stop_ring(index);
        if let Some(vring) = self.vrings.get_mut(index) {
            vring.kick = kick;
        }
        stopped
    }
}

/// The descriptor of a queue of the port's to wait at. A second one of it: a worker may wait at it for a moment longer than
/// the queue lives, and two queues may have the same.
fn poll_fd<Q: PortQueue>(queue: &Q) -> io::Result<Option<Arc<OwnedFd>>> {
    queue.poll_fd().map(|fd| fd.try_clone_to_owned().map(Arc::new)).transpose()
}
