//! What is measured: layouts of rings, directions, sizes, and the commands that make DPDK's test program do them.

use e2e::HostEnd;

/// A path of DPDK's virtio driver.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) name: &'static str,
    parameters: &'static str,
    /// Wants registers of 512 bits, which DPDK does not use unless told so.
    pub(super) wide: bool,
}

const fn layout(name: &'static str, parameters: &'static str, wide: bool) -> Layout {
    Layout { name, parameters, wide }
}

pub(super) const LAYOUTS: [Layout; 6] = [
    layout("split", "packed_vq=0,in_order=0,vectorized=0", false),
    layout("split in_order", "packed_vq=0,in_order=1,vectorized=0", false),
    layout("split vectorised", "packed_vq=0,in_order=0,vectorized=1", false),
    layout("packed", "packed_vq=1,in_order=0,vectorized=0", false),
    layout("packed in_order", "packed_vq=1,in_order=1,vectorized=0", false),
    layout("packed vectorised", "packed_vq=1,in_order=1,vectorized=1", true),
];
/// Of these, what a quick run takes.
const QUICK: [&str; 3] = ["split", "packed", "packed in_order"];

/// A layout with or without mergeable buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) layout: &'static Layout,
    pub(super) mergeable: bool,
}

impl Path {
    /// All, or what was asked for.
    pub(super) fn wanted(only: &[String], quick: bool) -> Vec<Self> {
        let named = |name: &str| only.is_empty() || only.iter().any(|o| o == name);
        let quickly = |name: &str| !quick || !only.is_empty() || QUICK.contains(&name);
        let layouts = LAYOUTS.iter().filter(|l| named(l.name) && quickly(l.name));
        let modes = if quick { &[true][..] } else { &[true, false] };
        layouts.flat_map(|layout| modes.iter().map(move |mergeable| Self { layout, mergeable: *mergeable })).collect()
    }

    /// For the virtio-user port.
    pub(super) fn parameters(&self, mac: &str) -> String {
        format!("mac={mac},{},mrg_rxbuf={}", self.layout.parameters, u8::from(self.mergeable))
    }

    pub(super) fn name(&self) -> String {
        format!("{}, {}", self.layout.name, mergeable(self.mergeable))
    }
}

/// A word for it.
pub(super) const fn mergeable(on: bool) -> &'static str {
    if on { "mergeable" } else { "not mergeable" }
}

/// Which way frames go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    ToHost,
    ToGuest,
    Loop,
}

impl Direction {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ToHost => "guest to host",
            Self::ToGuest => "host to guest",
            Self::Loop => "loop",
        }
    }
}

/// How long frames are, in bytes without FCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Size {
    Short,
    Long,
    /// Both of those and one between them, in equal shares.
    Mix,
}

/// Lengths in the mix: `--net source:mix` of the daemon has the same.
pub(super) const MIX: [u16; 3] = [64, 576, 1500];
/// The same as `set txpkts` wants them with `set txsplit rand`: a frame is the first piece, or two, or all three.
const MIX_PIECES: &str = "64,512,924";
/// Bursts of a loop at its start. The rings hold fewer frames; what does not fit is not sent, by either.
const LOOP_BURSTS: u16 = 4;
/// Bursts of each length in a mixed loop: with all of them, no frame is lost while the loop is filled.
const MIXED_BURSTS: u16 = 2;

impl Size {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Short => "64",
            Self::Long => "1500",
            Self::Mix => "mix",
        }
    }

    /// Mean length.
    pub(super) fn bytes(self) -> f64 {
        match self {
            Self::Short => 64.0,
            Self::Long => 1500.0,
            Self::Mix => MIX.into_iter().map(f64::from).sum::<f64>() / MIX.len() as f64,
        }
    }

    /// For frames of one length each.
    const fn packets(self) -> &'static str {
        match self {
            Self::Short => "set txpkts 64",
            Self::Long => "set txpkts 1500",
            Self::Mix => "",
        }
    }
}

/// Rows that the same processes can do, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) direction: Direction,
    pub(super) sizes: &'static [Size],
    /// The daemon's `--net`.
    net: &'static str,
    /// The front end reads its frames from a file, over and over: its generator has frames of several lengths only as
    /// chains of buffers, and DPDK 22.11 makes chains in packed rings that virtio forbids.
    pub(super) from_file: bool,
}

