//! Real guests for the tests and the demo: installs what they need, builds their initramfs, boots User Mode
//! Linux or QEMU with a vhost-user network card (or, for comparison, one of their own on a tap), and reads the
//! results of the checks that [`guest_agent`] runs inside.
//!
//! What it is not: a test of anything by itself. `xtask` and the tests of this crate call it.
//!
//! ```no_run
//! use e2e::{Guest, GuestSpec, Kind, Nic, Plan, Workshop};
//! # fn main() -> Result<(), e2e::Error> {
//! let shop = Workshop::new("target/guests")?;
//! let assets = shop.prepare(&[Kind::Uml], &mut |line| println!("{line}"))?;
//! let spec = GuestSpec::new(Kind::Uml, Nic::vhost_user("/tmp/vm0.sock"), Plan::standard(2, 64));
//! let mut guest = Guest::boot(&spec, &assets)?;
//! while let Some(line) = guest.next_line()? {
//!     println!("{} {} {:?}", line.check, line.result, line.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | part | what |
//! |---|---|
//! | [`setup`] | packages, kernels, the agent, all into one folder |
//! | [`initramfs`] | cpio archive, gzip |
//! | [`guest`] | boot, result lines, deadline, nothing left behind |
//! | [`front`] | front ends of our own that only send and receive frames, for measurements |
//! | [`inprocess`] | the guest that is only a thread: our own driver side with a TCP/IP stack |
//! | [`conformance`] | what VIRTIO asks of a net device, and cases for any vhost-user back end |
//! | [`cost`] | memory, processor time and descriptors of a process |
//! | [`daemon`] | the daemon under test |
//! | [`dpdk`] | DPDK's test program as a front end |
//! | [`services`] | what the checks talk to when the host end is a real Linux stack |
//! | [`netns`] | network namespace with a tap and the services in it |
//! | [`load`] | loads on that tap, and what they cost |

pub mod conformance;
pub mod cost;
pub mod daemon;
pub mod dpdk;
mod error;
pub mod front;
pub mod guest;
pub mod initramfs;
pub mod inprocess;
pub mod kvm;
pub mod load;
pub mod netns;
pub mod services;
pub mod setup;

pub use daemon::{Daemon, HostEnd};
pub use error::Error;
pub use guest::{Event, Guest, GuestSpec, Kind, Nic};
pub use guest_agent::{self as agent, Check, Line, Plan, Step, Verdict};
pub use netns::TapNet;
pub use setup::{Assets, Workshop};
