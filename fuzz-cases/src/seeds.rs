//! Scripts to begin with: one for each thing that a target is about. `cargo xtask fuzz --seeds` writes them to
//! `fuzz/seeds`, and a test says if they are not what is there.

/// One script.
pub struct Seed {
    /// Name of the target.
    pub target: &'static str,
    /// Name of the file.
    pub name: &'static str,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Features in the second byte of a script.
const EVENT: u8 = 1;
const INDIRECT: u8 = 2;
const IN_ORDER: u8 = 4;

/// Operations of a device's session: the numbers in `device::Session::step`, and what follows them.
mod device {
    /// A good chain at slot 0, 1, 2 of one buffer; at slot 3 of two.
    pub(super) const OFFER_FOUR: [u8; 12] = [0, 0, 40, 0, 1, 60, 0, 2, 0, 0, 0x83, 200];
    pub(super) const FILL: [u8; 1] = [7];
    /// Take the oldest chain and write as much as there is room for; nothing; seven bytes.
    pub(super) const TAKE_ALL: [u8; 2] = [9, 2];
    pub(super) const TAKE_NONE: [u8; 2] = [9, 0];
    pub(super) const TAKE_SEVEN: [u8; 4] = [9, 1, 7, 0];
    /// Complete one, two, four of what is held, the last first where that is allowed.
    pub(super) const COMPLETE: [u8; 3] = [11, 1, 0];
    pub(super) const COMPLETE_TWO: [u8; 4] = [11, 2, 1, 0];
    pub(super) const COMPLETE_FOUR: [u8; 6] = [11, 4, 3, 1, 1, 0];
    pub(super) const ARM: [u8; 2] = [13, 1];
    pub(super) const DISARM: [u8; 2] = [13, 0];
    pub(super) const REWIND: [u8; 1] = [14];
    pub(super) const RESTART: [u8; 2] = [15, 0];
    /// Two entries of a table, a buffer to read and one to write, and a descriptor for them at slot 0; offered.
    pub(super) const SPLIT_TABLE: [u8; 31] = [
        5, 0, 0x41, 1, 0, 0, 1, 0, 16, // buffer, 16 bytes, NEXT, 1
        5, 1, 0x42, 0, 0, 0, 2, 0, 32, // buffer, 32 bytes, WRITE
        2, 0, 0x44, 0, 2, // INDIRECT, two entries
        4, 0, // offered
        7, 9, 2, 11, 1, 0,
    ];
    pub(super) const PACKED_TABLE: [u8; 31] = [
        5, 0, 0x40, 0, 0, 0, 1, 0, 16, // buffer, 16 bytes
        5, 1, 0x40, 2, 0, 0, 2, 0, 32, // buffer, 32 bytes; WRITE is where the format wants it
        2, 0, 0x44, 0, 2, // INDIRECT, two entries
        4, 1, // the driver goes on
        7, 9, 2, 11, 1, 0,
    ];
    /// A descriptor that is its own next; one outside of memory; one over the seam of two regions.
    pub(super) const LOOP: [u8; 9] = [2, 0, 0x41, 0, 0, 0, 0, 0, 8];
    pub(super) const NOWHERE: [u8; 15] = [2, 0, 0x42, 0, 7, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 8];
    pub(super) const SEAM: [u8; 8] = [2, 0, 0x42, 0, 3, 10, 0, 60];
    /// Heads that are none.
    pub(super) const BAD_HEAD: [u8; 3] = [4, 0xFF, 7];
}

fn parts(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut all = devices();
    all.extend(drivers());
    all.extend(restores());
    all.extend(evils());
    all.extend(agreements());
    all.extend(bursts());
    all.extend(net());
    all
}

/// Scripts for the net device: numbers that a small generator makes, as there is no session to spell out. What a script is
/// worth is said by its tally.
fn net() -> Vec<Seed> {
    let mut all = Vec::new();
    for target in ["transmit", "receive", "control", "filters", "state", "session"] {
        for (name, first) in [("first", 11_u64), ("second", 22), ("third", 33)] {
            let mut state = first;
            let bytes = (0..100).flat_map(|_| {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let word = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                (word ^ word >> 27).to_le_bytes()
            });
            all.push(Seed { target, name, bytes: bytes.collect() });
        }
    }
    all
}

/// Sizes that are 8 in a split and in a packed ring.
const EIGHT: [(&str, u8); 2] = [("split_device", 3), ("packed_device", 7)];

fn devices() -> Vec<Seed> {
    use device::*;
    let mut all = Vec::new();
    for (target, size) in EIGHT {
        let table: &[u8] = if target == "split_device" { &SPLIT_TABLE } else { &PACKED_TABLE };
        // The head is slot 0; or the driver goes on by one slot.
        let offer = [4, u8::from(target == "packed_device"), FILL[0]];
        // In a packed ring, every slot says that the chain goes on.
        let endless = (0..8).flat_map(|slot| [&[2, slot], &LOOP[2..]].concat()).collect::<Vec<_>>();
        let burst = |features, start| {
            let take = [&TAKE_ALL[..], &TAKE_SEVEN, &TAKE_NONE, &TAKE_ALL];
            parts(&[&[size, features, start], &OFFER_FOUR, &ARM, &FILL, &take.concat(), &COMPLETE_FOUR, &ARM])
        };
        // The driver wants to be told of the place behind the burst, or of its last.
        let wish = if target == "split_device" {
            [vec![6, 0x94, 0, 4, 0], vec![6, 0x94, 0, 3, 0]]
        } else {
            [5, 4].map(|place| vec![6, 0x80, 0, place, 0x80, 6, 0x82, 0, 2, 0])
        };
        let round = [&OFFER_FOUR[..], &FILL, &TAKE_ALL, &TAKE_ALL, &TAKE_ALL, &TAKE_ALL, &COMPLETE_FOUR];
        let stop = [&DISARM[..], &REWIND, &FILL, &TAKE_ALL, &COMPLETE, &FILL, &TAKE_ALL, &RESTART, &OFFER_FOUR];
        let again = [&FILL[..], &TAKE_ALL, &TAKE_ALL, &COMPLETE_TWO, &ARM];
        let scripts = [
            ("burst", burst(0, 0)),
            ("events", burst(EVENT, 3)),
            ("in_order", burst(EVENT | IN_ORDER, 0)),
            ("table", parts(&[&[size, INDIRECT, 0], table, table])),
            ("restart", parts(&[&[size, 0, 3], &OFFER_FOUR, &FILL, &stop.concat(), &again.concat()])),
            ("loop", parts(&[&[size, 0, 0], &endless, &offer])),
            ("nowhere", parts(&[&[size, 0, 0], &NOWHERE, &offer, &TAKE_ALL, &COMPLETE])),
            ("event_behind", parts(&[&[size, EVENT, 0], &wish[0], &round.concat()])),
            ("event_last", parts(&[&[size, EVENT, 0], &wish[1], &round.concat()])),
            ("seam", parts(&[&[size, 0, 0], &SEAM, &offer, &TAKE_ALL, &COMPLETE])),
            ("bad_head", parts(&[&[size, 0, 0], &OFFER_FOUR, &FILL, &BAD_HEAD])),
        ];
        all.extend(scripts.map(|(name, bytes)| Seed { target, name, bytes }));
    }
    let mut behind = SPLIT_TABLE;
    // Next is the entry behind the table.
    behind[3] = 2;
    all.push(Seed { target: "split_device", name: "table_next", bytes: parts(&[&[3, INDIRECT, 0], &behind]) });
    all
}

fn drivers() -> Vec<Seed> {
    /// A buffer to read; one to write; one of each and a third.
    const READ: [u8; 5] = [0, 0, 1, 0, 20];
    const WRITE: [u8; 5] = [0, 0, 0, 64, 100];
    const THREE: [u8; 9] = [0, 2, 1, 0, 8, 16, 30, 80, 50];
    const FLUSH: [u8; 1] = [5];
    const POLL: [u8; 1] = [7];
    const ARM: [u8; 1] = [10];
    const DISARM: [u8; 1] = [11];
    /// Use the oldest, or what can be skipped up to the third; all of it written.
    const USE: [u8; 3] = [12, 0, 255];
    const USE_RUN: [u8; 3] = [12, 2, 255];
    const WISH: [u8; 3] = [19, 0x81, 0];
    let mut all = Vec::new();
    for (target, size) in [("split_driver", 3), ("packed_driver", 7)] {
        let back = |features| {
            let there = [&WISH[..], &READ, &WRITE, &THREE, &FLUSH, &USE, &ARM, &POLL, &USE, &USE, &POLL, &POLL, &POLL];
            parts(&[&[size, features], &there.concat(), &DISARM, &there.concat()])
        };
        let out = [&WRITE[..], &WRITE, &READ, &FLUSH].concat();
        let run = [&READ[..], &READ, &WRITE, &FLUSH, &USE_RUN, &ARM, &POLL, &POLL, &POLL, &POLL].concat();
        let scripts = [
            ("there_and_back", back(0)),
            ("events", back(EVENT)),
            ("table", back(INDIRECT)),
            ("in_order", parts(&[&[size, IN_ORDER], &run, &run, &run])),
            ("bad_id", parts(&[&[size, 0], &out, &[17, 1, 5, 0, 1, 0, 0], &POLL, &POLL])),
            ("bad_len", parts(&[&[size, 0], &out, &[17, 2 | 4, 0, 101, 0, 0, 0], &POLL, &POLL])),
            ("unpublished", parts(&[&[size, 0], &WRITE, &FLUSH, &WRITE, &[17, 0, 1, 50], &POLL, &FLUSH, &USE, &POLL])),
            ("rewritten", parts(&[&[size, 0], &out, &[18, 2, 0, 0xFF, 0xFF, 18, 14, 0, 0xFF, 0xFF], &USE, &POLL])),
        ];
        all.extend(scripts.map(|(name, bytes)| Seed { target, name, bytes }));
    }
    // The used index goes on, to where no chain is out; the entries there name chains that are.
    let jump = parts(&[&[3, 0], &WRITE, &WRITE, &FLUSH, &[17, 0, 0, 5, 17, 0, 1, 5, 17, 0, 1, 5], &POLL, &POLL, &POLL]);
    all.push(Seed { target: "split_driver", name: "index", bytes: jump });
    all
}

fn restores() -> Vec<Seed> {
    use device::*;
    let work = [&OFFER_FOUR[..], &FILL, &TAKE_ALL, &TAKE_NONE, &COMPLETE_TWO, &RESTART, &FILL, &TAKE_ALL].concat();
    // Flags: 1 packed, 2 resume, 4 zeroed. Then size and features, the state, and what is written to the ring before.
    let scripts = [
        ("split_fresh", parts(&[&[4, 0, 3, 0, 1, 0], &work])),
        ("split_full", parts(&[&[4, 0, 3, 0, 0, 8, 0, 0, 0, 0], &work])),
        ("split_ahead", parts(&[&[4, 0, 3, 0, 0, 0x34, 0x12, 0, 0, 0], &work])),
        ("split_used", parts(&[&[4, 0, 3, 0, 0, 0x34, 0x12, 0, 0, 1, 0, 0x34, 0x12], &work])),
        ("packed_fresh", parts(&[&[5, 0, 7, 0, 1, 0], &work])),
        ("packed_resumed", parts(&[&[7, 0, 7, 0, 0, 0, 0, 0, 0, 0], &work])),
        ("packed_half", parts(&[&[7, 0, 7, 0, 3, 0x83, 0], &work])),
        ("packed_held", parts(&[&[5, 0, 7, 0, 2, 0x83, 0x80, 0], &work])),
        ("packed_offset", parts(&[&[5, 0, 7, 0, 0, 9, 0x80, 9, 0x80, 0], &work])),
        ("unmapped", vec![4, 5, 8, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 4, 1, 0]),
        ("misaligned", vec![4, 5, 8, 0, 0, 8, 0, 0, 1, 2, 0, 2, 2, 1, 0]),
        ("size", vec![5, 1, 0xFF, 0xFF, 0, 0, 0, 0, 0, 2, 0, 4, 2, 1, 0]),
    ];
    scripts.map(|(name, bytes)| Seed { target: "restore", name, bytes }).into()
}

fn evils() -> Vec<Seed> {
    // A session of a device or a driver, and tricks for as many reads again.
    let evil = |kind: u8, script: &[u8], tricks: &[u8]| {
        let all = script.len() + tricks.len();
        // The share that gives the script all of its bytes.
        let share = (script.len() * 256).div_ceil(all) as u8;
        parts(&[&[kind, share], script, tricks])
    };
    let of = |target: &str, name: &str| {
        let seeds = if target.ends_with("device") { devices() } else { drivers() };
        seeds.into_iter().find(|s| s.target == target && s.name == name).map(|s| s.bytes).unwrap_or_default()
    };
    let now_and_then = |trick: u8| [[0; 9].as_slice(), &[trick]].concat().repeat(6);
    let scripts = [
        ("split_device", evil(0, &of("split_device", "burst"), &now_and_then(0xB1))),
        ("packed_device", evil(1, &of("packed_device", "burst"), &now_and_then(0xC2))),
        ("split_table", evil(0, &of("split_device", "table"), &now_and_then(0xD0))),
        ("packed_table", evil(1, &of("packed_device", "table"), &now_and_then(0x90))),
        ("split_driver", evil(2, &of("split_driver", "there_and_back"), &now_and_then(0x88))),
        ("packed_driver", evil(3, &of("packed_driver", "there_and_back"), &now_and_then(0xCF))),
    ];
    scripts.map(|(name, bytes)| Seed { target: "evil_memory", name, bytes }).into()
}

fn agreements() -> Vec<Seed> {
    let add = |count: u8, readable: u8| {
        let buffers: Vec<_> = (0..count).flat_map(|i| [i.wrapping_mul(80), i, 70]).collect();
        parts(&[&[0, count - 1, readable], &buffers])
    };
    let (one, three, four, reads) = (add(1, 0), add(3, 1), add(4, 2), add(2, 2));
    // Device: ask for kicks, take, put back what was taken ahead, complete; driver: flush, ask for calls, poll.
    let round = parts(&[
        &one,
        &three,
        &[5, 12],
        &reads,
        &[5, 14, 30, 13, 14, 255, 14, 0, 15, 2, 1, 0],
        &[10, 7, 7, 7],
        &four,
        &[5, 14, 9],
        &[15, 2, 0, 0, 7, 7],
        &[11, 0, 11, 1],
        &three,
        &[5, 14, 100, 15, 1, 0, 7, 10, 12],
    ]);
    let scripts = [
        ("flags", parts(&[&[4, 0], &round, &round])),
        ("events", parts(&[&[4, EVENT], &round, &round])),
        ("tables", parts(&[&[3, INDIRECT], &round, &round])),
        ("in_order", parts(&[&[4, IN_ORDER], &round, &round])),
        ("full", parts(&[&[1, 0], &one, &one, &one, &round])),
    ];
    scripts.map(|(name, bytes)| Seed { target: "agree", name, bytes }).into()
}

/// Loops over a burst in either format, with all features and without; a few words of the ring change.
fn bursts() -> Vec<Seed> {
    // Three chains of one buffer, published, asked for, served, published, asked for, taken back.
    let three = [0, 3, 1, 50, 0, 2, 60, 1, 3, 70, 0];
    let round = parts(&[&three, &[3, 4, 5, 32, 7, 8, 9, 32]]);
    // A chain of two, kept, and posted again; then released.
    let keep = [2, 1, 1, 50, 0, 2, 60, 1, 3, 5, 1, 7, 11, 12, 1, 0, 3, 5, 1, 7, 11, 12, 0, 0];
    let noise = [15, 0x94, 0, 4, 0, 15, 6, 0, 0x80, 0x80];
    let all = EVENT | INDIRECT | IN_ORDER;
    let whole = |format: u8, size: u8, features| {
        parts(&[&[format, size, features], &round, &keep, &round, &noise, &round, &[13, 14, 0], &round])
    };
    let scripts = [
        ("split", whole(0, 3, 0)),
        ("split_all", whole(0, 3, all)),
        ("packed", whole(1, 7, 0)),
        ("packed_all", whole(1, 6, all)),
    ];
    scripts.map(|(name, bytes)| Seed { target: "bursts", name, bytes }).into()
}
