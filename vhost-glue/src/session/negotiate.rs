//! Features, status, config space.

use vhost::vhost_user::VhostUserProtocolFeatures;
use vhost::vhost_user::message::{FrontendReq, VHOST_USER_CONFIG_OFFSET, VhostUserConfig, VhostUserU64};
use virtio_net_core::Features;

use super::{Answer, Fail, PROTOCOL_BIT, Session, bytes};
use crate::error::Refusal;
use crate::memory::MAX_REGIONS;
use crate::message::Message;
use crate::port::Port;

/// What this side of the protocol can do.
const PROTOCOL_FEATURES: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::RESET_DEVICE)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(VhostUserProtocolFeatures::STATUS);

/// `DRIVER_OK` of the device status.
const DRIVER_OK: u8 = 4;
/// `SUSPEND` of the device status.
pub(super) const SUSPEND: u8 = 16;
/// `DEVICE_NEEDS_RESET` of the device status.
const NEEDS_RESET: u8 = 64;

/// Bytes of config space in a message.
const CONFIG_LEN: u32 = VHOST_USER_CONFIG_OFFSET;

impl<P: Port> Session<'_, P> {
    /// The answer to a request for one number.
    pub(super) fn number(&self, request: FrontendReq) -> u64 {
        match request {
            FrontendReq::GET_FEATURES => self.offered_bits(),
            FrontendReq::GET_PROTOCOL_FEATURES => PROTOCOL_FEATURES.bits(),
            // Rings, as the text has it. QEMU compares it with its queue pairs, which then always fit; crates of
            // rust-vmm compare it with rings.
            FrontendReq::GET_QUEUE_NUM => self.vrings.len() as u64,
            FrontendReq::GET_MAX_MEM_SLOTS => MAX_REGIONS as u64,
            FrontendReq::GET_STATUS => {
                let broken = if self.parts.stats.is_broken() { NEEDS_RESET } else { 0 };
                u64::from(self.status | broken)
            }
            _ => 0,
        }
    }

    /// What is offered in the protocol's word: the low 64 bits, and the protocol's own.
    fn offered_bits(&self) -> u64 {
        self.parts.offered().bits() as u64 | PROTOCOL_BIT
    }

    pub(super) fn set_features(&mut self, message: &Message) -> Result<Answer, Fail> {
        let bits = message.payload::<VhostUserU64>()?.value;
        let foreign = bits & !self.offered_bits();
        if foreign != 0 {
            return Err(Refusal::NotOffered { bits: foreign }.into());
        }
        let mut net = self.parts.net.clone();
        let passed_on = Features::from_bits_retain(u128::from(bits & !PROTOCOL_BIT));
        // QEMU serves the control queue itself and does not pass that bit on.
        let kept = passed_on | (self.parts.offered() & Features::FRONT_END_MAY_KEEP);
        net.acknowledge(passed_on).or_else(|e| net.acknowledge(kept).map_err(|_| e)).map_err(Refusal::Features)?;
        let acked = net.acked();
        let begins_disabled = bits & PROTOCOL_BIT != 0;
        // The same again while a ring is in use, or about to be, changes nothing. When all were disabled or stopped another driver
        // may begin: User Mode Linux says nothing else of that. Whether it is the one before its control ring shows.
        let same = self.acked == Some(acked) && self.begins_disabled == begins_disabled;
        if same && self.vrings.iter().any(|vring| vring.running.is_some() && vring.enabled != Some(false)) {
            return Ok(Answer::Done);
        }
        // Features are frozen while a ring runs.
        for index in 0..self.vrings.len() {
            self.settle(index)?;
        }
        if same {
            self.keep();
        } else {
            self.stop_port();
        }
        self.net = net;
        self.acked = Some(acked);
        self.begins_disabled = begins_disabled;
        self.parts.stats.session(|s| s.features = Some(acked));
        self.start_ready();
        Ok(Answer::Done)
    }

    pub(super) fn set_protocol_features(&mut self, message: &Message) -> Result<Answer, Fail> {
        let bits = message.payload::<VhostUserU64>()?.value;
        let foreign = bits & !PROTOCOL_FEATURES.bits();
        if foreign != 0 {
            return Err(Refusal::NotOffered { bits: foreign }.into());
        }
        self.protocol = VhostUserProtocolFeatures::from_bits_truncate(bits);
        self.parts.stats.session(|s| s.protocol_features = bits);
        Ok(Answer::Done)
    }

    pub(super) fn set_status(&mut self, message: &Message) -> Result<Answer, Fail> {
        let value = message.payload::<VhostUserU64>()?.value;
        let status = u8::try_from(value).map_err(|_| Refusal::Value { value, max: u8::MAX.into() })?;
        if status == 0 {
            return self.reset();
        }
        // Before the driver has set everything up there is nothing to suspend (virtio 1.4, 2.1.2).
        let runs = (self.status | status) & DRIVER_OK != 0
            && self.acked.is_some_and(|acked| acked.contains(Features::SUSPEND));
        let suspended = runs && status & SUSPEND != 0;
        if suspended != (self.status & SUSPEND != 0) {
            self.set_suspended(suspended)?;
        }
        self.status = if suspended { status } else { status & !SUSPEND };
        Ok(Answer::Done)
    }

    /// Stops every ring and forgets its set-up. What was negotiated stays: front ends negotiate anew by themselves.
    pub(super) fn reset(&mut self) -> Result<Answer, Fail> {
        for index in 0..self.vrings.len() {
            self.stop_ring(index)?;
        }
        self.stop_port();
        self.vrings.iter_mut().for_each(super::Vring::reset);
        self.parts.stats.mend();
        self.status = 0;
        Ok(Answer::Done)
    }

    pub(super) fn get_config(&self, message: &Message) -> Result<Answer, Fail> {
        let (config, rest) = message.front::<VhostUserConfig>()?;
        let VhostUserConfig { offset, size, flags } = config;
        let end = u64::from(offset).saturating_add(u64::from(size));
        let fits = size > 0 && end <= CONFIG_LEN.into() && rest.len() as u64 == u64::from(size);
        let mut head = config;
        if !fits {
            // The protocol's way to say no.
            self.refused(message.request, &Refusal::Config { offset, end });
            head.size = 0;
            return Ok(Answer::of(&head));
        }
        head.flags = flags;
        let mut reply = bytes(&head).to_vec();
        let mut data = vec![0; rest.len()];
        // Bytes behind the last field are zero.
        match &self.shared {
            // What the driver changed by command is there.
            Some(shared) => shared.net().config().read(offset as usize, &mut data),
            None => self.net.config().read(offset as usize, &mut data),
        }
        reply.extend_from_slice(&data);
        Ok(Answer::Reply(reply))
    }

    /// Every field is read-only for a driver (virtio 1.3, 5.1.4), and there is no migration by this way.
    pub(super) fn set_config(&self, message: &Message) -> Result<Answer, Fail> {
        let (config, rest) = message.front::<VhostUserConfig>()?;
        let VhostUserConfig { offset, size, .. } = config;
        if rest.len() as u64 != u64::from(size) {
            return Err(message.size_error(size_of::<VhostUserConfig>().saturating_add(size as usize)).into());
        }
        Err(Refusal::Config { offset, end: u64::from(offset).saturating_add(u64::from(size)) }.into())
    }
}
