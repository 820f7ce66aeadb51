//! The device outside of its rings: negotiation, queue numbers, filters.
#![expect(clippy::unwrap_used, reason = "a test")]

use virtio_net_core::features::WithheldReason;
use virtio_net_core::rx::RxFilter;
use virtio_net_core::tx::TxFilter;
use virtio_net_core::{Duplex, Features, NetConfig, NetDevice, QueueRole, rx_format, tx_format};

use net_filter::{MacAddr, ReceiveFilter, SpoofCheck};

const OWN: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

fn device(pairs: u16) -> NetDevice {
    let config = NetConfig { pairs, ..NetConfig::new(OWN) };
    NetDevice::new(&config, Features::SUPPORTED, Features::BACK_END).unwrap()
}

#[test]
fn g3_what_the_configuration_has_no_value_for_is_not_offered() {
    let plain = device(1);
    let config = NetConfig::new(OWN);
    let absent = Features::MTU | Features::SPEED_DUPLEX | Features::MQ | Features::RSS | Features::RSS_CONTEXT;
    assert_eq!(plain.offer().features, Features::SUPPORTED - absent);
    for withheld in &plain.offer().withheld {
        assert!(absent.contains(withheld.feature), "{withheld}");
        let derived = withheld.feature == Features::RSS_CONTEXT;
        assert_eq!(matches!(withheld.reason, WithheldReason::Needs(_)), derived, "{withheld}");
    }
    let table = [
        (NetConfig { mtu: Some(1500), ..config }, Features::MTU),
        (NetConfig { speed: Some(1000), ..config }, Features::SPEED_DUPLEX),
        (NetConfig { duplex: Duplex::Full, ..config }, Features::SPEED_DUPLEX),
        (NetConfig { pairs: 2, ..config }, Features::MQ | Features::RSS | Features::RSS_CONTEXT),
    ];
    for (config, more) in table {
        let device = NetDevice::new(&config, Features::SUPPORTED, Features::BACK_END).unwrap();
        assert_eq!(device.offer().features, plain.offer().features | more);
    }
}

#[test]
fn g4_g5_a_refused_set_changes_nothing_and_a_good_one_can_be_given_again() {
    let mut device = device(2);
    let good = Features::VERSION_1 | Features::CSUM | Features::HOST_TSO4;
    for _ in 0..2 {
        assert!(device.acknowledge(good | Features::HOST_ECN | Features::STANDBY).is_err());
        assert!(device.acknowledge(good - Features::CSUM).is_err());
        assert_eq!(device.acked(), Features::empty());
        device.acknowledge(good).unwrap();
        assert_eq!(device.acked(), good);
        assert_eq!((device.rx_format(), device.tx_format()), (rx_format(good), tx_format(good)));
        device.reset();
        assert_eq!(device.acked(), Features::empty());
    }
}

#[test]
fn queues_are_numbered_by_what_was_acknowledged() {
    let none = Features::VERSION_1;
    let ctrl = none | Features::CTRL_VQ;
    let mq = ctrl | Features::MQ;
    let rss = ctrl | Features::RSS;
    for pairs in [1_u16, 2, 3, 0x8000] {
        let device = device(pairs);
        let pairs = u32::from(pairs);
        for (acked, used, has_ctrl) in [(none, 1, false), (ctrl, 1, true), (mq, pairs, true), (rss, pairs, true)] {
            assert_eq!(device.queues(acked), 2 * used + u32::from(has_ctrl));
            for index in (0..70_000).chain([u32::MAX - 1, u32::MAX]) {
                let expected = match index {
                    i if i >= 2 * used => (i == 2 * used && has_ctrl).then_some(QueueRole::Ctrl),
                    i if i % 2 == 0 => Some(QueueRole::Rx((i / 2) as u16)),
                    i => Some(QueueRole::Tx((i / 2) as u16)),
                };
                assert_eq!(device.queue_role(index, acked), expected, "{index} of {pairs} pairs with {acked}");
            }
        }
    }
}

#[test]
fn the_filters_fit_the_pumps() {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&OWN.0);
    let (mut mac, mut spoof) = (ReceiveFilter::for_station(OWN), SpoofCheck::new(OWN));
    let (rx, tx): (&mut dyn RxFilter, &mut dyn TxFilter) = (&mut mac, &mut spoof);
    assert!(rx.accepts(&frame) && !tx.permits(&frame));
    frame.rotate_right(6);
    assert!(!rx.accepts(&frame) && tx.permits(&frame));
    assert_eq!(spoof.stats().foreign, 1);
}

fn suspendable() -> NetDevice {
    let mut device = device(1);
    device.acknowledge(device.offer().features).unwrap();
    device
}

fn status(device: &NetDevice) -> u8 {
    let mut byte = [0];
    device.config().read(6, &mut byte);
    byte[0]
}

#[test]
fn g15_g16_what_changes_while_the_device_is_suspended_is_shown_and_notified_when_it_resumes() {
    let mut device = suspendable();
    assert!(device.suspend() && device.is_suspended());
    for up in [false, true, false] {
        assert!(!device.set_link(up), "no notification");
        assert_eq!(status(&device), 1, "no change");
    }
    assert!(!device.announce());
    assert_eq!(status(&device), 1);
    assert!(device.resume(), "now there is one");
    assert_eq!(status(&device), 2, "link down, to be announced");
    assert!(!device.is_suspended() && !device.resume(), "and only one");
    // Nothing happened, or nothing that is another state than before.
    assert!(device.suspend() && !device.resume());
    assert!(device.suspend() && !device.set_link(true) && !device.set_link(false) && !device.resume());
}

#[test]
fn g15_a_suspended_device_ignores_writes_to_its_config_space() {
    let mut device = device(1);
    // A legacy driver may write the address; one with `SUSPEND` and without `VERSION_1` is none that there is.
    device.acknowledge(Features::SUSPEND | Features::MAC).unwrap();
    assert!(device.suspend());
    device.write_config(0, &[2, 2, 2, 2, 2, 2]).unwrap();
    let mut mac = [0; 6];
    device.config().read(0, &mut mac);
    assert_eq!(mac, OWN.0);
    device.resume();
    device.write_config(0, &[2, 2, 2, 2, 2, 2]).unwrap();
    device.config().read(0, &mut mac);
    assert_eq!(mac, [2; 6]);
}

#[test]
fn g14_only_a_driver_that_acknowledged_it_suspends_and_a_reset_ends_it() {
    let mut device = device(1);
    assert!(!device.suspend(), "before there is a driver");
    device.acknowledge(device.offer().features - Features::SUSPEND).unwrap();
    assert!(!device.suspend() && !device.is_suspended());
    let mut device = suspendable();
    assert!(device.suspend());
    device.reset();
    assert!(!device.is_suspended());
}
