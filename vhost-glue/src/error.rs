//! What can go wrong in a session.

use std::io;

use virtio_net_core::features::FeatureError;
use virtio_ring::RingError;

use crate::memory::MemoryError;

/// How a session ended in good order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEnd {
    /// The front end hung up.
    Disconnected,
    /// A stop was requested.
    Stopped,
}

/// Why a session ended in bad order. The rings are stopped and everything is given back all the same, and the device
/// can serve the next front end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The socket failed.
    #[error("connection failed: {0}")]
    Socket(#[from] io::Error),
    /// The front end hung up inside of a message.
    #[error("front end hung up after {found} of {expected} bytes of a message")]
    Cut {
        /// Bytes received.
        found: usize,
        /// Bytes that the message has.
        expected: usize,
    },
    /// A header of another version, or a reply where a request was expected.
    #[error("request {request} has flags {flags:#x}, expected version 1 and no reply")]
    Flags {
        /// Number of the request.
        request: u32,
        /// The flags found.
        flags: u32,
    },
    /// A payload longer than any message.
    #[error("request {request} has {size} bytes of payload, expected at most 4096")]
    TooLong {
        /// Number of the request.
        request: u32,
        /// Size of the payload.
        size: u32,
    },
    /// A request that must be answered cannot be.
    #[error("request {request} cannot be answered: {refusal}")]
    Unanswerable {
        /// Number of the request.
        request: u32,
        /// Why.
        refusal: Refusal,
    },
    /// The host end does not start.
    #[error("host end does not start: {0}")]
    Port(io::Error),
    /// The host end started with another number of queues than it was asked for.
    #[error("host end started with {found} queues, expected {expected}")]
    PortQueues {
        /// Queues it made.
        found: usize,
        /// Queues asked for.
        expected: u16,
    },
    /// Every worker has died.
    #[error("no worker is left to serve a queue pair")]
    NoWorker,
    /// The worker of a queue pair died.
    #[error("worker of queue pair {pair} is gone")]
    Worker {
        /// The queue pair.
        pair: usize,
    },
    /// The worker is there, but does not serve the queue pair any more.
    #[error("queue pair {pair} is not at its worker any more")]
    Seat {
        /// The queue pair.
        pair: usize,
    },
}

/// Why a request was not carried out. It is answered with a failure if the front end asked for an answer, and
/// otherwise logged and ignored; the state is as before.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A request that is not known, or belongs to a protocol feature that is not offered.
    #[error("request is not supported")]
    Unsupported,
    /// A payload of the wrong size.
    #[error("payload has {found} bytes, expected {expected}")]
    Size {
        /// Bytes found.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// The wrong number of descriptors.
    #[error("{found} descriptors, expected {expected}")]
    Descriptors {
        /// Descriptors found.
        found: usize,
        /// Descriptors expected.
        expected: usize,
    },
    /// This process has no room for the descriptors.
    #[error("descriptors were lost: this process has too many open")]
    DescriptorsLost,
    /// A ring that the device does not have.
    #[error("ring {index}, expected below {count}")]
    Index {
        /// The index found.
        index: u64,
        /// Rings of the device.
        count: usize,
    },
    /// A number that means nothing here.
    #[error("value {value:#x}, expected at most {max:#x}")]
    Value {
        /// The value found.
        value: u64,
        /// The largest allowed.
        max: u64,
    },
    /// Feature bits that were not offered.
    #[error("feature bits {bits:#x} were not offered")]
    NotOffered {
        /// The bits.
        bits: u64,
    },
    /// Features that do not go together.
    #[error(transparent)]
    Features(FeatureError),
    /// Geometry or features of a ring that runs.
    #[error("ring {index} is running")]
    Running {
        /// The ring.
        index: usize,
    },
    /// A ring address outside of the memory table.
    #[error("user address {user:#x} is in no memory region")]
    UserAddress {
        /// The address.
        user: u64,
    },
    /// Geometry that cannot be.
    #[error("ring {index} does not start: {error}")]
    Ring {
        /// The ring.
        index: usize,
        /// What is wrong.
        error: RingError,
    },
    /// A memory table that cannot be.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Config space that does not exist or cannot be written.
    #[error("config space bytes {offset} to {end} cannot be accessed so")]
    Config {
        /// First byte.
        offset: u32,
        /// One past the last byte.
        end: u64,
    },
}
