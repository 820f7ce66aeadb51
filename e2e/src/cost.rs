//! What a process costs: memory by kind, processor time, descriptors.

use crate::Error;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Resident memory, in KiB, as the kernel accounts for it in `smaps_rollup`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All that is resident, guest memory that is mapped included.
    pub rss: u64,
    /// The same, with each page divided by the number of processes that map it.
    pub pss: u64,
    /// Mapped here alone.
    pub private: u64,
    /// Private and of no file: heap, stacks and the like. Guest memory is not in it.
    pub anonymous: u64,
    /// This process's part of memory files: the guests' memory, that is.
    pub shared_memory: u64,
}

impl Memory {
    /// Of this process.
    ///
    /// # Errors
    /// It is no more, or not ours to look at.
    pub fn of(id: u32) -> Result<Self, Error> {
        let path = format!("/proc/{id}/smaps_rollup");
        fs::read_to_string(&path).map_err(Error::file(path)).map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| -> u64 {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|v| v.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            rss: field("Rss"),
            pss: field("Pss"),
            private: field("Private_Clean").saturating_add(field("Private_Dirty")),
            anonymous: field("Anonymous"),
            shared_memory: field("Pss_Shmem"),
        }
    }
}

/// Processor time, in user and kernel mode together, that the threads of this process have had; those that have ended do
/// not count.
///
/// # Errors
/// It is no more, or the kernel keeps no such account (`schedstat`).
pub fn processor_time(id: u32) -> Result<Duration, Error> {
    let tasks = format!("/proc/{id}/task");
    let mut total = Duration::ZERO;
    for task in fs::read_dir(&tasks).map_err(Error::file(&tasks))? {
        let path = task.map_err(Error::file(&tasks))?.path().join("schedstat");
        total = total.saturating_add(time_of_thread(&path)?);
    }
    Ok(total)
}

/// The first of the three numbers in a `schedstat` file; zero if the thread has just ended.
fn time_of_thread(path: &Path) -> Result<Duration, Error> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let nanoseconds = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
            let odd = || Error::file(path)(std::io::ErrorKind::InvalidData.into());
            nanoseconds.map(Duration::from_nanos).ok_or_else(odd)
        }
        // ESRCH: the thread ended after it was opened.
        Err(e) if e.raw_os_error() == Some(3) || (e.kind() == std::io::ErrorKind::NotFound && gone(path)) => {
            Ok(Duration::ZERO)
        }
        Err(e) => Err(Error::file(path)(e)),
    }
}

/// Whether the thread itself is no more, and not only this file.
fn gone(path: &Path) -> bool {
    !path.parent().is_some_and(Path::exists)
}

/// Lets this process, and those that it starts, open as many descriptors as the system allows; returns that number.
///
/// # Errors
/// The system refuses.
pub fn raise_descriptor_limit() -> Result<u64, Error> {
    let now = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
        .map_err(|e| Error::file("/proc/self/limits")(e.into()))?;
    Ok(now.maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_is_read() {
        let text = "5607e9c65000-7ffe62f0e000 ---p 00000000 00:00 0                          [rollup]\nRss:                1748 kB\n\
            Pss:                 265 kB\nPss_Anon:            116 kB\nPss_Shmem:           12 kB\nPrivate_Clean:        40 kB\n\
            Private_Dirty:       116 kB\nAnonymous:           117 kB\nAnonHugePages:         9 kB\n";
        let memory = Memory { rss: 1748, pss: 265, private: 156, anonymous: 117, shared_memory: 12 };
        assert_eq!(Memory::parse(text), memory);
        assert_eq!(Memory::parse(""), Memory::default());
    }

    #[test]
    fn this_process_costs_something() {
        let id = std::process::id();
        let memory = Memory::of(id).unwrap();
        assert!(memory.rss >= memory.pss && memory.anonymous > 0, "{memory:?}");
        match processor_time(id) {
            Ok(time) => assert!(time > Duration::ZERO),
            Err(e) => println!("skipped: {e}"),
        }
        assert!(Memory::of(u32::MAX).is_err());
        assert!(processor_time(u32::MAX).is_err());
    }

    #[test]
    fn the_limit_of_descriptors_is_the_highest() {
        let most = raise_descriptor_limit().unwrap();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.current.unwrap_or(u64::MAX)), (now.maximum, most));
    }
}
