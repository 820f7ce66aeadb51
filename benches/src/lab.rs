//! The ring lab: layouts, measured side by side.
//!
//! [`entry`] lists the layouts, one line each; [`conformance`] says what all of them have to keep to; [`run()`] measures.

pub mod conformance;
pub mod entry;
pub mod layout;
pub mod layouts;
pub mod options;
pub mod page;
pub mod report;
pub mod run;

pub use entry::{Entry, Kind};
pub use layout::{Buffer, DeviceSide, DriverSide, Layout, Poster, Setup};
pub use run::run;
