//! The counters that a driver can ask for (virtio 1.4, 5.1.6.5.10).

use alloc::vec::Vec;

use super::Reply;
use crate::device::QueueRole;
use crate::features::Features;
use crate::rx::RxStats;
use crate::tx::TxStats;

/// Where the counters of the queues are.
pub trait Counters {
    /// Those of a receive queue; the pair it belongs to, from 0.
    fn rx(&self, pair: u16) -> RxCounters;
    /// Those of a transmit queue, likewise.
    fn tx(&self, pair: u16) -> TxCounters;
}

/// Counters of a receive queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxCounters {
    /// Kicks of the driver.
    pub notifications: u64,
    /// Calls to the driver.
    pub interrupts: u64,
    /// What the pump counted.
    pub pump: RxStats,
}

/// Counters of a transmit queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxCounters {
    /// Kicks of the driver.
    pub notifications: u64,
    /// Calls to the driver.
    pub interrupts: u64,
    /// What the pump counted.
    pub pump: TxStats,
}

/// Commands of a control queue: all, and those answered with [`Ack::Ok`](super::Ack::Ok).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CommandCounters {
    /// All of them.
    pub commands: u64,
    /// Those that were carried out.
    pub ok: u64,
}

/// `types_bitmap`: the control queue's.
pub const STATS_CVQ: u64 = 1 << 32;
/// `types_bitmap`: a receive queue's packets.
pub const STATS_RX_BASIC: u64 = 1;
/// `types_bitmap`: its checksums. With `GUEST_CSUM`.
pub const STATS_RX_CSUM: u64 = 1 << 1;
/// `types_bitmap`: its large frames. With `GUEST_TSO4` or `GUEST_TSO6`.
pub const STATS_RX_GSO: u64 = 1 << 2;
/// `types_bitmap`: a transmit queue's packets.
pub const STATS_TX_BASIC: u64 = 1 << 16;
/// `types_bitmap`: its checksums. With `CSUM`.
pub const STATS_TX_CSUM: u64 = 1 << 17;
/// `types_bitmap`: its large frames. With `HOST_TSO4`, `HOST_TSO6` or `HOST_USO`.
pub const STATS_TX_GSO: u64 = 1 << 18;

/// All that this device counts. There is no limit of a speed here, and no counter of what went beyond it.
const SUPPORTED: [u64; 7] =
    [STATS_CVQ, STATS_RX_BASIC, STATS_RX_CSUM, STATS_RX_GSO, STATS_TX_BASIC, STATS_TX_CSUM, STATS_TX_GSO];

/// One entry of `struct virtio_net_ctrl_queue_stats`: index, reserved, types.
const ENTRY: usize = 16;
/// `struct virtio_net_stats_reply_hdr`.
const HEADER: usize = 8;

/// Answers `STATS_QUERY`.
pub(crate) fn query(reply: &mut Reply) {
    reply.put(&SUPPORTED.iter().fold(0, |all, kind| all | kind).to_le_bytes());
}

/// What a request for counters is answered from.
pub(crate) struct Source<'a> {
    pub(crate) counters: &'a dyn Counters,
    pub(crate) commands: CommandCounters,
    pub(crate) acked: Features,
    /// Queues that there are.
    pub(crate) queues: usize,
    /// What a queue is for.
    pub(crate) role: &'a dyn Fn(u16) -> Option<QueueRole>,
}

/// Answers `STATS_GET`: all entries, or none if one of them is wrong.
pub(crate) fn get(data: &[u8], source: &Source<'_>, reply: &mut Reply) -> Option<()> {
    let (entries, rest) = data.as_chunks::<ENTRY>();
    // All types of a queue fit one entry: more entries than queues only cost time.
    if entries.is_empty() || !rest.is_empty() || entries.len() > source.queues {
        return None;
    }
    let mut asked = Vec::with_capacity(entries.len());
    for [i0, i1, _, _, _, _, _, _, types @ ..] in entries {
        let (index, types) = (u16::from_le_bytes([*i0, *i1]), u64::from_le_bytes(*types));
        match (source.role)(index) {
            Some(role) if types & !valid(role, source.acked) == 0 => asked.push((index, role, types)),
            _ => return None,
        }
    }
    for (index, role, types) in asked {
        for kind in SUPPORTED.into_iter().filter(|kind| types & kind != 0) {
            put(index, kind, &values(role, kind, source), reply);
        }
    }
    Some(())
}

