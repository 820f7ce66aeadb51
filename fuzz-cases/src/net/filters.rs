//! Receive rules against sets and a list of sentences; source checks against a comparison.

use std::collections::BTreeSet;

use net_filter::{FrameHead, IpSources, MacAddr, RxModes, RxRules, SpoofCheck, TableLimits, learn, may_teach};

use super::rig::{OWN, frame};
use crate::Tally;
use crate::input::Input;

const LIMIT: usize = 6;

/// One of a few addresses, so that they meet.
fn address(input: &mut Input<'_>) -> MacAddr {
    let byte = input.u8();
    match byte >> 6 {
        0 => MacAddr([2, 0, 0, 0, 0, byte & 15]),
        1 => MacAddr([3, 0, 0, 0, 0, byte & 15]),
        2 => OWN,
        _ => MacAddr::BROADCAST,
    }
}

/// The rules, slowly.
struct Model {
    own: MacAddr,
    modes: RxModes,
    named: BTreeSet<MacAddr>,
    all: (bool, bool),
    vlans: Option<BTreeSet<u16>>,
}

impl Model {
    fn accepts(&self, bytes: &[u8]) -> bool {
        if bytes.len() < 14 {
            return false;
        }
        let dst = MacAddr(bytes[..6].try_into().unwrap());
        let on = |mode| self.modes.contains(mode);
        if on(RxModes::PROMISC) {
            return true;
        }
        let wanted = if dst == MacAddr::BROADCAST {
            !on(RxModes::NOBCAST)
        } else if dst.is_multicast() {
            !on(RxModes::NOMULTI)
                && (on(RxModes::ALLMULTI) || self.all.1 || self.named.contains(&dst) || dst == self.own)
        } else {
            !on(RxModes::NOUNI) && (on(RxModes::ALLUNI) || self.all.0 || self.named.contains(&dst) || dst == self.own)
        };
        let vlan = match (&self.vlans, &bytes[12..14]) {
            (Some(vlans), [0x81, 0] | [0x88, 0xa8]) => {
                bytes.len() >= 16 && vlans.contains(&(u16::from_be_bytes([bytes[14], bytes[15]]) & 0xfff))
            }
            _ => true,
        };
        wanted && vlan
    }
}

pub(crate) fn run(data: &[u8]) -> Tally {
    let mut input = Input::new(data);
    let (names, limited) = (input.u8() & 1 == 1, input.u8() & 1 == 1);
    let mut rules = RxRules::new(OWN).with_limits(TableLimits { unicast: LIMIT, multicast: LIMIT }, input.u64());
    rules.begin(names, limited);
    let mut model = Model {
        own: OWN,
        modes: RxModes::empty(),
        named: BTreeSet::new(),
        all: (false, !names),
        vlans: limited.then(BTreeSet::new),
    };
    let mut tally = Tally::default();
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        match input.u8() % 6 {
            0 => {
                let (mode, on) = (RxModes::from_bits_truncate(1 << (input.u8() % 6)), input.u8() & 1 == 1);
                rules.set_mode(mode, on);
                model.modes.set(mode, on);
            }
            1 => {
                let mut table = |group: bool| {
                    let mut table = Vec::new();
                    for _ in 0..input.below(9) {
                        let mut mac = address(&mut input);
                        mac.0[0] = mac.0[0] & !1 | u8::from(group);
                        table.push(mac);
                    }
                    table
                };
                let (unicast, multicast) = (table(false), table(true));
                rules.set_tables(&unicast, &multicast);
                let over = [&unicast, &multicast].map(|t| t.len() > LIMIT);
                assert_eq!(rules.overflows(), (over[0], over[1]));
                model.all = (over[0], over[1]);
                let kept = [(unicast, over[0]), (multicast, over[1])];
                model.named = kept.iter().filter(|(_, over)| !over).flat_map(|(t, _)| t.clone()).collect();
            }
            2 => {
                let (id, on) = (input.u16() % 4200, input.u8() & 1 == 1);
                let known = rules.set_vlan(id, on);
                assert_eq!(known, limited && id < 4096);
                if let (true, Some(vlans)) = (known, &mut model.vlans) {
                    if on {
                        vlans.insert(id)
                    } else {
                        vlans.remove(&id)
                    };
                }
            }
            3 => {
                // A station's, as the device makes sure.
                model.own = address(&mut input);
                model.own.0[0] &= !1;
                rules.set_own(model.own);
            }
            _ => {
                let mut bytes = frame(&mut input);
                let dst = address(&mut input);
                bytes.iter_mut().zip(dst.0).for_each(|(to, from)| *to = from);
                let expected = model.accepts(&bytes);
                assert_eq!(rules.accepts(&bytes), expected);
                assert_eq!(rules.decide(&bytes).is_accepted(), expected);
                tally.completed += usize::from(expected);
                tally.refused += usize::from(!expected);
                sent(&bytes);
            }
        }
    }
    tally
}

/// The other way.
fn sent(bytes: &[u8]) {
    let head = &bytes[..bytes.len().min(128)];
    let mut mac = SpoofCheck::new(OWN);
    let own = head.len() >= 14 && head[6..12] == OWN.0;
    assert_eq!(mac.permits(head), own);
    let given = ["10.0.0.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
    let ip = SpoofCheck::with_ip(OWN, std::sync::Arc::new(IpSources::new(OWN, &given, None)));
    if ip.check(head).is_none() {
        let frame = FrameHead::parse(head).unwrap();
        assert!(own && matches!(frame.ethertype, 0x0800 | 0x0806 | 0x86dd));
        let packet = &head[frame.l3..];
        match frame.ethertype {
            0x0800 => assert!(matches!(packet[12..16], [10, 0, 0, 5] | [0, 0, 0, 0])),
            0x0806 => assert!(packet[8..14] == OWN.0),
            _ => {}
        }
    }
    if let Some(ack) = learn(bytes, OWN) {
        assert!(may_teach(head) && !ack.address.is_unspecified());
    }
}
