//! A front end of our own, for measurements and tests: memory, one pair of rings and a driver that sends and receives
//! bursts of frames. It polls, as DPDK's does; nothing of Linux, and no TCP/IP stack, is in the way.
//!
//! It works with our daemon and with DPDK's vhost port, by the messages that DPDK's own front end uses.
//!
//! | part | what |
//! |---|---|
//! | `memory` | guest memory: a sealed memory file |
//! | `link` | vhost-user messages, kicks and calls |
//! | `half` | one ring and its buffers |
//! | [`Front`] | both rings, frames in bursts |
//! | [`trips`] | round trips: how long a frame is on its way there and back |
//! | [`contest`] | round trips of DPDK's vhost port and of our daemon, in turn |
//! | [`crowd`] | many front ends in one process |

pub mod contest;
pub mod crowd;
mod half;
mod layout;
pub(crate) mod link;
pub(crate) mod memory;
mod port;
pub mod trips;

pub use layout::Layout;
pub use port::{Front, FrontSpec, frame_to_itself};
pub use trips::{Quantiles, Samples, Trips, round_trips};
