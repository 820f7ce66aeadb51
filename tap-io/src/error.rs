//! What can go wrong with a tap.

use std::io;
use std::os::fd::RawFd;

/// What can go wrong with a tap.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// Not a name that an interface can have.
    #[error("tap name {name:?} {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No interface of this name.
    #[error("no tap named {name} in this network namespace; make it first: ip tuntap add dev {name} mode tap vnet_hdr")]
    Missing {
        /// The name.
        name: String,
    },
    /// The interface exists, and is something else.
    #[error("interface {name} is not a tap")]
    NotTap {
        /// The name.
        name: String,
    },
    /// Every queue of the tap is taken.
    #[error("tap {name} is busy: another process has it open")]
    Busy {
        /// The name.
        name: String,
    },
    /// The user may not open it.
    #[error("tap {name}: not permitted; run as its owner (ip tuntap add ... user NAME) or with CAP_NET_ADMIN")]
    NotPermitted {
        /// The name.
        name: String,
    },
    /// A tap made for one queue was to be opened with more, or the kernel has no more queues.
    #[error("tap {name} has {has} queue(s), {asked} asked for; make it with: ip tuntap add ... multi_queue")]
    Queues {
        /// The name.
        name: String,
        /// Queues it has.
        has: usize,
        /// Queues asked for.
        asked: usize,
    },
    /// `/dev/net/tun` could not be opened.
    #[error("/dev/net/tun cannot be opened: {source}; is the tun module loaded, and may this user open it?")]
    Device {
        /// Why.
        source: io::Error,
    },
    /// The descriptor is not what it should be.
    #[error("descriptor {fd} is {found}, expected a tap with vnet headers (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR)")]
    Descriptor {
        /// The descriptor.
        fd: RawFd,
        /// What it is.
        found: String,
    },
    /// Descriptors of different interfaces.
    #[error("descriptor {fd} is a queue of {other}, expected {name} like the one before it")]
    Mixed {
        /// The descriptor.
        fd: RawFd,
        /// Its interface.
        other: String,
        /// The interface of the first.
        name: String,
    },
    /// The header does not have a length that a tap can have here.
    #[error("vnet header of {len} bytes, expected {min} to {max}")]
    HeaderLen {
        /// Bytes.
        len: usize,
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
    /// The interface is in another network namespace: only its descriptor can be used here.
    #[error("tap {name} is in another network namespace; {what} cannot be reached from here")]
    OtherNamespace {
        /// The name.
        name: String,
        /// What was asked for.
        what: &'static str,
    },
    /// A system call failed in a way that has no better explanation.
    #[error("tap {name}: {call}: {source}")]
    Call {
        /// The name.
        name: String,
        /// What was tried.
        call: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
