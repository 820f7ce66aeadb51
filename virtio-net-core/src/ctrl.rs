//! The control queue (virtio 1.3, 5.1.6.5).

use alloc::vec::Vec;

use virtio_ring::{Chain, Chains, DeviceRing, GuestMemory, Notify, RingError, View};

/// Class of the command that announces the guest.
pub const CLASS_ANNOUNCE: u8 = 3;
/// The guest has seen the request to announce itself. No data.
pub const ANNOUNCE_ACK: u8 = 0;
/// Class of the commands for several queue pairs.
pub const CLASS_MQ: u8 = 4;
/// How many pairs the driver uses: a 16-bit number, little-endian.
pub const VQ_PAIRS_SET: u8 = 0;

/// Most bytes of data of one command; more is answered with [`Ack::Err`].
pub const MAX_COMMAND: usize = 65_536;

/// Chains that are accepted at once.
const DEPTH: usize = 16;
/// `class` and `cmd`.
const COMMAND_HEADER: usize = 2;

/// The answer to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ack {
    /// Done, and in force.
    #[doc(alias = "VIRTIO_NET_OK")]
    Ok = 0,
    /// Unknown, malformed or impossible: nothing has changed.
    #[doc(alias = "VIRTIO_NET_ERR")]
    Err = 1,
}

/// Carries commands out.
pub trait CtrlHandler {
    /// Carries one command out, so that it is in force when this returns: the driver sees the answer right after.
    ///
    /// `data` is a host copy. Whatever is unknown or malformed is answered with [`Ack::Err`].
    fn handle(&mut self, class: u8, cmd: u8, data: &[u8]) -> Ack;
}

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
}

/// Carries out the commands of one control queue.
#[derive(Debug)]
pub struct CtrlPump<M> {
    chains: Chains<M>,
    command: Vec<u8>,
    stats: CtrlStats,
}

impl<M: GuestMemory> CtrlPump<M> {
    /// A pump for a ring whose buffers are in `mem`.
    #[must_use]
    pub fn new(mem: M) -> Self {
        Self { chains: Chains::new(mem, DEPTH), command: Vec::new(), stats: CtrlStats::default() }
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &CtrlStats {
        &self.stats
    }

    /// The chains held ahead, to be rewound before the queue stops or its memory changes.
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
        let mut missing = false;
        while chains < budget {
            if self.chains.is_empty() {
                fault = fault.or(self.chains.fill(ring).err());
            }
            let view = self.chains.view();
            let Some(chain) = view.chains().first() else {
                missing = ring.missing().is_some();
                break;
            };
            let written = command(&view, chain, &mut self.command, handler, &mut self.stats);
            if let Some(token) = self.chains.pop() {
                ring.complete(token, written);
            }
            chains = chains.saturating_add(1);
        }
        let notify = ring.flush();
        match fault {
            Some(fault) => Err((fault, notify)),
            None => Ok(CtrlOutcome { chains, notify, more: chains >= budget, missing }),
        }
    }
}

/// Carries out the command of one chain; returns how many bytes were written.
fn command(
    view: &View<'_>,
    chain: &Chain,
    copy: &mut Vec<u8>,
    handler: &mut dyn CtrlHandler,
    stats: &mut CtrlStats,
) -> u32 {
    if chain.is_faulty() || chain.writable_len() == 0 {
        stats.bad_chains = stats.bad_chains.wrapping_add(1);
        return 0;
    }
    let ack = match read(view, chain, copy) {
        Some((class, cmd, data)) => handler.handle(class, cmd, data),
        None => Ack::Err,
    };
    let counter = if ack == Ack::Ok { &mut stats.done } else { &mut stats.refused };
    *counter = counter.wrapping_add(1);
    // Segments are never empty: the first has the first writable byte.
    view.writable(chain).first().map_or(0, |seg| seg.write(&[ack as u8]) as u32) // 1
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
