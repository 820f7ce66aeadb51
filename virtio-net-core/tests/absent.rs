//! What this device does not offer: a test for each row of requirements that come with it. Once one of these is offered, its
//! rows have to be shown.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

use std::path::{Path, PathBuf};

use net_filter::MacAddr;
use virtio_net_core::{Features, NetConfig, NetDevice, QueueRole};

const EVERYTHING: Features = Features::from_bits_retain(u128::MAX);

fn bit(n: u32) -> Features {
    Features::from_bits_retain(1 << n)
}

/// A device that wants to offer everything, with a back end that can do everything.
fn device() -> NetDevice {
    let config = NetConfig { pairs: 3, mtu: Some(1500), speed: Some(1000), ..NetConfig::new(MacAddr([2; 6])) };
    NetDevice::new(&config, EVERYTHING, EVERYTHING).unwrap()
}

/// Flow filters have no feature bit: they are capabilities and objects of the administration queue (virtio 1.4, 2.13), which
/// has one, and a number behind the device's own queues.
#[test]
fn f1_to_f19_there_is_no_administration_queue() {
    let mut device = device();
    let offered = device.offer().features;
    assert!(!offered.intersects(bit(41)), "ADMIN_VQ");
    assert!(device.acknowledge(offered | bit(41)).is_err());
    for acked in [offered, offered | bit(41), EVERYTHING] {
        assert_eq!(device.queues(acked), 7, "three pairs and the control queue");
        for index in (0..=u32::from(u16::MAX)).chain([u32::MAX]) {
            let wanted = match index {
                0..6 if index % 2 == 0 => Some(QueueRole::Rx(index as u16 / 2)),
                0..6 => Some(QueueRole::Tx(index as u16 / 2)),
                6 => Some(QueueRole::Ctrl),
                _ => None,
            };
            assert_eq!(device.queue_role(index, acked), wanted, "queue {index}");
        }
    }
}

#[test]
fn i1_to_i9_there_is_no_ipsec() {
    let mut device = device();
    let offered = device.offer().features;
    assert!(!offered.intersects(Features::IPSEC | Features::OUT_NET_HEADER));
    for lost in [Features::IPSEC, Features::IPSEC | Features::OUT_NET_HEADER] {
        assert!(device.acknowledge(offered | lost).is_err(), "{lost}");
    }
    device.acknowledge(offered).unwrap();
    // No header has room for `resource_id` and `resource_type`.
    assert!(device.rx_format().header_len <= 20 && device.tx_format().header_len <= 20);
}

#[test]
fn g13_no_functions_of_a_pci_device() {
    assert!(!device().offer().features.intersects(bit(37)), "SR_IOV");
}

/// Files of a folder and those below it.
fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

/// No member of the workspace is a transport over MMIO, by its name or by the number that such a device begins with.
#[test]
fn t1_to_t6_there_is_no_transport_over_mmio() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Ok(manifest) = std::fs::read_to_string(root.join("Cargo.toml")) else {
        println!("skipped: this crate is not in its workspace");
        return;
    };
    let list = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let members: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&"virtio-net-core"), "{members:?}");
    let mut files = Vec::new();
    for member in members {
        assert!(!member.contains("mmio"), "{member}: its rows, T1 to T6, have to be shown");
        sources(&root.join(member).join("src"), &mut files);
    }
    assert!(files.len() > 100, "{} files", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap().replace('_', "").to_lowercase();
        assert!(!text.contains("0x74726976"), "{}: the rows T1 to T6 have to be shown", file.display());
    }
}
