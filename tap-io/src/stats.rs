//! Counters of a tap queue.

/// Counters of a tap queue. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    /// `readv` calls, those that found nothing included.
    pub reads: u64,
    /// `writev` calls.
    pub writes: u64,
    /// Entries of the I/O vectors of all these calls.
    pub entries: u64,
    /// Frames read.
    pub received: u64,
    /// Frames written.
    pub sent: u64,
    /// Frames that did not fit the guest's buffers when they were read, and were kept until more were posted.
    pub held: u64,
    /// Frames longer than those before them, for which too few of the guest's buffers were offered: copied once more.
    pub spilled: u64,
    /// Frames of more segments than one call takes, copied together first.
    pub linearised: u64,
    /// Times that the kernel had no room for a frame.
    pub busy: u64,
    /// Reads and writes that failed.
    pub errors: Errnos,
}

/// How often each error came. All wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Errnos {
    known: [(i32, u64); 8],
    others: u64,
}

impl Errnos {
    /// Error numbers and how often they came; number 0 is a call that took or gave fewer bytes than a frame has.
    pub fn iter(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.known.iter().copied().filter(|(_, count)| *count > 0)
    }

    /// Errors of further numbers.
    #[must_use]
    pub const fn others(&self) -> u64 {
        self.others
    }

    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().fold(self.others, |sum, (_, count)| sum.wrapping_add(count))
    }

    #[cold]
    pub(crate) fn count(&mut self, errno: i32) {
        let slot = self.known.iter_mut().find(|(known, count)| *known == errno || *count == 0);
        match slot {
            Some(slot) => *slot = (errno, slot.1.saturating_add(1)),
            None => self.others = self.others.wrapping_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_number() {
        let mut errnos = Errnos::default();
        for errno in [5, 0, 5, 1, 2, 3, 4, 6, 7, 8, 9, 5] {
            errnos.count(errno);
        }
        assert_eq!(errnos.iter().collect::<Vec<_>>(), [(5, 3), (0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (6, 1), (7, 1)]);
        assert_eq!((errnos.others(), errnos.total()), (2, 12));
    }
}
