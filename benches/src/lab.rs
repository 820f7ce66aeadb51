//! The ring lab: layouts, measured side by side.

pub mod layout;
pub mod layouts;
pub mod page;
pub mod report;

pub use layout::{Buffer, DeviceSide, DriverSide, Layout, Setup};
