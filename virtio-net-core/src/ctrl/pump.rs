//! Commands from a ring, answers to it.

use alloc::vec::Vec;

use virtio_ring::{Chain, Chains, DeviceRing, GuestMemory, Notify, RingError, View};

use super::{Ack, CtrlHandler, MAX_COMMAND, Reply};

/// Chains that are accepted at once.
const DEPTH: usize = 16;
/// `class` and `cmd`.
const COMMAND_HEADER: usize = 2;

/// Counters of a control queue. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CtrlStats {
    /// Commands answered with [`Ack::Ok`].
    pub done: u64,
    /// Commands answered with [`Ack::Err`].
    pub refused: u64,
    /// Chains that broke a rule or have no room for an answer: given back with length 0, not carried out.
    pub bad_chains: u64,
}

/// What a control pump did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CtrlOutcome {
    /// Chains taken from the ring.
    pub chains: usize,
    /// Whether the driver wants a call for them.
    pub notify: Notify,
    /// True if the budget is used up: there may be more.
    pub more: bool,
    /// True if the next command waits for a translation: see [`DeviceRing::missing`].
    pub missing: bool,
    /// True if a command is carried out but not in force everywhere yet: come again when it may be.
    pub settling: bool,
}

/// Carries out the commands of one control queue.
#[derive(Debug)]
pub struct CtrlPump<M> {
    chains: Chains<M>,
    command: Vec<u8>,
    reply: Reply,
    /// The answer to the first chain, once its command was carried out.
    answer: Option<Ack>,
    stats: CtrlStats,
}

impl<M: GuestMemory> CtrlPump<M> {
    /// A pump for a ring whose buffers are in `mem`.
    #[must_use]
    pub fn new(mem: M) -> Self {
        Self {
            chains: Chains::new(mem, DEPTH),
            command: Vec::new(),
            reply: Reply::default(),
            answer: None,
            stats: CtrlStats::default(),
        }
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &CtrlStats {
        &self.stats
    }

    /// The chains held ahead, to be rewound before the queue stops or its memory changes.
    ///
    /// The answer to a command that is not in force everywhere yet is kept: the same pump goes on with it.
    pub const fn chains(&mut self) -> &mut Chains<M> {
        &mut self.chains
    }

    /// Carries out at most `budget` commands, with one publication at the end.
    ///
    /// # Errors
    /// [`RingError`] when the driver broke the ring. What was taken before is carried out and published.
    pub fn pump<R: DeviceRing>(
        &mut self,
        ring: &mut R,
        handler: &mut dyn CtrlHandler,
        budget: usize,
    ) -> Result<CtrlOutcome, (RingError, Notify)> {
        let mut chains = 0_usize;
        let mut fault = None;
        let (mut missing, mut settling) = (false, false);
        while chains < budget {
            if self.chains.is_empty() {
                fault = fault.or(self.chains.fill(ring).err());
            }
            let view = self.chains.view();
            let Some(chain) = view.chains().first() else {
                missing = ring.missing().is_some();
                break;
            };
            let written = if chain.is_faulty() || chain.writable_len() == 0 {
                self.stats.bad_chains = self.stats.bad_chains.wrapping_add(1);
                0
            } else {
                let room = (chain.writable_len() as usize).saturating_sub(1);
                let ack = match self.answer {
                    Some(ack) => ack,
                    None => {
                        self.reply.renew(room);
                        let command = read(&view, chain, &mut self.command);
                        carry_out(command, handler, &mut self.reply, &mut self.stats)
                    }
                };
                if !handler.is_settled() {
                    self.answer = Some(ack);
                    settling = true;
                    break;
                }
                answer(&view, chain, ack, &self.reply)
            };
            self.answer = None;
            if let Some(token) = self.chains.pop() {
                ring.complete(token, written);
            }
            chains = chains.saturating_add(1);
        }
        let notify = ring.flush();
        match fault {
            Some(fault) => Err((fault, notify)),
            None => Ok(CtrlOutcome { chains, notify, more: chains >= budget, missing, settling }),
        }
    }
}

/// Carries out a command, if it is one.
fn carry_out(
    command: Option<(u8, u8, &[u8])>,
    handler: &mut dyn CtrlHandler,
    reply: &mut Reply,
    stats: &mut CtrlStats,
) -> Ack {
    let ack = match command {
        Some((class, cmd, data)) => handler.handle(class, cmd, data, reply),
        None => Ack::Err,
    };
    let counter = if ack == Ack::Ok { &mut stats.done } else { &mut stats.refused };
    *counter = counter.wrapping_add(1);
    ack
}

/// Writes the answer, however its place is cut into buffers; returns how many bytes that were.
fn answer(view: &View<'_>, chain: &Chain, ack: Ack, reply: &Reply) -> u32 {
    let result = if ack == Ack::Ok { reply.as_bytes() } else { &[] };
    let mut parts = [&[ack as u8][..], result];
    let mut written = 0_usize;
    for seg in view.writable(chain) {
        let mut at = 0_usize;
        for part in &mut parts {
            let n = seg.skip(at).write(part);
            *part = part.get(n..).unwrap_or_default();
            at = at.saturating_add(n);
        }
        written = written.saturating_add(at);
    }
    written as u32 // at most the chain's length
}

/// Copies a command to the host, however it is cut into buffers. `None` if it is too short or too long to be one.
fn read<'c>(view: &View<'_>, chain: &Chain, copy: &'c mut Vec<u8>) -> Option<(u8, u8, &'c [u8])> {
    let len = chain.readable_len() as usize;
    if !(COMMAND_HEADER..=MAX_COMMAND.saturating_add(COMMAND_HEADER)).contains(&len) {
        return None;
    }
    copy.clear();
    copy.resize(len, 0);
    let mut left: &mut [u8] = copy;
    for seg in view.readable(chain) {
        let n = seg.read(left);
        left = left.get_mut(n..).unwrap_or_default();
    }
    match copy.as_slice() {
        [class, cmd, data @ ..] => Some((*class, *cmd, data)),
        _ => None,
    }
}
