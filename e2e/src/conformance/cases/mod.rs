//! The cases.

mod calls;
mod control;
mod features;
mod filters;
mod framing;
mod hostile;
mod messages;
mod offloads;
mod queues;
mod receive;
mod rings;
mod send;

use super::suite::Case;

/// All of them, in the order of the rows.
pub(super) fn all() -> impl Iterator<Item = Case> {
    let groups = [
        features::CASES,
        rings::CASES,
        framing::CASES,
        calls::CASES,
        send::CASES,
        receive::CASES,
        offloads::CASES,
        control::CASES,
        filters::CASES,
        queues::CASES,
        hostile::CASES,
        messages::CASES,
    ];
    groups.into_iter().flatten().copied()
}
