//! Copies to and from guest memory against `memcpy`, in 32 KiB (L1) and 512 KiB (L2) of data, aligned and not.

#![expect(unsafe_code, reason = "makes guest slices of host memory")]
#![expect(clippy::arithmetic_side_effects, reason = "benchmarks count within the sizes that they chose themselves")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ring_benches::cores::pin_driver;
use virtio_ring::GuestSlice;

/// Offsets that walk through a working set, in steps that keep the misalignment.
struct Walk {
    at: usize,
    step: usize,
    end: usize,
}

impl Walk {
    fn new(len: usize, set: usize) -> Self {
        Self { at: 0, step: len.next_multiple_of(64), end: set.max(len) }
    }

    #[inline]
    fn next(&mut self, len: usize) -> usize {
        let at = self.at;
        self.at += self.step;
        if self.at + len > self.end {
            self.at = 0;
        }
        at
    }
}

fn copies(c: &mut Criterion) {
    pin_driver();
    for (set_name, set) in [("l1", 12 << 10), ("l2", 256 << 10)] {
        for len in [64, 256, 1500, 65_536] {
            if set_name == "l1" && len > set {
                continue;
            }
            for shift in [0, 5] {
                let mut group = c.benchmark_group(format!("copy/{set_name}/{len}/+{shift}"));
                group
                    .throughput(Throughput::Bytes(len as u64))
                    .sample_size(11)
                    .warm_up_time(Duration::from_millis(100))
                    .measurement_time(Duration::from_millis(400));
                let from = vec![1_u64; (set + 65_536) / 8 + 16];
                let mut to = vec![2_u64; (set + 65_536) / 8 + 16];
                let source = from.as_ptr().cast::<u8>().wrapping_add(shift);
                let target = to.as_mut_ptr().cast::<u8>().wrapping_add(64);
                let mut walk = Walk::new(len, set);
                group.bench_function("ours", |b| {
                    b.iter(|| {
                        let at = walk.next(len);
                        // SAFETY: `at + len` is inside of the source with its slack; nothing else refers to it now.
                        let guest = unsafe { GuestSlice::new(source.wrapping_add(at).cast_mut(), len) };
                        // SAFETY: as above, for the target.
                        let host = unsafe { GuestSlice::new(target.wrapping_add(at), len) };
                        host.copy_from(std::hint::black_box(guest))
                    });
                });
                let mut walk = Walk::new(len, set);
                group.bench_function("memcpy", |b| {
                    b.iter(|| {
                        let at = walk.next(len);
                        let n = std::hint::black_box(len);
                        // SAFETY: as above; the two do not overlap.
                        unsafe { std::ptr::copy_nonoverlapping(source.wrapping_add(at), target.wrapping_add(at), n) };
                        n
                    });
                });
            }
        }
    }
}

criterion_group!(benches, copies);
criterion_main!(benches);
