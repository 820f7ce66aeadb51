//! The layouts of the lab, one a file.

pub mod compact;
#[cfg(test)]
mod loomed;
mod narrow;
pub mod rtrb;
mod seal;
pub mod sealed;
pub mod shared;
pub mod shuttle;
#[cfg(test)]
mod tests;
