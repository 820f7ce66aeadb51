use std::collections::HashSet;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::passed;

/// The oracle: the entries `old..new` as a set of slots of the 16-bit index.
fn slots(old: u16, len: u32) -> Vec<bool> {
    let mut set = vec![false; 0x1_0000];
    for i in 0..len {
        set[usize::from(old.wrapping_add(i as u16))] = true;
    }
    set
}

#[test]
fn s11_s12_every_event_against_the_slots_of_small_windows() {
    for old in [0, 1, 32_767, 32_768, 65_535, 65_500] {
        for len in [0, 1, 2, 3, 7, 64] {
            let set = slots(old, len);
            for event in 0..=u16::MAX {
                let new = old.wrapping_add(len as u16);
                assert_eq!(passed(event, old, new), set[usize::from(event)], "event {event}, {old}..{new}");
            }
        }
    }
}

#[test]
fn s11_s12_every_start_against_the_slots_of_a_small_window() {
    for old in 0..=u16::MAX {
        for len in 0..5 {
            let new = old.wrapping_add(len);
            let set: HashSet<u16> = (0..len).map(|i| old.wrapping_add(i)).collect();
            for near in 0..9 {
                let event = old.wrapping_sub(2).wrapping_add(near);
                assert_eq!(passed(event, old, new), set.contains(&event), "event {event}, {old}..{new}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s11_s12_any_event_against_the_slots_of_any_window(old: u16, len in 0..=65_535_u32, events: [u16; 32]) {
        let set = slots(old, len);
        let new = old.wrapping_add(len as u16);
        for event in events.into_iter().chain([old, new, old.wrapping_sub(1), new.wrapping_sub(1)]) {
            prop_assert_eq!(passed(event, old, new), set[usize::from(event)]);
        }
    }
}
