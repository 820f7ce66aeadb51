//! One front end's session: its requests, one after the other.

mod negotiate;
mod port;
mod rings;
mod table;
mod vring;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vhost::vhost_user::message::{FrontendReq, VhostUserMsgValidator, VhostUserU64};
use vhost::vhost_user::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use virtio_net_core::{Features, NetDevice};

use crate::device::Parts;
use crate::error::{Refusal, SessionEnd, SessionError};
use crate::memory::MemoryTable;
use crate::message::{Channel, Message, Received};
use crate::pair::{Pair, Shared};
use crate::port::Port;
use crate::workers::Handle;
use vring::Vring;

/// Refusals that are logged in full; a front end that sends nothing else does not fill the log.
const LOGGED_REFUSALS: u64 = 16;

/// The bit of the feature word that belongs to the protocol.
const PROTOCOL_BIT: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// What a request is answered with.
enum Answer {
    /// Nothing but success, and that only if the front end wants to know.
    Done,
    /// A payload, always.
    Reply(Vec<u8>),
}

impl Answer {
    fn of<T: VhostUserMsgValidator>(payload: &T) -> Self {
        Self::Reply(bytes(payload).to_vec())
    }

    fn number(value: u64) -> Self {
        Self::of(&VhostUserU64::new(value))
    }
}

/// Why a request has no answer.
enum Fail {
    /// It was refused, and the session goes on.
    Refused(Refusal),
    /// The session cannot go on.
    Ended(SessionError),
}

impl<E: Into<Refusal>> From<E> for Fail {
    fn from(refusal: E) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<SessionError> for Fail {
    fn from(error: SessionError) -> Self {
        Self::Ended(error)
    }
}

/// The state of a session.
pub(crate) struct Session<'d, P: Port> {
    parts: &'d Parts,
    port: &'d mut P,
    channel: Channel,
    net: NetDevice,
    /// Features that the driver acknowledged, once `SET_FEATURES` came.
    acked: Option<Features>,
    /// `VHOST_USER_F_PROTOCOL_FEATURES` was among them: rings begin disabled.
    begins_disabled: bool,
    protocol: VhostUserProtocolFeatures,
    status: u8,
    /// Where requests of this side would go. There are none, but User Mode Linux needs the channel: it makes its
    /// interrupt of it.
    backend_requests: Option<OwnedFd>,
    memory: MemoryTable,
    vrings: Vec<Vring>,
    /// What the pairs share; `None` while the port is not started.
    shared: Option<Arc<Shared>>,
    /// One for each queue pair; empty while the port is not started.
    pairs: Vec<Handle<Pair<P::Queue>>>,
}

impl<'d, P: Port> Session<'d, P> {
    pub(crate) fn new(parts: &'d Parts, port: &'d mut P, channel: Channel) -> Result<Self, SessionError> {
        let memory = MemoryTable::empty().map_err(|e| SessionError::Socket(std::io::Error::other(e)))?;
        let vrings = (0..parts.rings()).map(|_| Vring::default()).collect();
        Ok(Self {
            parts,
            port,
            channel,
            net: parts.net.clone(),
            acked: None,
            begins_disabled: false,
            protocol: VhostUserProtocolFeatures::empty(),
            status: 0,
            backend_requests: None,
            memory,
            vrings,
            shared: None,
            pairs: Vec::new(),
        })
    }

    /// The driver suspended the device.
    fn is_suspended(&self) -> bool {
        self.status & negotiate::SUSPEND != 0
    }

    /// Serves to the end; every ring is stopped and every descriptor closed then.
    pub(crate) fn run(mut self) -> Result<SessionEnd, SessionError> {
        let end = self.serve();
        self.keep();
        end
    }

    fn serve(&mut self) -> Result<SessionEnd, SessionError> {
        loop {
            match self.channel.receive()? {
                Received::Message(message) => {
                    if !self.handle(message)? {
                        return Ok(SessionEnd::Stopped);
                    }
                }
                Received::Disconnected => return Ok(SessionEnd::Disconnected),
                Received::Stopped => return Ok(SessionEnd::Stopped),
            }
        }
    }

