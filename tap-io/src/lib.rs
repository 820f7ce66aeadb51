//! tap-io
