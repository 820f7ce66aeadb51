//! Receive modes, addresses, VLANs, the announcement.

use net_filter::{MacAddr, RxModes};
use virtio_net_core::ctrl::Ack;
use virtio_net_core::{Features, NetConfig, NetDevice};

use crate::rig::{OWN, Rig};

const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const GROUP: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 1]);

#[test]
fn n50_n51_n52_n53_n54_n55_each_mode_is_a_byte_that_is_0_or_1() {
    let modes =
        [RxModes::PROMISC, RxModes::ALLMULTI, RxModes::ALLUNI, RxModes::NOMULTI, RxModes::NOUNI, RxModes::NOBCAST];
    let mut rig = Rig::new(Features::all());
    for (cmd, mode) in modes.into_iter().enumerate() {
        for value in 0..=u8::MAX {
            let before = rig.device.settings().filter.modes();
            let ack = rig.run(0, cmd as u8, &[value]).0;
            let after = rig.device.settings().filter.modes();
            match value {
                0 => assert_eq!((ack, after), (Ack::Ok, before - mode)),
                1 => assert_eq!((ack, after), (Ack::Ok, before | mode)),
                _ => assert_eq!((ack, after), (Ack::Err, before), "{value}"),
            }
        }
        rig.run(0, cmd as u8, &[1]);
    }
    assert_eq!(rig.device.settings().filter.modes(), RxModes::all());
}

fn tables(unicast: &[MacAddr], multicast: &[MacAddr]) -> Vec<u8> {
    let table = |t: &[MacAddr]| {
        let count = (t.len() as u32).to_le_bytes();
        count.into_iter().chain(t.iter().flat_map(|mac| mac.0)).collect::<Vec<_>>()
    };
    [table(unicast), table(multicast)].concat()
}

#[test]
fn n57_a_table_is_in_force_when_its_command_is_answered() {
    let mut rig = Rig::new(Features::all());
    assert!(rig.accepts(OWN) && !rig.accepts(OTHER) && !rig.accepts(GROUP));
    assert_eq!(rig.run(1, 0, &tables(&[OTHER], &[GROUP])).0, Ack::Ok);
    assert!(rig.accepts(OWN) && rig.accepts(OTHER) && rig.accepts(GROUP));
    assert_eq!(rig.run(1, 0, &tables(&[], &[GROUP])).0, Ack::Ok);
    assert!(rig.accepts(OWN) && !rig.accepts(OTHER) && rig.accepts(GROUP));
    // As many as a command holds.
    let many: Vec<_> = (0..5000_u32).map(|n| MacAddr([2, 9, 0, 0, (n >> 8) as u8, n as u8])).collect();
    assert_eq!(rig.run(1, 0, &tables(&many, &[])).0, Ack::Ok);
    assert!(many.iter().all(|mac| rig.accepts(*mac)) && rig.accepts(OTHER), "more than fit: all unicast");
    assert_eq!(rig.run(1, 0, &tables(&many[..1024], &[])).0, Ack::Ok);
    assert!(many[..1024].iter().all(|mac| rig.accepts(*mac)) && !rig.accepts(many[1024]) && !rig.accepts(OTHER));
}

/// QEMU CVE-2014-0150: a count whose bytes overflow a number; a second table that is not there.
#[test]
fn n57_counts_that_are_not_true_are_refused() {
    let mut rig = Rig::new(Features::all());
    assert_eq!(rig.run(1, 0, &tables(&[OTHER], &[])).0, Ack::Ok);
    let before = rig.device.settings();
    let good = tables(&[MacAddr([2, 0xff, 0xff, 0xff, 0, 1]); 2], &[GROUP]);
    for count in [1, 3, 4, 0x2aaa_aaab, 0x5555_5556, 0x8000_0000, 0xffff_ffff_u32] {
        for at in [0, 16] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&count.to_le_bytes());
            if bad != good && (at, count) != (16, 1) {
                assert_eq!(rig.run(1, 0, &bad).0, Ack::Err, "{count:#x} at {at}");
            }
        }
    }
    for len in 0..good.len() {
        assert_eq!(rig.run(1, 0, &good[..len]).0, Ack::Err, "{len}");
    }
    assert_eq!(rig.device.settings(), before);
}

