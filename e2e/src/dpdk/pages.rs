//! Huge pages for as long as they are needed.

use crate::Error;
use std::fs;
use std::path::PathBuf;

const COUNT: &str = "/proc/sys/vm/nr_hugepages";
const STATE: &str = "/proc/meminfo";

/// Huge pages that the kernel set aside. Dropping it gives back what was not there before.
#[derive(Debug)]
pub struct HugePages {
    before: u64,
    pages: u64,
    bytes: u64,
}

impl HugePages {
    /// Asks for so many MiB of pages that nobody uses.
    ///
    /// # Errors
    /// No right to, or the kernel has not that much memory in whole pages: then nothing is changed.
    pub fn reserve(mebibytes: u64) -> Result<Self, Error> {
        let state = read(STATE)?;
        let bytes = number(&state, "Hugepagesize:").saturating_mul(1024);
        let (Some(pages), Ok(before)) =
            (mebibytes.saturating_mul(1 << 20).checked_div(bytes), read(COUNT)?.trim().parse())
        else {
            return Err(Error::Unsupported("this kernel has no huge pages"));
        };
        let mut reserved = Self { before, pages, bytes };
        let free = number(&state, "HugePages_Free:");
        if free < pages {
            write(before.saturating_add(pages.saturating_sub(free)))?;
            reserved.pages = number(&read(STATE)?, "HugePages_Free:");
        }
        if reserved.pages < pages {
            return Err(Error::HugePages { wanted: pages, got: reserved.pages });
        }
        reserved.pages = pages;
        Ok(reserved)
    }

    /// How many, and how long each is, in bytes.
    pub fn size(&self) -> (u64, u64) {
        (self.pages, self.bytes)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Nobody is left to complain to.
        let _ = write(self.before);
    }
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::file(path))
}

fn write(count: u64) -> Result<(), Error> {
    fs::write(COUNT, count.to_string()).map_err(Error::file(PathBuf::from(COUNT)))
}

/// The number behind `name` in lines such as `HugePages_Free:       12`.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_read() {
        let text = "HugePages_Total:      20\nHugePages_Free:       12\nHugepagesize:       2048 kB\n";
        assert_eq!((number(text, "HugePages_Free:"), number(text, "Hugepagesize:")), (12, 2048));
        assert_eq!(number("", "Hugepagesize:"), 0);
    }
}
