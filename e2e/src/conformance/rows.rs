//! The rows of `conformance/rows.txt`: requirements of VIRTIO on a net device, each with an id.

use std::fmt;
use std::str::FromStr;

/// The file as it was when this was built.
const FILE: &str = include_str!("../../../conformance/rows.txt");
/// First letters of ids: general, MMIO, split rings, packed rings, net, flow filter, IPsec.
const LETTERS: &str = "GTSPNFI";

/// A row's name, such as `G3` or `N28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    letter: char,
    number: u8,
}

impl Id {
    /// Those behind this one, up to and with `last`; none if that has another letter.
    pub fn up_to(self, last: Self) -> impl Iterator<Item = Self> {
        let numbers = self.number.saturating_add(1)..=last.number;
        numbers.filter(move |_| self.letter == last.letter).map(move |number| Self { number, ..self })
    }
}

impl FromStr for Id {
    type Err = String;

    /// Of either case.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("row id {text:?}: expected one letter of {LETTERS} and a number, such as N28");
        let mut chars = text.chars();
        let letter = chars.next().ok_or_else(wrong)?.to_ascii_uppercase();
        let digits = chars.as_str();
        // `07` would be a second name for `7`, and `+7` parses as a number.
        let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse() {
            Ok(number) if plain && LETTERS.contains(letter) => Ok(Self { letter, number }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", self.letter, self.number))
    }
}

/// How much a clause asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// MUST or MUST NOT.
    Must,
    /// SHOULD or SHOULD NOT.
    Should,
    /// No keyword: how the format works.
    Fact,
}

impl Level {
    /// All of them, the strongest first.
    pub const ALL: [Self; 3] = [Self::Must, Self::Should, Self::Fact];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::Fact => "-",
        })
    }
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub id: Id,
    /// How much it asks.
    pub level: Level,
    /// False if our device does not offer the feature, or has not the transport: its test shows that.
    pub offered: bool,
    /// The clause of the specification, by its heading.
    pub clause: String,
    /// What it asks, in short.
    pub rule: String,
}

/// All rows, in the order of the file.
///
/// # Errors
/// The file is not as it should be; the line and what is wrong with it.
pub fn rows() -> Result<Vec<Row>, String> {
    parse(FILE)
}

/// The rows that a test shows: every id at the front of its own name, `n28_n29_no_offload...`, or all from one to another,
/// `f1_to_f19_not_offered`.
pub fn ids(test: &str) -> Vec<Id> {
    let name = test.rsplit("::").next().unwrap_or(test);
    let mut parts = name.split('_').peekable();
    let mut ids: Vec<Id> = Vec::new();
    while let Some(part) = parts.next() {
        match (part.parse(), ids.last().copied()) {
            (Ok(id), _) => ids.push(id),
            (Err(_), Some(first)) if part == "to" => {
                let last = parts.peek().and_then(|part| part.parse().ok());
                ids.extend(last.into_iter().flat_map(|last| first.up_to(last)));
                parts.next();
            }
            _ => break,
        }
    }
    ids
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = |what: String| format!("conformance/rows.txt, line {}: {what}", index.saturating_add(1));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let row = row(line).map_err(at)?;
        if rows.iter().any(|r| r.id == row.id) {
            return Err(at(format!("{} is there twice", row.id)));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn row(line: &str) -> Result<Row, String> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [id, level, offered, clause, rule] = *fields.as_slice() else {
        return Err(format!("{} fields, expected 5: {line:?}", fields.len()));
    };
    let level = match level {
        "M" => Level::Must,
        "S" => Level::Should,
        "-" => Level::Fact,
        other => return Err(format!("level {other:?}, expected M, S or -")),
    };
    let offered = match offered {
        "" => true,
        "not offered" => false,
        other => return Err(format!("third field {other:?}, expected nothing or \"not offered\"")),
    };
    Ok(Row { id: id.parse()?, level, offered, clause: clause.to_owned(), rule: rule.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_complete() {
        let rows = rows().unwrap();
        let count = |letter| rows.iter().filter(|row| row.id.letter == letter).count();
        let counts: Vec<_> = LETTERS.chars().map(count).collect();
        // As many as the specification's extract has, without a gap.
        assert_eq!(counts, [17, 6, 17, 10, 86, 19, 9]);
        for row in &rows {
            assert!(usize::from(row.id.number) <= count(row.id.letter), "{}", row.id);
            assert!(!row.clause.is_empty() && !row.rule.is_empty(), "{}", row.id);
        }
    }

    #[test]
    fn lines_that_are_wrong_are_named() {
        for (text, expected) in [
            ("G1 | M | | a", "line 1: 4 fields, expected 5"),
            ("# a\nG1 | X | | a | b", "line 2: level \"X\", expected M, S or -"),
            ("G1 | M | no | a | b", "third field \"no\""),
            ("Q1 | M | | a | b", "row id \"Q1\""),
            ("G1 | M | | a | b\nG1 | M | | a | b", "line 2: G1 is there twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn ids_are_a_letter_and_a_number() {
        assert_eq!("n28".parse::<Id>().unwrap().to_string(), "N28");
        for wrong in ["", "n", "28", "n+1", "n01", "n0", "n256", "n2x", "x1"] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_leading_id_of_the_last_part_counts() {
        let names = |test: &str| ids(test).iter().map(Id::to_string).collect::<Vec<_>>().join(" ");
        for (test, expected) in [
            ("room::tests::n28_n29_n100_never_shown", "N28 N29 N100"),
            ("g1_x::y", ""),
            ("s1_any_cut_of_p2", "S1"),
            ("e2e_g1", ""),
            ("src/lib.rs - g1_x (line 3)", ""),
            ("plain", ""),
            ("f1_to_f4_f7_absent", "F1 F2 F3 F4 F7"),
            ("f1_to_f4", "F1 F2 F3 F4"),
            ("g1_to_n2_x", "G1"),
            ("g1_to_the_end", "G1"),
            ("g1_to", "G1"),
            ("g7", "G7"),
        ] {
            assert_eq!(names(test), expected, "{test}");
        }
    }
}