impl Group {
    const fn new(direction: Direction, sizes: &'static [Size], net: &'static str) -> Self {
        Self { direction, sizes, net, from_file: false }
    }

    pub(super) fn all(quick: bool) -> Vec<Self> {
        use Direction::{Loop, ToGuest, ToHost};
        use Size::{Long, Mix, Short};
        if quick {
            return vec![
                Self::new(ToHost, &[Short], "sink"),
                Self::new(ToGuest, &[Short], "source:64"),
                Self::new(Loop, &[Short], "loopback"),
            ];
        }
        vec![
            Self::new(ToHost, &[Short, Long], "sink"),
            Self { from_file: true, ..Self::new(ToHost, &[Mix], "sink") },
            Self::new(ToGuest, &[Short], "source:64"),
            Self::new(ToGuest, &[Long], "source:1500"),
            Self::new(ToGuest, &[Mix], "source:mix"),
            Self::new(Loop, &[Short, Long, Mix], "loopback"),
        ]
    }

    /// What our daemon's host end is.
    pub(super) const fn host_end(&self) -> HostEnd {
        HostEnd::Bench(self.net)
    }

    /// What is said to the front end before it starts.
    pub(super) fn front(&self, size: Size) -> Vec<&'static str> {
        match self.direction {
            Direction::ToHost if self.from_file => vec!["set fwd io"],
            Direction::ToHost => vec!["set fwd txonly", size.packets()],
            Direction::ToGuest => vec!["set fwd rxonly"],
            Direction::Loop => vec!["set fwd io", size.packets()],
        }
    }

    /// What is said to DPDK's back end before it starts.
    pub(super) fn back(&self, size: Size) -> Vec<String> {
        match self.direction {
            Direction::ToHost => vec!["set fwd rxonly".into()],
            Direction::ToGuest if size == Size::Mix => {
                vec!["set fwd txonly".into(), format!("set txpkts {MIX_PIECES}"), "set txsplit rand".into()]
            }
            Direction::ToGuest => vec!["set fwd txonly".into(), size.packets().into()],
            Direction::Loop => vec!["set fwd io".into()],
        }
    }

    /// How the front end starts; before each but the last it stops again. In a loop, what is left from before is thrown
    /// away, and then frames are put in.
    pub(super) fn starts(&self, size: Size) -> Vec<Vec<String>> {
        let with = |flush: &str, packets: String, bursts: u16| {
            vec![format!("set flush_rx {flush}"), packets, format!("start tx_first {bursts}")]
        };
        match (self.direction, size) {
            (Direction::Loop, Size::Mix) => {
                let flush = ["on", "off", "off"];
                let parts = MIX.into_iter().zip(flush);
                parts.map(|(len, flush)| with(flush, format!("set txpkts {len}"), MIXED_BURSTS)).collect()
            }
            (Direction::Loop, _) => vec![with("on", size.packets().into(), LOOP_BURSTS)],
            _ => vec![vec!["start".into()]],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_run_has_every_row_once() {
        let rows: Vec<_> = Path::wanted(&[], false)
            .iter()
            .flat_map(|p| Group::all(false).into_iter().map(|g| (p.name(), g)))
            .flat_map(|(path, group)| group.sizes.iter().map(move |s| (path.clone(), group.direction.name(), s.name())))
            .collect();
        assert_eq!(rows.len(), 6 * 2 * 3 * 3);
        assert_eq!(rows.iter().collect::<std::collections::BTreeSet<_>>().len(), rows.len());
    }

    #[test]
    fn paths_can_be_picked() {
        assert_eq!(Path::wanted(&["packed vectorised".to_owned()], true).len(), 1);
        assert_eq!(Path::wanted(&[], true).len(), QUICK.len(), "all of them are there");
    }

    #[test]
    fn the_pieces_of_the_mix_add_up_to_it() {
        let sums = MIX_PIECES.split(',').scan(0, |sum, piece| {
            *sum += piece.parse::<u16>().unwrap();
            Some(*sum)
        });
        assert!(sums.eq(MIX));
    }
}
