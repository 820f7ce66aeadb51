//! user-net
