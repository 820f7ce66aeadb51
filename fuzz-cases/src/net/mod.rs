//! The net device: what its rings, commands, filters, states and sessions make of bytes.

pub(crate) mod control;
pub(crate) mod filters;
pub(crate) mod receive;
pub(crate) mod rig;
pub(crate) mod session;
pub(crate) mod state;
pub(crate) mod transmit;
