//! A moving average of frame lengths.

/// The average of Linux's driver for the same purpose: each length counts for 1/64 of what it becomes. As all buffers of
/// a ring may be posted at once, it is not to follow a burst of other frames, but what comes for longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[doc(alias = "ewma_pkt_len")]
pub(super) struct Average {
    /// The average times 64: whole bytes would never come nearer to a length than 63.
    scaled: u32,
}

impl Average {
    const WEIGHT: u32 = 6; // 1/64

    /// Counts one more frame of `len` bytes; the first one is the average.
    pub(super) fn add(&mut self, len: u32) {
        let len = len.min(u32::MAX >> Self::WEIGHT);
        self.scaled = if self.scaled == 0 {
            len << Self::WEIGHT
        } else {
            // At most 63/64 of what fits, and 1/64 more.
            self.scaled.wrapping_sub(self.scaled >> Self::WEIGHT).wrapping_add(len)
        };
    }

    /// In bytes; 0 before the first frame.
    pub(super) const fn get(self) -> u32 {
        self.scaled >> Self::WEIGHT
    }
}

#[cfg(test)]
mod tests {
    use super::Average;

    #[test]
    fn it_follows_what_lasts_and_not_what_passes() {
        let mut average = Average::default();
        assert_eq!(average.get(), 0);
        average.add(1000);
        assert_eq!(average.get(), 1000);
        average.add(64_000 + 1000);
        assert_eq!(average.get(), 2000, "one frame counts for 1/64");
        let mut count = 0;
        while average.get() != 60 {
            average.add(60);
            count += 1;
        }
        assert!((150..1000).contains(&count), "{count}");
        // From either side, to the byte.
        for len in [1514, 65_589, 0, 1, 2, u32::MAX >> 6] {
            for _ in 0..3000 {
                average.add(len);
            }
            assert!(average.get().abs_diff(len) <= 1, "{} instead of {len}", average.get());
        }
        average.add(u32::MAX);
        assert!(average.get() <= u32::MAX >> 6);
    }
}
