//! What is negotiated for the rings.

use std::fmt;
use virtio_net_core::Features;
use virtio_ring::Format;

/// What is negotiated for the rings. The default is a split ring with nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Layout {
    /// `VIRTIO_F_RING_PACKED`.
    pub packed: bool,
    /// `VIRTIO_F_IN_ORDER`.
    pub in_order: bool,
    /// `VIRTIO_NET_F_MRG_RXBUF`.
    pub mergeable: bool,
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
}

impl Layout {
    /// Every combination.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..16_u8).map(|n| Self {
            packed: n & 8 != 0,
            in_order: n & 4 != 0,
            mergeable: n & 2 != 0,
            event_idx: n & 1 != 0,
        })
    }

    /// The bits that must be acknowledged for it.
    pub(super) fn features(self) -> Features {
        let bits = [
            (self.packed, Features::RING_PACKED),
            (self.in_order, Features::IN_ORDER),
            (self.mergeable, Features::MRG_RXBUF),
            (self.event_idx, Features::RING_EVENT_IDX),
        ];
        let wanted = bits.into_iter().filter(|(on, _)| *on);
        wanted.fold(Features::VERSION_1, |all, (_, bit)| all | bit)
    }

    pub(super) const fn format(self) -> Format {
        if self.packed { Format::Packed } else { Format::Split }
    }
}

impl fmt::Display for Layout {
    /// Such as `packed, in order, mergeable`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.packed { "packed" } else { "split" })?;
        let rest = [(self.in_order, ", in order"), (self.mergeable, ", mergeable"), (self.event_idx, ", event index")];
        rest.into_iter().filter(|(on, _)| *on).try_for_each(|(_, name)| f.write_str(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_are_the_same() {
        let all: Vec<_> = Layout::all().collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 16);
        assert_eq!(all.iter().map(Layout::to_string).collect::<HashSet<_>>().len(), 16);
        assert_eq!(all.iter().map(|l| l.features().bits()).collect::<HashSet<_>>().len(), 16);
        assert!(all.iter().all(|l| l.features().contains(Features::VERSION_1)));
    }

    #[test]
    fn names_say_what_is_on() {
        let layout = Layout { packed: true, in_order: true, ..Layout::default() };
        assert_eq!(
            (layout.to_string().as_str(), Layout::default().to_string().as_str()),
            ("packed, in order", "split")
        );
    }
}
