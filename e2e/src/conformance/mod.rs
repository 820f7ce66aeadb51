//! What VIRTIO asks of a net device: a table of rows, and cases that show them on any vhost-user back end from outside.
//!
//! A case is a driver, or a front end, of its own: it negotiates, writes its rings by itself and looks at what the device side
//! does to them. What it knows of the device side is what that offers. Many rules show only where a frame that is sent comes
//! back: with `--net loopback` of our daemon, or DPDK's `--forward-mode=io` on one port.

mod cases;
mod frames;
mod guest;
mod outcome;
mod plug;
mod report;
mod ring;
mod rows;
mod suite;
mod target;
mod wire;

pub use report::Report;
pub use rows::{Id, Level, Row, ids, rows};
pub use suite::{Finding, Suite, Verdict};
