//! The cheapest clock there is, to say where the time of a worker goes.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "reads the time stamp counter"))]

/// Now: cycles of the time stamp counter. Only differences mean something.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn stamp() -> u64 {
    // SAFETY: the instruction is part of the architecture and reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Now: nanoseconds. Only differences mean something.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn stamp() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
