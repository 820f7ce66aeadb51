//! What a back end has counted, and what of it does not add up.

use serde_json::Value;
use std::collections::BTreeMap;

/// Frames that may be under way, or in a ring that nobody looks at any more: one ring's worth.
pub(super) const UNDER_WAY: u64 = 256;

/// Frames that a back end has moved so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// Taken from the guest.
    pub(super) taken: u64,
    /// Given to it.
    pub(super) given: u64,
    /// Frames not sent on, by reason.
    pub(super) drops: BTreeMap<String, u64>,
    /// Cycles that it was busy with them.
    pub(super) busy_cycles: Option<u64>,
}

impl Counted {
    /// From the daemon's statistics: its only guest's only queue pair.
    pub(super) fn of_daemon(json: &Value) -> Option<Self> {
        let pair = json.get("guests")?.get(0)?.get("pairs")?.get(0)?;
        let way = |name: &str| pair.get(name);
        let frames = |name: &str| way(name)?.get("frames")?.as_u64();
        let mut drops = BTreeMap::new();
        for name in ["tx", "rx"] {
            let reasons = way(name).and_then(|way| way.get("drops")).and_then(Value::as_object);
            for (reason, count) in reasons.into_iter().flatten() {
                drops.insert(format!("{name} {reason}"), count.as_u64().unwrap_or(0));
            }
        }
        Some(Self {
            taken: frames("tx")?,
            given: frames("rx")?,
            drops,
            busy_cycles: pair.get("busy_cycles").and_then(Value::as_u64),
        })
    }

    /// What came after `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let drop = |(reason, count): (&String, &u64)| {
            let earlier = before.drops.get(reason).copied().unwrap_or(0);
            (reason.clone(), count.saturating_sub(earlier))
        };
        Self {
            taken: self.taken.saturating_sub(before.taken),
            given: self.given.saturating_sub(before.given),
            drops: self.drops.iter().map(drop).filter(|(_, count)| *count > 0).collect(),
            busy_cycles: self.busy_cycles.map(|now| now.saturating_sub(before.busy_cycles.unwrap_or(0))),
        }
    }

    /// What is worth a note, of a back end called `who` whose front end sent and received that many frames meanwhile.
    pub(super) fn notes(&self, who: &str, sent: u64, received: u64) -> Vec<String> {
        let mut notes = Vec::new();
        let mut compare = |what: &str, at_front: u64, at_back: u64| {
            if at_front.abs_diff(at_back) > UNDER_WAY {
                notes.push(format!("{who}: the front end {what} {at_front}, the back end counted {at_back}"));
            }
        };
        compare("sent", sent, self.taken);
        compare("received", received, self.given);
        for (reason, count) in &self.drops {
            notes.push(format!("{who}: dropped {count} ({reason})"));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_read() {
        let pair = serde_json::json!({
            "busy_cycles": 900,
            "tx": {"frames": 7, "drops": {"spoofed": 2}}, "rx": {"frames": 5, "drops": {"no_room": 0}}
        });
        let counted = Counted::of_daemon(&serde_json::json!({"guests": [{"pairs": [pair]}]})).unwrap();
        assert_eq!((counted.taken, counted.given, counted.busy_cycles), (7, 5, Some(900)));
        assert_eq!(counted.drops["tx spoofed"], 2);
        assert_eq!(Counted::of_daemon(&serde_json::json!({"version": 1})), None);
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        let before = Counted { taken: 1000, drops: [("tx spoofed".to_owned(), 3)].into(), ..Counted::default() };
        let mut now = Counted { taken: 5000, given: 100, ..before.clone() };
        assert_eq!(now.since(&before).notes("ours", 4256, 0), Vec::<String>::new());
        now.drops.insert("tx spoofed".to_owned(), 4);
        let notes = now.since(&before).notes("ours", 4257, 100);
        assert_eq!(notes, ["ours: the front end sent 4257, the back end counted 4000", "ours: dropped 1 (tx spoofed)"]);
    }
}
