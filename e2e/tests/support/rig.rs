//! User Mode Linux on a device of this process, driven command by command: what it is told, what then passes on the wire.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::frames::{BROADCAST, Mac, Tags, plain};
use super::served::Served;
use super::{console, say, wanted};
use e2e::agent::Marked;
use e2e::{Check, Guest, GuestSpec, Kind, Line, Nic, Plan, Step, Verdict, Workshop};
use vhost_glue::DeviceConfig;
use virtio_net_core::NetHeader;

/// The guest's address.
pub(crate) const OWN: Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// A guest and its device.
pub(crate) struct Rig {
    guest: Guest,
    pub(crate) served: Served,
    features: Vec<String>,
    next: u32,
}

/// What a program in the guest came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: f64,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Rig {
    /// Boots a guest on a device with these settings; `None`, and a word why, if no guests are wanted.
    pub(crate) fn boot(name: &str, config: DeviceConfig) -> Option<Self> {
        if !wanted() {
            return None;
        }
        let shop = Workshop::of_repository().unwrap();
        let assets = shop.prepare_with_tools(&[Kind::Uml], &mut say).unwrap();
        let served = Served::start(config);
        let plan = Plan::new(vec![Step::new(Check::Features), Step::new(Check::Link), Step::new(Check::Talk)]);
        let mut spec = GuestSpec::new(Kind::Uml, Nic::vhost_user(served.socket()), plan);
        spec.console = console(&shop, name);
        let guest = Guest::boot(&spec, &assets).unwrap();
        let mut rig = Self { guest, served, features: Vec::new(), next: 0 };
        // The boot, features, link, and that it listens.
        for _ in 0..4 {
            let line = rig.guest.next_line().unwrap().unwrap();
            println!("{}", line.to_console());
            assert_ne!(line.result, Verdict::Fail, "{line:?}");
            if let Some(names) = line.detail.get("names") {
                rig.features = serde_json::from_value(names.clone()).unwrap();
            }
        }
        rig.answer("capture");
        Some(rig)
    }

    /// Whether the driver negotiated this.
    pub(crate) fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|name| name == feature)
    }

    fn answer(&mut self, command: &str) -> Line {
        let line = self.guest.tell(command).unwrap();
        assert_eq!(line.result, Verdict::Pass, "{command}: {line:?}");
        line
    }

    /// Runs a program in the guest.
    pub(crate) fn try_run(&mut self, command: &str) -> Ran {
        let line = self.answer(command);
        let text = |key: &str| line.detail[key].as_str().unwrap_or_default().to_owned();
        let ran = Ran { status: line.value.unwrap(), out: text("out"), err: text("err") };
        println!("# {command}\n{}{}", ran.out, ran.err);
        ran
    }

    /// Runs a program that must succeed; what it printed.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let ran = self.try_run(command);
        assert!(ran.status == 0.0, "{command}: {ran:?}");
        ran.out
    }

    /// Gives the guest a frame of each of these to whom, with which tags; answers which of them arrived.
    pub(crate) fn arrive<const N: usize>(&mut self, frames: [(Mac, &Tags); N]) -> [bool; N] {
        let first = self.next;
        let numbers = (first..).take(N);
        let mut all: Vec<_> = frames.iter().zip(numbers).map(|((to, tags), number)| plain(*to, tags, number)).collect();
        // What comes before it by the same queue has arrived before it, or never will.
        let last = first + u32::try_from(N).unwrap();
        all.push(plain(BROADCAST, &[], last));
        self.next = last + 1;
        self.served.wire.give(0, NetHeader::NONE, all);
        let seen = self.frames(&format!("frames {last}"));
        std::array::from_fn(|n| seen.iter().any(|frame| frame.number == first + u32::try_from(n).unwrap()))
    }

    /// Numbers for frames of the test's own.
    pub(crate) fn numbers(&mut self, count: usize) -> std::ops::Range<u32> {
        let first = self.next;
        self.next += u32::try_from(count).unwrap();
        first..self.next
    }

    /// What the guest says to `frames N` or `count N`.
    pub(crate) fn frames(&mut self, command: &str) -> Vec<Marked> {
        let line = self.answer(command);
        serde_json::from_value(line.detail["frames"].clone()).unwrap()
    }

    /// Lets the guest send a frame as it is.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.answer(&format!("send {}", e2e::agent::frame::to_hex(frame)));
    }

    /// The guest powers itself off, and the session ends in good order.
    pub(crate) fn end(mut self) {
        let line = self.answer("end");
        println!("{}", line.to_console());
        assert_eq!(self.guest.run_to_end().unwrap(), []);
        self.served.end();
    }
}