/// Types that may be asked of a queue.
const fn valid(role: QueueRole, acked: Features) -> u64 {
    let tso = Features::GUEST_TSO4.union(Features::GUEST_TSO6);
    let gso = Features::HOST_TSO4.union(Features::HOST_TSO6).union(Features::HOST_USO);
    match role {
        QueueRole::Ctrl => STATS_CVQ,
        QueueRole::Rx(_) => {
            STATS_RX_BASIC
                | if acked.contains(Features::GUEST_CSUM) { STATS_RX_CSUM } else { 0 }
                | if acked.intersects(tso) { STATS_RX_GSO } else { 0 }
        }
        QueueRole::Tx(_) => {
            STATS_TX_BASIC
                | if acked.contains(Features::CSUM) { STATS_TX_CSUM } else { 0 }
                | if acked.intersects(gso) { STATS_TX_GSO } else { 0 }
        }
    }
}

/// Appends one reply, as far as the driver has room for it.
fn put(index: u16, kind: u64, values: &[u64], reply: &mut Reply) {
    let size = values.len().saturating_mul(size_of::<u64>()).saturating_add(HEADER);
    let [i0, i1] = index.to_le_bytes();
    let [s0, s1] = (size as u16).to_le_bytes(); // at most 72
    reply.put(&[kind.trailing_zeros() as u8, 0, i0, i1, 0, 0, s0, s1]); // at most 63
    values.iter().for_each(|value| reply.put(&value.to_le_bytes()));
}

/// The counters of one type, in the order of its structure.
fn values(role: QueueRole, kind: u64, source: &Source<'_>) -> Vec<u64> {
    let mut values = Vec::new();
    match role {
        QueueRole::Ctrl => values.extend([source.commands.commands, source.commands.ok]),
        QueueRole::Rx(pair) => values.extend_from_slice(rx(&source.counters.rx(pair), kind).as_slice()),
        QueueRole::Tx(pair) => values.extend_from_slice(tx(&source.counters.tx(pair), kind).as_slice()),
    }
    values
}

fn rx(c: &RxCounters, kind: u64) -> Vec<u64> {
    let p = &c.pump;
    let mut v = Vec::new();
    match kind {
        STATS_RX_BASIC => {
            // What a filter rejects is not the guest's, so it is not dropped.
            let drops = p.dropped.wrapping_add(p.too_long).wrapping_add(p.no_room).wrapping_add(p.lost);
            v.extend([c.notifications, p.frames, p.bytes, c.interrupts, drops, p.no_room]);
        }
        STATS_RX_CSUM => {
            let none = p.frames.wrapping_sub(p.data_valid).wrapping_sub(p.needs_csum);
            v.extend([p.data_valid, p.needs_csum, none, 0]);
        }
        // Nothing is coalesced here.
        _ => v.extend([p.gso_frames, p.gso_bytes, 0, 0]),
    }
    v
}

fn tx(c: &TxCounters, kind: u64) -> Vec<u64> {
    let p = &c.pump;
    let mut v = Vec::new();
    match kind {
        STATS_TX_BASIC => {
            let malformed = p.bad_chains.wrapping_add(p.bad_frames);
            let drops = malformed.wrapping_add(p.filtered).wrapping_add(p.failed);
            v.extend([c.notifications, p.frames, p.bytes, c.interrupts, drops, malformed]);
        }
        STATS_TX_CSUM => v.extend([p.frames.wrapping_sub(p.needs_csum), p.needs_csum]),
        // The host end segments, so no segment is known here.
        _ => v.extend([p.gso_frames, p.gso_bytes, 0, 0, p.gso_frames, p.gso_bytes]),
    }
    v
}
