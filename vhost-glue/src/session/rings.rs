//! The rings' requests.
//!
//! A ring runs from the moment everything about it is known, its kick descriptor last in most dialects, until
//! `GET_VRING_BASE`. Its geometry and features are frozen meanwhile. A ring that was *disabled* may be set up anew
//! without `GET_VRING_BASE`, which User Mode Linux never sends: that stops it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use vhost::vhost_user::message::{VhostUserU64, VhostUserVringAddr, VhostUserVringState};
use virtio_ring::{Format, QueueState, RingError};

use super::vring::{Addresses, Kick, Vring};
use super::{Answer, Fail, Session};
use crate::error::Refusal;
use crate::message::Message;
use crate::port::Port;

/// Payload of the requests that bring a descriptor: ring index in the low byte.
const INDEX_MASK: u64 = 0xff;
/// No descriptor comes with this one.
const NO_FD: u64 = 1 << 8;

impl<P: Port> Session<'_, P> {
    /// The ring that a message names, by the whole number.
    fn index(&self, index: u64) -> Result<usize, Refusal> {
        let count = self.vrings.len();
        usize::try_from(index).ok().filter(|i| *i < count).ok_or(Refusal::Index { index, count })
    }

    fn vring(&mut self, index: usize) -> Result<&mut Vring, Refusal> {
        let count = self.vrings.len();
        self.vrings.get_mut(index).ok_or(Refusal::Index { index: index as u64, count })
    }

    /// Ring and number of a message about one ring.
    fn state(&self, message: &Message) -> Result<(usize, u32), Refusal> {
        let state = message.payload::<VhostUserVringState>()?;
        Ok((self.index(state.index.into())?, state.num))
    }

    pub(super) fn set_vring_num(&mut self, message: &Message) -> Result<Answer, Fail> {
        let (index, num) = self.state(message)?;
        let size = u16::try_from(num).map_err(|_| Refusal::Value { value: num.into(), max: 1 << 15 })?;
        match self.format() {
            Format::Split if !size.is_power_of_two() => {
                return Err(Refusal::Ring { index, error: RingError::Size { size } }.into());
            }
            Format::Packed if size == 0 || size > 1 << 15 => {
                return Err(Refusal::Ring { index, error: RingError::PackedSize { size } }.into());
            }
            Format::Split | Format::Packed => {}
        }
        self.settle(index)?;
        self.vring(index)?.size = size;
        self.try_start(index)
    }

    pub(super) fn set_vring_base(&mut self, message: &Message) -> Result<Answer, Fail> {
        let (index, num) = self.state(message)?;
        if self.format() == Format::Split && num > u16::MAX.into() {
            return Err(Refusal::Value { value: num.into(), max: u16::MAX.into() }.into());
        }
        self.settle(index)?;
        self.vring(index)?.base = Some(QueueState(num));
        self.try_start(index)
    }

    /// The log address means nothing, as logging is not offered.
    pub(super) fn set_vring_addr(&mut self, message: &Message) -> Result<Answer, Fail> {
        let addr = message.payload::<VhostUserVringAddr>()?;
        let VhostUserVringAddr { descriptor, available, used, .. } = addr;
        let index = self.index(addr.index.into())?;
        let addresses = Addresses { desc: descriptor, avail: available, used };
        if !self.memory.is_empty() {
            self.translate(&addresses)?;
        }
        self.settle(index)?;
        self.vring(index)?.addresses = Some(addresses);
        self.try_start(index)
    }

    /// Stops the ring and says where it stands.
    pub(super) fn vring_base(&mut self, message: &Message) -> Result<Answer, Fail> {
        let (index, _) = self.state(message)?;
        self.stop_ring(index)?;
        let start = self.format().start();
        let base = self.vring(index)?.base.unwrap_or(start).0;
        Ok(Answer::of(&VhostUserVringState::new(index as u32, base)))
    }

    /// Also without `VHOST_USER_F_PROTOCOL_FEATURES`, as DPDK sends it.
    pub(super) fn set_vring_enable(&mut self, message: &Message) -> Result<Answer, Fail> {
        let (index, num) = self.state(message)?;
        if num > 1 {
            return Err(Refusal::Value { value: num.into(), max: 1 }.into());
        }
        let on = num == 1;
        self.vring(index)?.enabled = Some(on);
        self.enable_ring(index, on)?;
        self.try_start(index)
    }

    pub(super) fn set_vring_kick(&mut self, message: &mut Message) -> Result<Answer, Fail> {
        let (index, fd) = self.event(message)?;
        self.vring(index)?.kick = fd.map_or(Kick::Polled, Kick::Event);
        self.update_signals(index)?;
        self.try_start(index)
    }

    pub(super) fn set_vring_call(&mut self, message: &mut Message) -> Result<Answer, Fail> {
        let (index, fd) = self.event(message)?;
        self.vring(index)?.call = fd;
        self.update_signals(index)?;
        Ok(Answer::Done)
    }

    pub(super) fn set_vring_err(&mut self, message: &mut Message) -> Result<Answer, Fail> {
        let (index, fd) = self.event(message)?;
        self.vring(index)?.error = fd;
        self.update_signals(index)?;
        Ok(Answer::Done)
    }

    /// Ring and descriptor of a message that brings one, or says that there is none.
    fn event(&self, message: &mut Message) -> Result<(usize, Option<Arc<OwnedFd>>), Refusal> {
        let value = message.payload::<VhostUserU64>()?.value;
        // Any higher bit would be lost in the index: it makes another ring's number of it.
        let index = self.index(value & !NO_FD)?;
        debug_assert!(index as u64 <= INDEX_MASK);
        if value & NO_FD != 0 {
            let found = message.fds.len();
            return if found == 0 { Ok((index, None)) } else { Err(Refusal::Descriptors { found, expected: 0 }) };
        }
        let fd = message.one_fd()?;
        // A worker must never wait in a read or write of something that the front end holds the other end of.
        let unblocked =
            rustix::fs::fcntl_getfl(&fd).and_then(|flags| rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK));
        if let Err(e) = unblocked {
            tracing::debug!("ring {index}: descriptor stays blocking: {e}");
        }
        Ok((index, Some(Arc::new(fd))))
    }

    /// Lets the set-up of a ring be changed: stops it if it is disabled.
    pub(super) fn settle(&mut self, index: usize) -> Result<(), Fail> {
        let begins_disabled = self.begins_disabled;
        let vring = self.vring(index)?;
        if vring.running.is_none() {
            if std::mem::take(&mut vring.suspended) {
                // Set up anew, it starts with the next kick descriptor.
                vring.kick = Kick::Unset;
            }
            return Ok(());
        }
        if vring.enabled.unwrap_or(!begins_disabled) {
            return Err(Refusal::Running { index }.into());
        }
        self.stop_ring(index)
    }

    /// Starts a ring if all about it is known.
    fn try_start(&mut self, index: usize) -> Result<Answer, Fail> {
        let started = self.start_ring(index);
        if let Err(Fail::Refused(_)) = started {
            // Not again with every message.
            self.vring(index)?.kick = Kick::Unset;
        }
        started.map(|()| Answer::Done)
    }

    /// Starts the rings that became ready by something that was not about one of them.
    pub(super) fn start_ready(&mut self) {
        for index in 0..self.vrings.len() {
            if let Err(Fail::Refused(refusal)) = self.start_ring(index) {
                tracing::debug!("ring {index} does not start yet: {refusal}");
            }
        }
    }
}
