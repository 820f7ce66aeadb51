use std::collections::VecDeque;
use std::vec::Vec;

use proptest::prelude::*;
use virtio_ring::GuestAddr;

use super::{Cutter, Piece, memory_len, stride};

const BASE: u64 = 0x7_0000;

#[test]
fn strides_are_odd_numbers_of_lines() {
    for len in 0..20_000 {
        let stride = stride(len);
        assert!(stride >= len && stride - len < 256 && stride.is_multiple_of(64), "{len}: {stride}");
        assert!(!(stride / 64).is_multiple_of(2) && !stride.is_power_of_two() && stride > 64);
    }
    assert_eq!(stride(u32::MAX), u32::MAX, "cut nowhere");
}

#[test]
fn the_memory_that_is_asked_for_is_enough() {
    for (longest, count) in [(192, 1), (1600, 256), (2240, 255), (4032, 256), (65_664, 17), (4032, 32_768), (4032, 0)] {
        let mut cutter = Cutter::new(GuestAddr(BASE), memory_len(longest, count), longest);
        for i in 0..count {
            assert!(cutter.cut(longest).is_some(), "{i} of {count} buffers of {longest}");
        }
    }
    let mut none = Cutter::new(GuestAddr(BASE), 513 * 64 - 1, 192);
    assert_eq!((none.cut(192), none.cut_any(192)), (None, None));
    let mut one = Cutter::new(GuestAddr(BASE), 513 * 64, 192);
    assert_eq!(one.cut(513 * 64 + 128), None, "longer than a block");
    assert!(one.cut(192).is_some());
}

#[test]
fn a_hole_is_filled_before_another_block_is_begun() {
    let mut cutter = Cutter::new(GuestAddr(BASE), 3 * 513 * 64, 4032);
    let first: Vec<Piece> = (0..8).map(|_| cutter.cut(4032).unwrap()).collect();
    let second = cutter.cut(1600).unwrap();
    assert!(cutter.give_back(first[3]));
    assert_eq!(cutter.cut(3904), Some(first[3]), "near enough");
    assert!(cutter.give_back(first[5]));
    // The third block, and then what is left, whatever its size.
    let third: Vec<Piece> = core::iter::from_fn(|| cutter.cut(2880)).collect();
    assert_eq!(third.len(), 11);
    let rest: Vec<u32> = core::iter::from_fn(|| cutter.cut_any(2880)).map(|p| p.len).collect();
    assert_eq!((rest.iter().filter(|l| **l == 4032).count(), rest.len()), (1, 20));
    assert!(cutter.give_back(second));
}

#[test]
fn buffers_from_elsewhere_are_not_taken() {
    let mut cutter = Cutter::new(GuestAddr(BASE), 4 * 513 * 64, 192);
    let piece = cutter.cut(192).unwrap();
    for addr in [0, BASE - 1, BASE + 513 * 64, BASE + 4 * 513 * 64, u64::MAX] {
        assert!(!cutter.give_back(Piece { addr: GuestAddr(addr), len: 192 }), "{addr:#x}");
    }
    assert!(cutter.give_back(piece));
    assert!(!cutter.give_back(piece), "nothing of that block is out any more");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is out never overlaps and is inside; what came back is there again.
    #[test]
    fn no_two_buffers_overlap(
        blocks in 1..6_u64,
        ops in prop::collection::vec((any::<bool>(), any::<usize>(), 1..9000_u32), 0..400),
    ) {
        let longest = stride(9000);
        let len = blocks * 513 * 64;
        let mut cutter = Cutter::new(GuestAddr(BASE), len, longest);
        let mut out: VecDeque<Piece> = VecDeque::new();
        for (cut, which, size) in ops {
            if cut {
                let wanted = stride(size);
                let suits = cutter.cut(wanted);
                prop_assert!(suits.is_none_or(|p| p.len.abs_diff(wanted) <= wanted / 8));
                let Some(piece) = suits.or_else(|| cutter.cut_any(wanted)) else {
                    // Even the largest buffers fill the blocks before there is none.
                    prop_assert!(out.len() as u64 >= blocks * (513 * 64 / u64::from(longest)));
                    continue;
                };
                let (from, to) = (piece.addr.0, piece.addr.0 + u64::from(piece.len));
                prop_assert!(from >= BASE && to <= BASE + len);
                for other in &out {
                    let (start, end) = (other.addr.0, other.addr.0 + u64::from(other.len));
                    prop_assert!(to <= start || end <= from, "{piece:?} and {other:?}");
                }
                out.push_back(piece);
            } else if let Some(piece) = out.remove(which % out.len().max(1)) {
                prop_assert!(cutter.give_back(piece) && !cutter.give_back(piece));
            }
        }
        for piece in out {
            prop_assert!(cutter.give_back(piece));
        }
        // Nothing leaked: every block is whole again.
        let all: Vec<Piece> = core::iter::from_fn(|| cutter.cut(longest)).collect();
        prop_assert_eq!(all.len() as u64, blocks * (513 * 64 / u64::from(longest)));
    }
}
