//! Receive filters: modes, MAC table, own address, VLANs, by what comes and what does not.

use super::super::frames::{self, NONE};
use super::super::outcome::{Check, Stop, need, want};
use super::super::plug::Plug;
use super::super::ring::Format;
use super::super::suite::Case;
use super::super::target::{Returns, Target};
use super::control::controlled;
use virtio_net_core::Features;

pub(super) const CASES: &[Case] = &[
    Case::rings("n50_n51_n52_n53_n54_n55_all_modes", modes),
    Case::rings("n56_the_mac_table_is_empty_after_a_reset", empty_table),
    Case::rings("n57_n59_the_mac_table_is_what_was_set", table),
    Case::rings("n58_the_config_space_has_the_new_address", new_address),
    Case::rings("n60_without_ctrl_vlan_every_tag_passes", all_tags),
    Case::rings("n61_only_listed_vlans_pass", vlans),
    Case::rings("mac_tables_and_vlans_that_cannot_be_are_refused", refusals),
];

const RX: u8 = 0;
const MAC: u8 = 1;
const VLAN: u8 = 2;

const OTHER: [u8; 6] = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
const LISTED: [u8; 6] = [2, 0x11, 0x22, 0x33, 0x44, 0x66];
const GROUP: [u8; 6] = [1, 0, 0x5e, 1, 2, 3];
const LISTED_GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 5];
const BROADCAST: [u8; 6] = [0xff; 6];

/// A frame that comes back as one to this address.
fn frame_to(target: &Target, to: [u8; 6], number: u64) -> Vec<u8> {
    match target.returns {
        Returns::Swapped => frames::plain(target.mac, to, number),
        _ => frames::plain(to, target.mac, number),
    }
}

/// Sends frames, and says which of them come: those that must, as soon as they are there, and others for a while.
fn arrivals(plug: &mut Plug<'_>, sent: &[Vec<u8>], wanted: &[bool]) -> Check<Vec<bool>> {
    for frame in sent {
        plug.give(&[2048])?;
        plug.send(&NONE, frame)?;
    }
    let mut came = vec![false; sent.len()];
    let missing = |came: &[bool]| wanted.iter().zip(came).any(|(wanted, came)| *wanted && !came);
    loop {
        let limit = if missing(&came) { plug.target.patience } else { plug.target.quiet };
        let Some(packet) = plug.receive(limit)? else { return Ok(came) };
        let found = sent.iter().position(|frame| frame.get(12..) == packet.frame.get(12..));
        match found.and_then(|i| came.get_mut(i)) {
            Some(place) => *place = true,
            None => return Err(Stop::Fail("a frame comes that was not sent".to_owned())),
        }
    }
}

/// Frames to these addresses: which must come.
fn expect(plug: &mut Plug<'_>, what: &str, rows: &[([u8; 6], bool)]) -> Check {
    let target = plug.target;
    let frames: Vec<Vec<u8>> = rows.iter().enumerate().map(|(n, (to, _))| frame_to(target, *to, n as u64)).collect();
    let wanted: Vec<bool> = rows.iter().map(|(_, comes)| *comes).collect();
    let came = arrivals(plug, &frames, &wanted)?;
    for ((to, wanted), came) in rows.iter().zip(came) {
        want!(*wanted == came, "{what}: a frame to {to:02x?} {}", if came { "comes" } else { "does not come" });
    }
    Ok(())
}

/// A driver to which frames for others come back at all.
fn open(target: &Target, format: Format, features: Features) -> Check<Plug<'_>> {
    target.needs(features)?;
    target.needs_returns()?;
    let mut plug = controlled(target, format, features | Features::CTRL_RX)?;
    if !target.offers(Features::CTRL_RX) {
        return Ok(plug);
    }
    plug.done(RX, 0, &[1])?;
    let frame = frame_to(target, OTHER, 1);
    let came = arrivals(&mut plug, &[frame], &[false])?;
    need!(came == [true], "a frame for another station does not come back in promiscuous mode: is its source refused?");
    plug.done(RX, 0, &[0])?;
    Ok(plug)
}

/// Both tables of a command.
fn tables(unicast: &[[u8; 6]], multicast: &[[u8; 6]]) -> Vec<u8> {
    let list = |list: &[[u8; 6]]| [&(list.len() as u32).to_le_bytes()[..], list.as_flattened()].concat();
    [list(unicast), list(multicast)].concat()
}

/// The six modes as bits: promiscuous, all multicast, all unicast, no multicast, no unicast, no broadcast.
fn passes(modes: u8, to: [u8; 6], own: [u8; 6], listed: &[[u8; 6]]) -> bool {
    let [promisc, allmulti, alluni, nomulti, nouni, nobcast] = [0, 1, 2, 3, 4, 5].map(|n| modes >> n & 1 == 1);
    if promisc {
        true
    } else if to == BROADCAST {
        !nobcast
    } else if to[0] & 1 == 1 {
        !nomulti && (allmulti || listed.contains(&to))
    } else {
        !nouni && (alluni || to == own || listed.contains(&to))
    }
}

fn modes(target: &Target, format: Format) -> Check {
    let mut plug = open(target, format, Features::CTRL_RX)?;
    drop(plug);
    plug = controlled(target, format, Features::CTRL_RX | Features::CTRL_RX_EXTRA)?;
    let extra = target.offers(Features::CTRL_RX_EXTRA);
    let all = [target.mac, OTHER, LISTED, GROUP, LISTED_GROUP, BROADCAST];
    plug.done(MAC, 0, &tables(&[LISTED], &[LISTED_GROUP]))?;
    for modes in 0..if extra { 64_u8 } else { 4 } {
        for (command, on) in (0..if extra { 6_u8 } else { 2 }).map(|n| (n, modes >> n & 1)) {
            plug.done(RX, command, &[on])?;
        }
        let rows = all.map(|to| (to, passes(modes, to, target.mac, &[LISTED, LISTED_GROUP])));
        expect(&mut plug, &format!("modes {modes:06b} (no broadcast .. promiscuous)"), &rows)?;
    }
    Ok(())
}