#[test]
fn n58_the_config_space_shows_the_address_when_its_command_is_answered() {
    let mac = |device: &NetDevice| {
        let mut bytes = [0; 6];
        device.config().read(0, &mut bytes);
        MacAddr(bytes)
    };
    let mut rig = Rig::new(Features::all());
    assert_eq!(rig.run(1, 1, &OTHER.0).0, Ack::Ok);
    assert_eq!(mac(&rig.device), OTHER);
    assert!(rig.accepts(OTHER) && !rig.accepts(OWN));
    for bad in [GROUP, MacAddr::BROADCAST, MacAddr::ZERO] {
        assert_eq!(rig.run(1, 1, &bad.0).0, Ack::Err, "{bad}");
    }
    assert_eq!(mac(&rig.device), OTHER);
    // The specification names one feature for it here and the other there.
    for feature in [Features::CTRL_MAC_ADDR, Features::CTRL_RX] {
        assert_eq!(Rig::new(Features::CTRL_VQ | feature).run(1, 1, &OTHER.0).0, Ack::Ok);
    }
}

#[test]
fn an_address_that_the_host_insists_on_stays() {
    let config = NetConfig { fixed_mac: true, ..NetConfig::new(OWN) };
    let device = NetDevice::new(&config, Features::SUPPORTED, Features::empty()).unwrap();
    let mut rig = Rig { device, counted: Default::default() };
    rig.negotiate(Features::all());
    assert_eq!(rig.run(1, 1, &OTHER.0).0, Ack::Err);
    assert!(rig.accepts(OWN) && !rig.accepts(OTHER));
    assert_eq!(rig.run(1, 1, &OWN.0).0, Ack::Ok, "it is this one already");
}

#[test]
fn n61_vlans_are_added_and_removed_by_id() {
    let mut rig = Rig::new(Features::all());
    for id in 0..=u16::MAX {
        for (cmd, on) in [(0, true), (1, false), (0, true)] {
            let ack = rig.run(2, cmd, &id.to_le_bytes()).0;
            assert_eq!(ack == Ack::Ok, id < 4096, "{id}");
            if id < 4096 {
                assert_eq!(rig.device.settings().filter.vlans().unwrap().contains(id), on);
            }
        }
    }
    let rig = Rig::new(Features::all() - Features::CTRL_VLAN);
    assert_eq!(rig.device.settings().filter.vlans(), None, "no filter");
}

#[test]
fn n62_the_announcement_is_cleared_when_the_driver_has_seen_it() {
    let mut rig = Rig::new(Features::all());
    let status = |rig: &Rig| {
        let mut byte = [0];
        rig.device.config().read(6, &mut byte);
        byte[0]
    };
    assert!(rig.device.announce());
    assert_eq!(status(&rig), 3);
    assert_eq!(rig.run(3, 0, &[0]).0, Ack::Err, "has no data");
    assert_eq!(status(&rig), 3);
    assert_eq!(rig.run(3, 0, &[]).0, Ack::Ok);
    assert_eq!(status(&rig), 1);
}

/// A driver without a control queue here, or one whose front end keeps it, gets what it cannot ask for.
#[test]
fn n59_n60_groups_and_vlans_pass_until_there_is_a_control_queue() {
    let config = NetConfig::new(OWN);
    let mut device = NetDevice::new(&config, Features::SUPPORTED, Features::empty()).unwrap();
    device.acknowledge(device.offer().features).unwrap();
    let filter = &device.settings().filter;
    let mut frame = [0; 60];
    for dst in [OWN, GROUP, MacAddr::BROADCAST] {
        frame[..6].copy_from_slice(&dst.0);
        frame[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
        assert!(filter.accepts(&frame));
    }
}
