//! Files are read back with another implementation of the format.

use std::collections::HashSet;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use virtio_net_core::{GSO_TCPV4, NEEDS_CSUM};

use super::*;

pub(crate) type Read = (u32, Vec<u8>, Option<String>, Duration);

/// Direction flags, bytes, comment, time of each frame in the file.
pub(crate) fn read_back(path: &Path) -> Vec<Read> {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut found = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                assert_eq!(interface.linktype, pcap_file::DataLink::ETHERNET);
                assert!(interface.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
            }
            Block::EnhancedPacket(packet) => {
                assert_eq!(packet.original_len as usize, packet.data.len());
                let flags = packet.options.iter().find_map(|o| match o {
                    EnhancedPacketOption::Flags(flags) => Some(*flags),
                    _ => None,
                });
                let comment = packet.options.iter().find_map(|o| match o {
                    EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                    _ => None,
                });
                found.push((flags.unwrap(), packet.data.to_vec(), comment, packet.timestamp));
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

fn guests() -> Vec<String> {
    ["first", "second"].map(str::to_owned).into()
}

#[test]
fn each_guest_is_an_interface() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pcapng");
    let (capture, writer) = start(&path, &guests()).unwrap();
    for guest in [1, 0, 1] {
        let capture = capture.of_guest(guest);
        assert!(capture.reserve(60));
        capture.hand_in(Direction::Inbound, &NetHeader::NONE, vec![guest as u8; 60]);
    }
    writer.finish().1.unwrap();
    let mut reader = PcapNgReader::new(File::open(&path).unwrap()).unwrap();
    let mut seen = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            seen.push((packet.interface_id, packet.data[0]));
        }
    }
    let names = |interface: &InterfaceDescriptionOption<'_>| match interface {
        InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
        _ => None,
    };
    let named: Vec<String> = reader.interfaces().iter().flat_map(|i| i.options.iter().filter_map(names)).collect();
    assert_eq!((named, seen), (guests(), vec![(1, 1), (0, 0), (1, 1)]));
}

#[test]
fn what_was_captured_can_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pcapng");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (capture, writer) = start(&path, &guests()).unwrap();
    let tso = NetHeader { flags: NEEDS_CSUM, gso_type: GSO_TCPV4, gso_size: 1448, ..NetHeader::NONE };
    let partial = NetHeader { flags: NEEDS_CSUM, ..NetHeader::NONE };
    let rows = [
        (Direction::Outbound, NetHeader::NONE, 60, None),
        (Direction::Inbound, partial, 61, Some("checksum left to the receiver")),
        (Direction::Outbound, tso, 65_000, Some("to be segmented: TCP over IPv4, 1448 bytes of payload each")),
        (Direction::Inbound, NetHeader::NONE, 0, None),
    ];
    let bytes = |len: usize| (0..len).map(|i| i as u8).collect::<Vec<_>>();
    for (direction, header, len, _) in &rows {
        assert!(capture.reserve(*len));
        capture.hand_in(*direction, header, bytes(*len));
    }
    let (stats, result) = writer.finish();
    result.unwrap();
    assert_eq!(stats, CaptureStats { written: 4, dropped: 0 });
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let found = read_back(&path);
    assert_eq!(found.len(), rows.len());
    for ((direction, _, len, comment), (flags, data, text, time)) in rows.iter().zip(found) {
        assert_eq!(flags, *direction as u32);
        assert!(data == bytes(*len));
        assert_eq!(text.as_deref(), *comment);
        assert!(before <= time && time <= after, "{before:?} {time:?} {after:?}");
    }
}

#[test]
fn a_file_is_readable_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pcapng");
    let (capture, _writer) = start(&path, &guests()).unwrap();
    assert!(read_back(&path).is_empty());
    assert!(capture.reserve(60));
    capture.hand_in(Direction::Inbound, &NetHeader::NONE, vec![7; 60]);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while read_back(&path).is_empty() {
        assert!(std::time::Instant::now() < deadline, "never flushed");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_disk_that_takes_nothing_costs_frames_and_nothing_else() {
    // Every write to it fails; so does the header, which is when the operator hears of it.
    assert!(start(Path::new("/dev/full"), &guests()).is_err());
    // A pipe that nobody reads takes 64 KB and then blocks its writer for good.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let (capture, writer) = start(&path, &guests()).unwrap();
    let mut ids = HashSet::new();
    for id in 0..100_000_u32 {
        if capture.reserve(1500) {
            ids.insert(id);
            capture.hand_in(Direction::Outbound, &NetHeader::NONE, vec![0; 1500]);
        }
    }
    let stats = capture.stats();
    assert!(stats.dropped > 70_000, "{stats:?}");
    assert!(stats.written < 1000, "{stats:?}");
    assert!(capture.shared.waiting.load(Ordering::Relaxed) <= MAX_BYTES);
    // The thread is stuck in its write; the reader's end lets it go, with an error.
    drop(reader);
    let (_, result) = writer.finish();
    assert!(result.is_err());
}

#[test]
fn a_path_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(start(&folder.path().join("none/a.pcapng"), &guests()).is_err());
    assert!(start(folder.path(), &guests()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
