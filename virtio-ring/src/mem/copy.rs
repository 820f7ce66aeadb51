//! The one routine that copies to and from live guest memory.
#![expect(unsafe_code, reason = "raw copies of memory that a guest may change meanwhile")]

/// Copies `len` bytes.
///
/// The guest may change its bytes during the copy: the result is then some mixture, and nothing worse. That is why
/// this is not `ptr::copy`, for which such a race is undefined behaviour: the loads and stores are inline assembly,
/// which the compiler can neither repeat nor reason about.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // `rep movsb` starts slowly and needs a few hundred bytes to pay; below, 16 bytes at a time.
    if len > 32 && len <= 64 {
        // SAFETY: the caller's contract, and the length as asked for.
        unsafe { line(to, from, len) }
    } else if len <= 16 {
        // SAFETY: the caller's contract; `len <= 16`.
        unsafe { small(to, from, len) }
    } else if len < REP_FROM {
        // SAFETY: the caller's contract; `len > 16`.
        unsafe { blocks(to, from, len) }
    } else {
        // SAFETY: the caller's contract.
        unsafe { rep(to, from, len) }
    }
}

/// From this length on `rep movsb` is used.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const REP_FROM: usize = 2048;

/// Up to 16 bytes: two overlapping moves of the largest power of two that fits.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn small(to: *mut u8, from: *const u8, len: usize) {
    macro_rules! pair {
        ($reg:ident, $size:literal, $word:literal, $class:ident, $modifier:literal) => {{
            // SAFETY: `$size <= len <= 2 * $size`: both moves stay inside the `len` bytes of either side.
            unsafe {
                core::arch::asm!(
                    concat!("mov {a", $modifier, "}, ", $word, " ptr [{from}]"),
                    concat!("mov {b", $modifier, "}, ", $word, " ptr [{from} + {len} - ", $size, "]"),
                    concat!("mov ", $word, " ptr [{to}], {a", $modifier, "}"),
                    concat!("mov ", $word, " ptr [{to} + {len} - ", $size, "], {b", $modifier, "}"),
                    a = out($class) _,
                    b = out($class) _,
                    from = in(reg) from,
                    to = in(reg) to,
                    len = in(reg) len,
                    options(nostack, preserves_flags)
                );
            }
        }};
    }
    if len >= 8 {
        pair!(q, "8", "qword", reg, ":r");
    } else if len >= 4 {
        pair!(d, "4", "dword", reg, ":e");
    } else if len >= 2 {
        pair!(w, "2", "word", reg, ":x");
    } else if len == 1 {
        pair!(b, "1", "byte", reg_byte, "");
    }
}