fn empty_table(target: &Target, format: Format) -> Check {
    let rows = [(target.mac, true), (LISTED, false), (LISTED_GROUP, false), (BROADCAST, true)];
    let mut plug = open(target, format, Features::CTRL_RX)?;
    expect(&mut plug, "at the beginning", &rows)?;
    plug.done(MAC, 0, &tables(&[LISTED], &[LISTED_GROUP]))?;
    drop(plug);
    let mut plug = controlled(target, format, Features::CTRL_RX)?;
    expect(&mut plug, "after another driver set a table", &rows)
}

fn table(target: &Target, format: Format) -> Check {
    let mut plug = open(target, format, Features::CTRL_RX)?;
    let all = |[listed, group]: [bool; 2]| {
        [(target.mac, true), (OTHER, false), (LISTED, listed), (GROUP, false), (LISTED_GROUP, group), (BROADCAST, true)]
    };
    for (unicast, multicast) in [(true, false), (false, true), (true, true), (false, false), (true, true)] {
        let unicasts: &[[u8; 6]] = if unicast { &[LISTED] } else { &[] };
        let groups: &[[u8; 6]] = if multicast { &[LISTED_GROUP] } else { &[] };
        plug.done(MAC, 0, &tables(unicasts, groups))?;
        expect(&mut plug, &format!("{} and {} entries", unicasts.len(), groups.len()), &all([unicast, multicast]))?;
    }
    // Many entries: every one counts, or all pass (a device may give up).
    for count in [16_u32, 100, 1024, 3000] {
        let entry = |n: u32| [2, 0xaa, 0, 0, (n >> 8) as u8, n as u8];
        let many: Vec<[u8; 6]> = (0..count).map(entry).collect();
        plug.done(MAC, 0, &tables(&many, &[]))?;
        expect(&mut plug, &format!("{count} entries"), &[(entry(0), true), (entry(count.saturating_sub(1)), true)])?;
    }
    Ok(())
}

fn new_address(target: &Target, format: Format) -> Check {
    target.needs(Features::CTRL_MAC_ADDR | Features::MAC)?;
    target.config()?;
    let mut plug = controlled(target, format, Features::CTRL_MAC_ADDR | Features::MAC)?;
    plug.done(MAC, 1, &LISTED)?;
    let config = super::super::target::read_config(&mut plug.wire, 0, 6)?;
    want!(config == LISTED, "config space has {config:02x?} after the address was set to {LISTED:02x?}");
    drop(plug);
    // And the filter goes by it.
    let mut plug = open(target, format, Features::CTRL_MAC_ADDR | Features::MAC)?;
    plug.done(MAC, 1, &LISTED)?;
    expect(&mut plug, "with another own address", &[(LISTED, true), (OTHER, false)])
}

/// Frames with tags: both kinds, and which of them must come.
fn expect_tags(plug: &mut Plug<'_>, ids: &[(u16, bool)]) -> Check {
    for ad in [false, true] {
        for (id, comes) in ids {
            let frame = frames::tagged(frame_to(plug.target, plug.target.mac, u64::from(*id)), ad, *id);
            let came = arrivals(plug, &[frame], &[*comes])?;
            want!(came == [*comes], "VLAN {id}, 802.1{}: came {came:?}, expected {comes}", if ad { "ad" } else { "Q" });
        }
    }
    Ok(())
}

fn all_tags(target: &Target, format: Format) -> Check {
    target.needs_returns()?;
    let mut plug = Plug::start(target, super::super::plug::Setup::new(target, format))?;
    let ids = [0, 1, 2, 100, 2048, 4094, 4095].map(|id| (id, true));
    expect_tags(&mut plug, &ids)
}

fn vlans(target: &Target, format: Format) -> Check {
    let mut plug = open(target, format, Features::CTRL_VLAN)?;
    expect_tags(&mut plug, &[(1, false), (100, false), (4094, false)])?;
    plug.done(VLAN, 0, &100_u16.to_le_bytes())?;
    plug.done(VLAN, 0, &4094_u16.to_le_bytes())?;
    expect_tags(&mut plug, &[(1, false), (100, true), (4094, true)])?;
    plug.done(VLAN, 1, &100_u16.to_le_bytes())?;
    expect_tags(&mut plug, &[(1, false), (100, false), (4094, true)])?;
    // Frames without a tag are not the filter's affair.
    plug.still_works(1)
}

fn refusals(target: &Target, format: Format) -> Check {
    let features = Features::CTRL_RX | Features::CTRL_VLAN | Features::CTRL_MAC_ADDR;
    let mut plug = controlled(target, format, features)?;
    if target.offers(Features::CTRL_RX) {
        for data in [&[][..], &[2], &[0, 0]] {
            plug.refused(RX, 0, data)?;
        }
        let short = tables(&[LISTED], &[]);
        plug.refused(MAC, 0, short.get(..10).unwrap_or_default())?;
        plug.refused(MAC, 0, short.get(..9).unwrap_or_default())?;
    }
    if target.offers(Features::CTRL_MAC_ADDR) {
        plug.refused(MAC, 1, &GROUP)?;
        plug.refused(MAC, 1, &[2, 0, 0])?;
    }
    if target.offers(Features::CTRL_VLAN) {
        for data in [&4096_u16.to_le_bytes()[..], &[1], &[1, 0, 0]] {
            plug.refused(VLAN, 0, data)?;
        }
    }
    Ok(())
}
