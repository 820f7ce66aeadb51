//! `ip link`, `ip maddr`, VLAN devices: which frames the guest receives.

use crate::support::frames::{BROADCAST, Mac, SENDER, Tags, plain};
use crate::support::rig::{OWN, Rig};
use crate::{boot, config};
use vhost_glue::{DeviceConfig, SpoofPolicy};

const CTAG: [u8; 2] = [0x81, 0];
const STAG: [u8; 2] = [0x88, 0xa8];
const OTHER: Mac = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
const GROUP: Mac = [1, 0, 0x5e, 1, 2, 3];
const OTHER_GROUP: Mac = [1, 0, 0x5e, 4, 5, 6];

/// Which of these arrive: one to the guest, one to somebody else, one to each group, one to all.
fn who(rig: &mut Rig) -> [bool; 5] {
    rig.arrive([OWN, OTHER, GROUP, OTHER_GROUP, BROADCAST].map(|to| (to, &[][..])))
}

pub(crate) fn receive_modes_and_groups(packed: bool) {
    let Some(mut rig) = boot("modes", config(packed, 1), &["CTRL_RX", "CTRL_MAC_ADDR"]) else { return };
    let filtered = rig.served.stats().pairs[0].rx.filtered;
    assert_eq!(who(&mut rig), [true, false, false, false, true], "at first");
    rig.served.until("three frames are counted", |stats| stats.pairs[0].rx.filtered == filtered + 3);

    rig.run("ip link set eth0 promisc on");
    assert_eq!(who(&mut rig), [true; 5], "promiscuous");
    rig.run("ip link set eth0 promisc off");
    assert_eq!(who(&mut rig), [true, false, false, false, true], "not any more");

    rig.run("ip link set eth0 allmulticast on");
    assert_eq!(who(&mut rig), [true, false, true, true, true], "all groups");
    rig.run("ip link set eth0 allmulticast off");
    assert_eq!(who(&mut rig), [true, false, false, false, true], "no group");

    rig.run("ip maddr add 01:00:5e:01:02:03 dev eth0");
    assert_eq!(who(&mut rig), [true, false, true, false, true], "one group");
    rig.run("ip maddr del 01:00:5e:01:02:03 dev eth0");
    assert_eq!(who(&mut rig), [true, false, false, false, true], "none");

    // A second address on the same card.
    rig.run("ip link add link eth0 name second address 52:54:00:aa:bb:cc type macvlan mode bridge");
    rig.run("ip link set second up");
    assert_eq!(who(&mut rig), [true, true, false, false, true], "two addresses");
    rig.run("ip link del second");
    assert_eq!(who(&mut rig), [true, false, false, false, true], "one");

    // Not while the device checks what it sends.
    assert!(rig.try_run("ip link set eth0 address 52:54:00:aa:bb:cc").status != 0.0);
    assert_eq!(who(&mut rig), [true, false, false, false, true], "its own address");
    rig.end();
}

/// A frame of the guest's, from this address.
fn frame_from(from: Mac, tags: &Tags, number: u32) -> Vec<u8> {
    let mut frame = plain(SENDER, tags, number);
    frame[6..12].copy_from_slice(&from);
    frame
}

pub(crate) fn another_address(packed: bool) {
    let config = DeviceConfig { spoof_check: SpoofPolicy::Off, ..config(packed, 1) };
    let Some(mut rig) = boot("address", config, &["CTRL_RX", "CTRL_MAC_ADDR"]) else { return };
    rig.run("ip link set eth0 address 52:54:00:aa:bb:cc");
    assert_eq!(who(&mut rig), [false, true, false, false, true], "another address");
    let frame = frame_from(OTHER, &[], 0);
    rig.send(&frame);
    rig.served.wire.sent_until("a frame from its new address", |sent| sent.frame == frame);
    rig.run("ip link set eth0 address 52:54:00:12:34:56");
    assert_eq!(who(&mut rig), [true, false, false, false, true], "its own again");
    rig.end();
}

/// Which of these arrive: one without a tag, one of VLAN 5 and 6 each, and the same with the tag of a provider.
fn which(rig: &mut Rig) -> [bool; 5] {
    let tags: [&[_]; 5] = [&[], &[(CTAG, 5)], &[(CTAG, 6)], &[(STAG, 5)], &[(STAG, 6)]];
    rig.arrive(tags.map(|tags| (OWN, tags)))
}

pub(crate) fn n61_tagged_frames_pass_while_there_is_a_vlan_device(packed: bool) {
    let Some(mut rig) = boot("vlans", config(packed, 1), &["CTRL_VLAN"]) else { return };
    assert_eq!(which(&mut rig), [true, false, false, false, false], "at first");
    rig.run("ip link add link eth0 name five type vlan id 5");
    assert_eq!(which(&mut rig), [true, true, false, true, false], "VLAN 5");
    rig.run("ip link add link eth0 name six type vlan id 6");
    assert_eq!(which(&mut rig), [true; 5], "both");
    rig.run("ip link del five");
    assert_eq!(which(&mut rig), [true, false, true, false, true], "VLAN 6");
    rig.run("ip link del six");
    assert_eq!(which(&mut rig), [true, false, false, false, false], "none");

    // Linux names no VLANs of providers, so that is how a guest gets them.
    rig.run("ip link set eth0 promisc on");
    assert_eq!(which(&mut rig), [true; 5], "promiscuous");
    rig.run("ip link set eth0 promisc off");
    assert_eq!(which(&mut rig), [true, false, false, false, false], "not any more");

    // What the guest sends is not filtered by VLAN, and a tag does not hide a source address that is not its own.
    let frames = [OTHER, OWN].map(|from| frame_from(from, &[(CTAG, 7)], 0));
    for frame in &frames {
        rig.send(frame);
    }
    let sent = rig.served.wire.sent_until("the second frame", |sent| sent.frame == frames[1]);
    assert!(sent.iter().all(|sent| sent.frame != frames[0]), "sent under another's address");
    rig.end();
}
