//! Every command of the control queue: what is accepted, what is refused, and what is in force then.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test")]

mod queues;
mod receive;
mod rig;
mod stats;

use rig::Rig;
use virtio_net_core::Features;
use virtio_net_core::ctrl::Ack;

/// Every class with its commands, a payload that is accepted, and what it needs.
fn known() -> Vec<(u8, u8, Vec<u8>, Features)> {
    let rss = rig::rss(&[0, 1, 2, 3], 0, 4);
    let context = |id: u8| [&[id, 0, 9, 9, 9, 9, 9, 9][..], &rss].concat();
    vec![
        (0, 0, vec![1], Features::CTRL_RX),
        (0, 1, vec![0], Features::CTRL_RX),
        (0, 2, vec![1], Features::CTRL_RX_EXTRA),
        (0, 3, vec![1], Features::CTRL_RX_EXTRA),
        (0, 4, vec![1], Features::CTRL_RX_EXTRA),
        (0, 5, vec![1], Features::CTRL_RX_EXTRA),
        (1, 0, vec![0; 8], Features::CTRL_RX),
        (1, 1, vec![2, 0, 0, 0, 0, 9], Features::CTRL_MAC_ADDR | Features::CTRL_RX),
        (2, 0, vec![5, 0], Features::CTRL_VLAN),
        (2, 1, vec![5, 0], Features::CTRL_VLAN),
        (3, 0, vec![], Features::GUEST_ANNOUNCE),
        (4, 0, vec![2, 0], Features::MQ),
        (4, 1, rss.clone(), Features::RSS),
        (4, 2, vec![0; 13], Features::HASH_REPORT),
        (5, 0, vec![0; 8], Features::CTRL_GUEST_OFFLOADS),
        (6, 0, vec![1, 0, 0, 0, 1, 0, 0, 0], Features::NOTF_COAL),
        (6, 1, vec![1, 0, 0, 0, 1, 0, 0, 0], Features::NOTF_COAL),
        (6, 2, vec![1, 0, 9, 9, 1, 0, 0, 0, 1, 0, 0, 0], Features::VQ_NOTF_COAL),
        (6, 3, vec![1, 0, 9, 9], Features::VQ_NOTF_COAL),
        (7, 0, vec![0xff, 1, 0, 0], Features::HASH_TUNNEL),
        (8, 0, vec![], Features::DEVICE_STATS),
        (8, 1, vec![0, 0, 9, 9, 9, 9, 9, 9, 1, 0, 0, 0, 0, 0, 0, 0], Features::DEVICE_STATS),
        (9, 0, vec![], Features::RSS_CONTEXT),
        (9, 1, context(1), Features::RSS_CONTEXT),
        (9, 2, context(1), Features::RSS_CONTEXT),
        (9, 3, vec![1, 0], Features::RSS_CONTEXT),
    ]
}

#[test]
fn every_known_command_is_carried_out_and_every_other_refused() {
    let mut rig = Rig::new(Features::all());
    let known = known();
    for (class, cmd, data, _) in &known {
        assert_eq!(rig.run(*class, *cmd, data).0, Ack::Ok, "{class} {cmd}");
    }
    for class in 0..=u8::MAX {
        for cmd in 0..=u8::MAX {
            if !known.iter().any(|(c, n, _, _)| (*c, *n) == (class, cmd)) {
                for data in [&[][..], &[0], &[1, 0], &[0; 8], &[0; 13], &[0; 64]] {
                    assert_eq!(rig.run(class, cmd, data).0, Ack::Err, "{class} {cmd} {data:?}");
                }
            }
        }
    }
}

/// Virtio 1.4, 5.1.6.5: a driver must not send commands of features that it did not acknowledge.
#[test]
fn a_command_of_a_feature_that_was_not_acknowledged_is_refused() {
    for (class, cmd, data, needs) in known() {
        for without in [needs, Features::RSS_CONTEXT | needs] {
            let rest = Features::all() - without;
            // What hangs on them goes as well.
            let mut rig = Rig::new(rest);
            assert_eq!(rig.run(class, cmd, &data).0, Ack::Err, "{class} {cmd} without {without}");
        }
    }
}

/// VirtualBox CVE-2023-22098, OpenBSD vmd 0759b25: data of any other length.
#[test]
fn a_payload_of_another_length_is_refused_and_changes_nothing() {
    for (class, cmd, data, _) in known() {
        let mut rig = Rig::new(Features::all());
        let before = rig.device.settings();
        let several = (class, cmd) == (8, 1);
        for len in (0..data.len() + 20).filter(|n| *n != data.len() && !(several && n % 16 == 0 && *n > 0)) {
            let mut other = data.clone();
            other.resize(len, 0);
            assert_eq!(rig.run(class, cmd, &other), (Ack::Err, vec![]), "{class} {cmd} of {len} bytes");
            assert_eq!(rig.device.settings(), before, "{class} {cmd} of {len} bytes");
        }
        let mut huge = data.clone();
        huge.resize((1 << 20) + 1, 0);
        assert_eq!(rig.run(class, cmd, &huge).0, Ack::Err, "{class} {cmd} of a megabyte");
        assert_eq!(rig.device.settings(), before);
    }
}

#[test]
fn n56_n63_n71_n73_n81_a_reset_forgets_everything() {
    let mut rig = Rig::new(Features::all());
    let initial = rig.device.settings();
    let config = |rig: &Rig| {
        let mut bytes = [0; 28];
        rig.device.config().read(0, &mut bytes);
        bytes
    };
    let before = config(&rig);
    for (class, cmd, data, _) in known() {
        if (class, cmd) != (9, 3) {
            rig.run(class, cmd, &data);
        }
    }
    assert_ne!(rig.device.settings(), initial);
    assert_ne!(config(&rig), before, "the address");
    rig.device.reset();
    assert_eq!(config(&rig), before);
    rig.negotiate(Features::all());
    assert_eq!(rig.device.settings(), initial);
    assert_eq!((initial.pairs, initial.filter.addresses()), (1, vec![]));
    assert_eq!(initial.coalescing, virtio_net_core::coalesce::Coalescing::new(4));
    assert!(initial.steering.contexts.is_empty() && initial.steering.tunnels().is_empty());
}
