//! Seeds, regressions and, if there is one, the corpus; and what a fuzzer would do, in small.
#![allow(clippy::arithmetic_side_effects, clippy::panic, clippy::unwrap_used, reason = "test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz_cases::{TARGETS, Tally, Target, seeds};

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");

/// Files of a target in one of the folders of `fuzz/`, sorted.
fn inputs(folder: &str, target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(FUZZ).join(folder).join(target.name);
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// Runs them; what came of it, by file name.
fn replay(target: &Target, files: &[PathBuf]) -> BTreeMap<String, Tally> {
    files
        .iter()
        .map(|path| {
            let bytes = fs::read(path).unwrap();
            let run = std::panic::catch_unwind(|| (target.run)(&bytes));
            let Ok(tally) = run else { panic!("{}: {}", target.name, path.display()) };
            (path.file_name().unwrap().to_string_lossy().into_owned(), tally)
        })
        .collect()
}

#[test]
fn seeds_are_replayed_and_are_for_something() {
    for target in &TARGETS {
        let files = inputs("seeds", target);
        assert!(!files.is_empty(), "fuzz/seeds/{} is missing or empty: cargo xtask fuzz --seeds", target.name);
        let tallies = replay(target, &files);
        for (name, tally) in &tallies {
            println!("{}/{name}: {tally:?}", target.name);
            assert_ne!(*tally, Tally::default(), "{}/{name}: nothing happened", target.name);
        }
        let written: Vec<_> = seeds::all().into_iter().filter(|s| s.target == target.name).collect();
        for seed in &written {
            let there = fs::read(Path::new(FUZZ).join("seeds").join(seed.target).join(seed.name));
            let there = there.unwrap_or_else(|e| panic!("{}/{}: {e}", seed.target, seed.name));
            assert_eq!(there, seed.bytes, "{}/{}: cargo xtask fuzz --seeds", seed.target, seed.name);
        }
        assert_eq!(written.len(), files.len(), "{}: a seed that nobody writes", target.name);
    }
}

#[test]
fn regressions_stay_fixed() {
    for target in &TARGETS {
        let tallies = replay(target, &inputs("regressions", target));
        println!("{}: {} regressions", target.name, tallies.len());
    }
}

#[test]
fn the_corpus_is_replayed() {
    for target in &TARGETS {
        let files = inputs("corpus", target);
        if files.is_empty() {
            println!("skipped: {} has no corpus yet: cargo xtask fuzz {0}", target.name);
        }
        replay(target, &files);
    }
}

#[test]
fn every_target_has_a_program() {
    let manifest = fs::read_to_string(Path::new(FUZZ).join("Cargo.toml")).unwrap();
    let mut named: Vec<_> =
        manifest.lines().filter_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"')).skip(1).collect();
    let mut targets: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
    named.sort_unstable();
    targets.sort_unstable();
    assert_eq!(named, targets);
    for target in targets {
        let program = fs::read_to_string(Path::new(FUZZ).join("fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(program.contains(&format!("fuzz_cases::{target}(data)")), "{target}");
    }
}

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
        let mut completed = 0;
        for seed in 0..500 {
            let run = std::panic::catch_unwind(|| (target.run)(&script(seed)));
            let Ok(tally) = run else { panic!("{}: script {seed}", target.name) };
            completed += tally.completed;
        }
        assert!(completed > 0, "{}: nothing came through", target.name);
    }
}
