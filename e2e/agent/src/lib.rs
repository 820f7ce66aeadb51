//! What the guest program and the host side of a test agree on: the plan that goes in on the kernel command
//! line, the result lines that come back on the console, and the byte pattern that files are made of.
//!
//! The checks themselves are in the binary of the same name; they need Linux and busybox around them.
//!
//! ```
//! use guest_agent::{Check, Plan, Step};
//! let plan = Plan::new(vec![Step::new(Check::Dhcp), Step::new(Check::Ping4).with("count", 3)]);
//! let words = plan.to_command_line();
//! assert_eq!(words, "vnet.if=eth0 vnet.plan=dhcp,ping4:count=3");
//! assert_eq!(Plan::from_command_line(&words)?, plan);
//! # Ok::<(), guest_agent::PlanError>(())
//! ```

pub mod dns;
mod features;
pub mod frame;
mod line;
pub mod outcome;
mod pattern;
mod plan;

pub use features::feature_names;
pub use frame::Marked;
pub use line::{Console, Line, Verdict};
pub use pattern::{LINE_LEN, PERIOD, Pattern, sha256_hex};
pub use plan::{Check, Plan, PlanError, Step};

/// The host's IPv4 address: gateway, DNS server and services.
pub const HOST4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 2, 2);
/// The first IPv4 address that DHCP hands out.
pub const GUEST4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 2, 15);
/// The host's IPv6 address inside `fd00:2::/64`.
pub const HOST6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2);
/// The guest's IPv6 address when no router advertisement gave it one.
pub const GUEST6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x15);
/// The host's name in its own DNS answers.
pub const HOST_NAME: &str = "host.virtio.internal";

/// Ports of the services, for TCP and UDP alike.
pub mod port {
    /// RFC 862: what comes is sent back.
    pub const ECHO: u16 = 7;
    /// RFC 863: what comes is dropped.
    pub const DISCARD: u16 = 9;
    /// TCP: RFC 864, an endless stream. UDP: `SEND count size` is answered with that many datagrams.
    pub const SOURCE: u16 = 19;
    /// DNS, for the one name of the host.
    pub const DNS: u16 = 53;
    /// DHCP, the server's side.
    pub const DHCP: u16 = 67;
    /// TCP: the SHA-256 of what came. UDP: counts datagrams per source until it says `REPORT`.
    pub const DIGEST: u16 = 4809;
    /// UDP, on either side: bound and never read. What comes is dropped at the socket.
    pub const SINK: u16 = 4810;
}
