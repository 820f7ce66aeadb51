//! A driver and a device in a program without std, without a C library and without an operating system but for its
//! exit. The exit code says how many chains went around the ring; 255 is a panic, 254 any other failure.
#![no_std]
#![no_main]

extern crate alloc;

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};

use virtio_ring::{
    Chains, DeviceRing, DriverRing, Element, GuestAddr, HeapMemory, QueueConfig, QueueState, SplitDevice, SplitDriver,
    SplitSizes,
};

const ARENA: usize = 4 << 20;

#[repr(C, align(4096))]
struct Arena(core::cell::UnsafeCell<[u8; ARENA]>);

// SAFETY: `Bump` hands every byte out at most once.
unsafe impl Sync for Arena {}

static BYTES: Arena = Arena(core::cell::UnsafeCell::new([0; ARENA]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// Gives memory out and never takes it back.
struct Bump;

// SAFETY: each allocation is a part of the arena that no other has, aligned as asked for.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = USED.load(Ordering::Relaxed).next_multiple_of(layout.align());
        let end = start + layout.size();
        if end > ARENA || layout.align() > 4096 {
            return core::ptr::null_mut();
        }
        USED.store(end, Ordering::Relaxed);
        BYTES.0.get().cast::<u8>().wrapping_add(start)
    }

    unsafe fn dealloc(&self, _ptr: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    exit(255)
}

/// What unwinding would call; there is none.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

// What the compiler takes from a C library. String instructions, as a loop would become a call of the function itself.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's contract.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _);
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: the caller's contract; going up, nothing is overwritten before it was read.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: the caller's contract; going down here, `len` is not 0.
    unsafe {
        core::arch::asm!(
            "std", "rep movsb", "cld",
            inout("rcx") len => _,
            inout("rdi") to.wrapping_add(len - 1) => _,
            inout("rsi") from.wrapping_add(len - 1) => _,
        );
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's contract.
    unsafe { core::arch::asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: the caller's contract.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { memcmp(a, b, len) }
}

fn exit(code: i32) -> ! {
    // SAFETY: `exit_group` ends the process; number 231 on x86-64 Linux.
    unsafe { core::arch::asm!("syscall", in("rax") 231, in("rdi") code, options(noreturn)) }
}

// The kernel enters with the stack aligned to 16 bytes; a function expects that before the call.
core::arch::global_asm!(".globl _start", "_start:", "and rsp, -16", "call {run}", run = sym run);

extern "C" fn run() -> ! {
    exit(session().unwrap_or(254))
}

/// Forty-two chains of a direct buffer and an indirect pair, through a ring of four.
fn session() -> Option<i32> {
    let mem = HeapMemory::zeroed(GuestAddr(0), 0x1_0000).ok()?;
    let sizes = SplitSizes::new(4);
    let config = QueueConfig {
        size: 4,
        desc: GuestAddr(0),
        driver: GuestAddr(sizes.desc as u64),
        device: GuestAddr(0x1000),
        event_idx: true,
        indirect: true,
        in_order: false,
    };
    let mut driver = SplitDriver::new(&mem, &config).ok()?.with_indirect(&mem, GuestAddr(0x2000), 2).ok()?;
    let mut device = SplitDevice::new(&mem, &config, QueueState::default()).ok()?;
    let mut chains = Chains::new(mem, 4);
    let pair = [
        Element { addr: GuestAddr(0x8000), len: 16, writable: false },
        Element { addr: GuestAddr(0x9000), len: 16, writable: true },
    ];
    let mut around = 0;
    for elements in [&pair[..1], &pair[..]].into_iter().cycle().take(42) {
        let handle = driver.add(elements).ok()?;
        let _ = driver.flush();
        if chains.fill(&mut device).ok()? != 1 {
            return None;
        }
        let view = chains.view();
        let chain = view.chains().first()?;
        let mut word = [0; 16];
        view.readable(chain).first()?.read(&mut word);
        let written = view.writable(chain).first().map_or(0, |s| s.write(&word)) as u32;
        device.complete(chains.pop()?, written);
        let _ = device.flush();
        let used = driver.poll_used().ok()??;
        if used.handle != handle || used.len != chain_room(elements) || !driver.arm() {
            return None;
        }
        around += 1;
    }
    Some(around)
}

fn chain_room(elements: &[Element]) -> u32 {
    elements.iter().filter(|e| e.writable).map(|e| e.len).sum()
}
