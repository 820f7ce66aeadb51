//! The host's end of the wire: a Linux tap as a back end of the net device.
//!
//! A [`Tap`] is an interface, a [`TapQueue`] one of its queues. A queue is a [`FrameSink`] and a [`FrameSource`]: each
//! frame is one `writev` straight from the guest's buffers, or one `readv` straight into them.
//!
//! ```
//! use tap_io::{IfMissing, Tap, TapError};
//! use virtio_net_core::Features;
//!
//! fn show(name: &str) -> Result<(), TapError> {
//!     let tap = Tap::open(name, 1, IfMissing::Fail)?;
//!     println!("{} can do {}", tap.name(), tap.features());
//!     tap.set_offloads(Features::GUEST_CSUM | Features::GUEST_TSO4)?; // what the driver acknowledged
//!     for queue in tap.queues() {
//!         // hand it to the pumps of one queue pair, and wait for its descriptor to become readable
//!         println!("{:?}", queue.stats());
//!     }
//!     Ok(())
//! }
//!
//! // One clear line, whatever is wrong: no such interface here, or not permitted to find out.
//! let error = show("no-such-tap0").unwrap_err();
//! println!("{error}");
//! assert!(!error.to_string().contains('\n'));
//! ```
//!
//! Not here: making interfaces that stay (use `ip tuntap`), addresses, bridges.
//!
//! [`FrameSink`]: virtio_net_core::backend::FrameSink
//! [`FrameSource`]: virtio_net_core::backend::FrameSource

mod descriptor;
mod error;
mod held;
mod offload;
mod queue;
mod stats;
mod sys;
mod tap;

pub use descriptor::inherited;
pub use error::TapError;
pub use queue::TapQueue;
pub use stats::{Errnos, QueueStats};
pub use tap::{IfMissing, Tap};
