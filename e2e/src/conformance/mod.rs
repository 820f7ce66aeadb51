//! What VIRTIO asks of a net device, as a table of rows.

mod rows;

pub use rows::{Id, Level, Row, rows};
