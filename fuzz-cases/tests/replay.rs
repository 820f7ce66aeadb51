//! What the fuzzer would do, in small: scripts from a generator of pseudo-random bytes.
#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "test")]

use fuzz_cases::{TARGETS, Tally};

/// SplitMix64: the same scripts on every machine.
fn script(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    };
    let words = 8 + next() % 60;
    (0..words).flat_map(|_| next().to_le_bytes()).collect()
}

#[test]
fn random_scripts_find_nothing() {
    for target in &TARGETS {
        let mut sum = Tally::default();
        for seed in 0..2000 {
            let run = std::panic::catch_unwind(|| (target.run)(&script(seed)));
            let Ok(t) = run else { panic!("{}: script {seed}", target.name) };
            sum.completed += t.completed;
            sum.faulty += t.faulty;
            sum.broken += t.broken;
            sum.refused += t.refused;
            sum.restarts += t.restarts;
        }
        println!("{}: {sum:?}", target.name);
        assert!(sum.completed > 0, "{}: nothing came through", target.name);
    }
}
