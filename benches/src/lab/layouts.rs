//! The layouts of the lab, one file each or one a family. What is measured is listed in [`entry`](super::entry).

pub mod compact;
#[cfg(test)]
mod loomed;
mod narrow;
pub mod packed;
pub mod rtrb;
mod seal;
pub mod sealed;
pub mod shared;
pub mod shuttle;
pub mod split;
#[cfg(test)]
mod tests;

/// Bytes of a cacheline.
const LINE: usize = 64;

/// An area of `entries` entries of `bytes` bytes.
fn area(area: &str, entry: &str, bytes: usize, entries: u16) -> super::report::Lines {
    super::report::Lines {
        area: area.to_owned(),
        entry: entry.to_owned(),
        per_line: LINE as f64 / bytes as f64,
        lines: (bytes * usize::from(entries)).div_ceil(LINE),
        writer: super::report::Writer::Driver,
        when: String::new(),
    }
}

/// One line by itself.
fn line(name: &str, entry: &str) -> super::report::Lines {
    super::report::Lines { per_line: 1.0, lines: 1, ..area(name, entry, LINE, 1) }
}