    /// Carries one request out and answers it. False if a stop was requested meanwhile.
    fn handle(&mut self, mut message: Message) -> Result<bool, SessionError> {
        let request = message.request;
        let result = self.dispatch(&mut message);
        // Only now: what `SET_PROTOCOL_FEATURES` acknowledges counts for itself.
        let wanted = message.need_reply && self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK);
        let refusal = match result {
            Ok(Answer::Reply(payload)) => return self.channel.reply(request, &payload),
            Ok(Answer::Done) => None,
            Err(Fail::Ended(error)) => return Err(error),
            Err(Fail::Refused(refusal)) => Some(refusal),
        };
        if let Some(refusal) = &refusal {
            self.refused(request, refusal);
            if has_reply(request) {
                return Err(SessionError::Unanswerable { request, refusal: refusal.clone() });
            }
        }
        if !wanted {
            return Ok(true);
        }
        let code = VhostUserU64::new(u64::from(refusal.is_some()));
        self.channel.reply(request, bytes(&code))
    }

    fn refused(&self, request: u32, refusal: &Refusal) {
        let mut count = 0;
        self.parts.stats.session(|s| {
            s.refusals = s.refusals.wrapping_add(1);
            count = s.refusals;
        });
        if count <= LOGGED_REFUSALS {
            tracing::warn!("request {request} is refused: {refusal}");
        } else {
            tracing::debug!("request {request} is refused: {refusal}");
        }
    }

    fn dispatch(&mut self, message: &mut Message) -> Result<Answer, Fail> {
        use FrontendReq as R;
        if message.truncated {
            return Err(Refusal::DescriptorsLost.into());
        }
        let request = R::try_from(message.request).map_err(|_| Refusal::Unsupported)?;
        if !takes_fds(request) && !message.fds.is_empty() {
            return Err(Refusal::Descriptors { found: message.fds.len(), expected: 0 }.into());
        }
        match request {
            // `RESET_OWNER` is deprecated; the text recommends to ignore it.
            R::SET_OWNER | R::RESET_OWNER => empty(message).map(|()| Answer::Done),
            R::GET_FEATURES | R::GET_PROTOCOL_FEATURES | R::GET_QUEUE_NUM | R::GET_MAX_MEM_SLOTS | R::GET_STATUS => {
                empty(message)?;
                Ok(Answer::number(self.number(request)))
            }
            R::SET_FEATURES => self.set_features(message),
            R::SET_PROTOCOL_FEATURES => self.set_protocol_features(message),
            R::SET_STATUS => self.set_status(message),
            R::RESET_DEVICE => {
                empty(message)?;
                self.reset()
            }
            R::SET_BACKEND_REQ_FD => {
                empty(message)?;
                self.backend_requests = Some(message.one_fd()?);
                Ok(Answer::Done)
            }
            R::GET_CONFIG => self.get_config(message),
            R::SET_CONFIG => self.set_config(message),
            R::SET_MEM_TABLE => self.set_mem_table(message),
            R::ADD_MEM_REG => self.add_mem_reg(message),
            R::REM_MEM_REG => self.rem_mem_reg(message),
            R::SET_VRING_NUM => self.set_vring_num(message),
            R::SET_VRING_BASE => self.set_vring_base(message),
            R::SET_VRING_ADDR => self.set_vring_addr(message),
            R::GET_VRING_BASE => self.vring_base(message),
            R::SET_VRING_ENABLE => self.set_vring_enable(message),
            R::SET_VRING_KICK => self.set_vring_kick(message),
            R::SET_VRING_CALL => self.set_vring_call(message),
            R::SET_VRING_ERR => self.set_vring_err(message),
            _ => Err(Refusal::Unsupported.into()),
        }
    }
}

/// Requests that come with descriptors. A descriptor with `REM_MEM_REG` is what older front ends send.
const fn takes_fds(request: FrontendReq) -> bool {
    use FrontendReq as R;
    matches!(
        request,
        R::SET_MEM_TABLE
            | R::ADD_MEM_REG
            | R::REM_MEM_REG
            | R::SET_VRING_KICK
            | R::SET_VRING_CALL
            | R::SET_VRING_ERR
            | R::SET_BACKEND_REQ_FD
    )
}

/// Requests that are answered with a payload of their own, which a refusal has none for.
fn has_reply(request: u32) -> bool {
    use FrontendReq as R;
    matches!(
        R::try_from(request),
        Ok(R::GET_FEATURES
            | R::GET_PROTOCOL_FEATURES
            | R::GET_QUEUE_NUM
            | R::GET_MAX_MEM_SLOTS
            | R::GET_STATUS
            | R::GET_CONFIG
            | R::GET_VRING_BASE
            | R::GET_INFLIGHT_FD
            | R::GET_SHARED_OBJECT
            | R::GET_SHMEM_CONFIG
            | R::SET_DEVICE_STATE_FD
            | R::CHECK_DEVICE_STATE
            | R::POSTCOPY_ADVISE
            | R::CREATE_CRYPTO_SESSION)
    )
}

fn empty(message: &Message) -> Result<(), Fail> {
    if message.body.is_empty() { Ok(()) } else { Err(message.size_error(0).into()) }
}

/// A payload's bytes.
fn bytes<T: VhostUserMsgValidator>(payload: &T) -> &[u8] {
    payload.as_slice()
}
