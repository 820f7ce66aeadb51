//! The arithmetic of places: everything for small sizes, samples for the others.

use std::vec::Vec;

use proptest::prelude::*;

use super::{Place, passed};

fn place(index: u16, wrap: bool) -> Place {
    Place::from_bits(index | u16::from(wrap) << 15, 32_768).unwrap()
}

/// Every place of a ring, in the order in which a side passes them.
fn laps(size: u16) -> Vec<Place> {
    [true, false].into_iter().flat_map(|wrap| (0..size).map(move |index| place(index, wrap))).collect()
}

#[test]
fn advance_and_retreat_walk_the_laps() {
    for size in (1..=9).chain([32_767, 32_768]) {
        let laps = laps(size);
        let two = laps.len();
        for at in [0, 1, usize::from(size) - 1, usize::from(size), two - 1] {
            let at = at % two;
            for count in (0..=size.min(9)).chain([size - 1, size]) {
                let to = (at + usize::from(count)) % two;
                assert_eq!(laps[at].advance(count, size), laps[to], "{size} {at} {count}");
                assert_eq!(laps[to].retreat(count, size), laps[at], "{size} {at} {count}");
                assert_eq!(laps[to].since(laps[at], size), u32::from(count), "{size} {at} {count}");
                assert_eq!(Place::from_bits(laps[at].to_bits(), size), Some(laps[at]));
            }
        }
        if size < 32_768 {
            assert_eq!(Place::from_bits(size, size), None);
        }
    }
}

#[test]
fn p10_an_event_is_passed_if_its_slot_is_among_those_that_were_used() {
    for size in 1..=9 {
        let laps = laps(size);
        for from in 0..laps.len() {
            for count in 0..=usize::from(size) {
                let slots: Vec<Place> = (from..from + count).map(|i| laps[i % laps.len()]).collect();
                let to = laps[(from + count) % laps.len()];
                for event in &laps {
                    let wanted = slots.contains(event);
                    assert_eq!(passed(*event, laps[from], to, size), wanted, "{size} {from} {count} {event:?}");
                }
            }
        }
    }
}

/// A size, mostly one of those at the ends, and a place of that ring counted from its beginning.
fn ring() -> impl Strategy<Value = (u16, u32)> {
    let size = prop_oneof![2 => Just(32_768_u16), 1 => Just(32_767), 1 => Just(256), 4 => 10..=32_768_u16];
    size.prop_flat_map(|size| {
        let two = 2 * u32::from(size);
        // Often within a few slots of one of the wraps.
        let near =
            (0..8_u32, any::<bool>()).prop_map(move |(i, half)| (if half { two / 2 } else { two } + i - 4) % two);
        (Just(size), prop_oneof![near, 0..two])
    })
}

/// The place `at` slots from the beginning of the ring laid out twice.
fn nth(at: u32, size: u16) -> Place {
    let at = at % (2 * u32::from(size));
    if at < size.into() { place(at as u16, true) } else { place((at - u32::from(size)) as u16, false) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn places_of_any_ring_are_those_of_the_ring_laid_out_twice(
        (size, at) in ring(),
        part in prop_oneof![Just(0_u32), Just(0x1_0000), 0..=0x1_0000_u32],
    ) {
        let count = ((u64::from(size) * u64::from(part)) >> 16) as u16;
        let (from, to) = (nth(at, size), nth(at + u32::from(count), size));
        prop_assert_eq!(from.advance(count, size), to);
        prop_assert_eq!(to.retreat(count, size), from);
        prop_assert_eq!(to.since(from, size), u32::from(count));
        // And the rest of the way back to where it began, two laps on.
        let rest = 2 * u32::from(size) - u32::from(count);
        prop_assert_eq!(from.since(to, size), if count == 0 { 0 } else { rest });
        prop_assert_eq!(Place::from_bits(from.to_bits(), size), Some(from));
        prop_assert_eq!((from.index(), from.wrap()), ((at % u32::from(size)) as u16, at % (2 * u32::from(size)) < size.into()));
    }

    #[test]
    fn p10_any_event_of_any_ring(
        (size, at) in ring(),
        part in prop_oneof![Just(1_u32), Just(0x1_0000), 0..=0x1_0000_u32],
        events in prop::collection::vec(0..65_536_u32, 8),
    ) {
        let count = ((u64::from(size) * u64::from(part)) >> 16) as u32;
        let (old, new) = (nth(at, size), nth(at + count, size));
        let two = 2 * u32::from(size);
        // Those around both ends of what was passed, and any.
        let ends = [at + two - 1, at, at + 1, at + count + two - 1, at + count, at + count + 1, at + u32::from(size)];
        for event in events.into_iter().chain(ends) {
            let wanted = (event % two + two - at % two) % two < count;
            prop_assert_eq!(passed(nth(event, size), old, new, size), wanted, "event {} of {}", event, size);
        }
    }

    #[test]
    fn bits_are_a_place_if_their_offset_is_a_slot(bits: u16, size in 1..=32_768_u16) {
        let place = Place::from_bits(bits, size);
        prop_assert_eq!(place.is_some(), bits & 0x7FFF < size);
        prop_assert!(place.is_none_or(|p| p.to_bits() == bits && p.index() < size));
    }
}