/// 33 to 64 bytes, as the shortest frames have: two moves from either end.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn line(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: with 32 bytes from either end every move stays inside of the `len` bytes of either side.
    unsafe {
        core::arch::asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + {len} - 32]",
            "movups {d}, [{from} + {len} - 16]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + {len} - 32], {c}",
            "movups [{to} + {len} - 16], {d}",
            from = in(reg) from,
            to = in(reg) to,
            len = in(reg) len,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// 17 bytes and more: 64 a round while that many are left, then 16 at a time, then the last 16, which may overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn blocks(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: every move reads and writes below `len`: the 64-byte rounds run while 64 bytes are left, the 16-byte
    // ones while 16 are, and the last one covers `len - 16 .. len`, with `len > 16`.
    unsafe {
        core::arch::asm!(
            "lea {end_from}, [{from} + {len} - 16]",
            "lea {end_to}, [{to} + {len} - 16]",
            "movups {tail}, [{end_from}]",
            "cmp {len}, 64",
            "jb 3f",
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {len}, 64",
            "cmp {len}, 64",
            "jae 2b",
            "3:",
            "cmp {len}, 16",
            "jbe 5f",
            "4:",
            "movups {a}, [{from}]",
            "movups [{to}], {a}",
            "add {from}, 16",
            "add {to}, 16",
            "sub {len}, 16",
            "cmp {len}, 16",
            "ja 4b",
            "5:",
            "movups [{end_to}], {tail}",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            len = inout(reg) len => _,
            end_from = out(reg) _,
            end_to = out(reg) _,
            tail = out(xmm_reg) _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack)
        );
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn rep(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: `len` bytes are readable and writable (the caller's contract); the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// A hint that the line at `at` is going to be read. Any address will do: one that is not mapped is ignored.
#[inline]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, which neither reads nor faults as far as the program can tell.
    unsafe {
        core::arch::asm!("prefetcht0 byte ptr [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// A hint that the line at `at` is going to be written.
#[inline]
pub(crate) fn prefetch_write(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: as in `prefetch`; processors without this instruction take it for one that does nothing.
    unsafe {
        core::arch::asm!("prefetchw byte ptr [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// Eight bytes at `at`, in memory order.
///
/// # Safety
/// Eight bytes are readable at `at`.
#[inline]
pub(crate) unsafe fn load64(at: *const u8) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let value: u64;
        // SAFETY: the caller's contract.
        unsafe {
            core::arch::asm!("mov {value}, qword ptr [{at}]", at = in(reg) at, value = lateout(reg) value,
                options(nostack, preserves_flags, readonly));
        }
        value
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let mut bytes = [0; 8];
        // SAFETY: the caller's contract.
        unsafe { copy(bytes.as_mut_ptr(), at, 8) };
        u64::from_ne_bytes(bytes)
    }
}

/// Stores twelve bytes at `at`, `low` first, each as it is in memory.
///
/// # Safety
/// Twelve bytes are writable at `at`.
#[inline]
pub(crate) unsafe fn store96(at: *mut u8, low: u64, high: u32) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the caller's contract.
    unsafe {
        core::arch::asm!("mov qword ptr [{at}], {low}", "mov dword ptr [{at} + 8], {high:e}", at = in(reg) at,
            low = in(reg) low, high = in(reg) high, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let mut bytes = [0; 12];
        let (front, back) = bytes.split_at_mut(8);
        front.copy_from_slice(&low.to_ne_bytes());
        back.copy_from_slice(&high.to_ne_bytes());
        // SAFETY: the caller's contract.
        unsafe { copy(at, bytes.as_ptr(), 12) };
    }
}

/// Elsewhere: volatile words where both sides are aligned alike, volatile bytes for the rest.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`.
#[cfg(any(not(target_arch = "x86_64"), miri))]
#[inline]
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    const WORD: usize = size_of::<u64>();
    let mut at = 0_usize;
    if from.addr() % WORD == to.addr() % WORD {
        while at < len && !from.addr().wrapping_add(at).is_multiple_of(WORD) {
            // SAFETY: `at < len`.
            unsafe { byte(to, from, at) };
            at = at.wrapping_add(1);
        }
        while len.wrapping_sub(at) >= WORD {
            // `at + 8 <= len`, and both addresses are multiples of 8 here.
            let source = from.wrapping_add(at).cast::<u64>();
            // SAFETY: in bounds and aligned, as said.
            let word = unsafe { source.read_volatile() };
            let target = to.wrapping_add(at).cast::<u64>();
            // SAFETY: in bounds and aligned, as said.
            unsafe { target.write_volatile(word) };
            at = at.wrapping_add(WORD);
        }
    }
    while at < len {
        // SAFETY: `at < len`.
        unsafe { byte(to, from, at) };
        at = at.wrapping_add(1);
    }
}

/// # Safety
/// `at` is in bounds on both sides.
#[cfg(any(not(target_arch = "x86_64"), miri))]
#[inline]
unsafe fn byte(to: *mut u8, from: *const u8, at: usize) {
    // SAFETY: in bounds (the caller's contract).
    let value = unsafe { from.wrapping_add(at).read_volatile() };
    // SAFETY: in bounds (the caller's contract).
    unsafe { to.wrapping_add(at).write_volatile(value) };
}

#[cfg(test)]
mod tests {
    use super::copy;

    #[test]
    fn every_length_and_alignment_copies_exactly() {
        let lengths = (0..300).chain([511, 512, 1500, 2047, 2048, 2049, 4096, 5000]);
        for len in lengths {
            for shift in [0, 1, 3, 8, 15] {
                let from: std::vec::Vec<u8> = (0..len + 32).map(|i| (i * 7 + 1) as u8).collect();
                let mut to = std::vec![0xEE_u8; len + 64];
                let (target, source) = (to.as_mut_ptr().wrapping_add(shift + 1), from.as_ptr().wrapping_add(shift));
                // SAFETY: both sides have `len` bytes behind the shift.
                unsafe { copy(target, source, len) };
                assert_eq!(&to[shift + 1..shift + 1 + len], &from[shift..shift + len], "len {len} shift {shift}");
                assert!(to[..=shift].iter().all(|b| *b == 0xEE), "len {len}: bytes before");
                assert!(to[shift + 1 + len..].iter().all(|b| *b == 0xEE), "len {len}: bytes behind");
            }
        }
    }
}
