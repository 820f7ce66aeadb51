//! The two cores that the two sides of a ring are pinned to.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The first two cores that this process may run on; `None` if there is only one. Asked before anything is pinned, and
/// then remembered.
pub fn pair() -> Option<(usize, usize)> {
    static PAIR: OnceLock<Option<(usize, usize)>> = OnceLock::new();
    *PAIR.get_or_init(|| {
        let set = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|c| set.is_set(*c));
        Some((cores.next()?, cores.next()?))
    })
}

/// Pins the calling thread to one core; false if that is not allowed.
pub fn pin(core: usize) -> bool {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).is_ok()
}

/// Pins the calling thread to the driver's core, if there are two.
pub fn pin_driver() -> bool {
    pair().is_some_and(|(driver, _)| pin(driver))
}

/// Pins the calling thread to the device's core, if there are two.
pub fn pin_device() -> bool {
    pair().is_some_and(|(_, device)| pin(device))
}
