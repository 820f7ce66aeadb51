//! Host ends behind the pumps of a real device, with a driver at the other end.

#[path = "../../../tap-io/tests/common/mod.rs"]
mod guest;

use virtio_net_core::NetHeader;
use virtio_net_core::backend::HEAD_LEN;
use virtio_net_core::rx::RxStop;

use super::*;
use crate::capture;
use crate::capture::tests::read_back;
use guest::{Guest, pattern};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const MERGING: Features = Features::VERSION_1.union(Features::MRG_RXBUF);

/// A frame from 02::01 to `to`.
fn frame(to: [u8; 6], len: usize, seed: u8) -> Vec<u8> {
    let mut frame = pattern(len, seed);
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame
}

fn reflected(sent: &[u8]) -> Vec<u8> {
    [&sent[6..12], &sent[..6], &sent[12..]].concat()
}

fn started(kind: &NetKind) -> (HostEnd, HostQueue) {
    let mut host = HostEnd::open(kind, 1, MAC, None).unwrap();
    let queue = host.start(MERGING, 1).unwrap().remove(0);
    (host, queue)
}

#[test]
fn a_loopback_gives_every_frame_back_and_a_capture_sees_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.pcapng");
    let (sink, writer) = capture::start(&path).unwrap();
    let mut host = HostEnd::open(&NetKind::Loopback, 1, MAC, None).unwrap();
    host.capture_to(sink);
    let mut queue = host.start(MERGING, 1).unwrap().remove(0);
    let mut guest = Guest::new(256, MERGING);
    let lengths = [14, 60, 127, 128, 129, 1514, 2164, 2165, 9000, 65_589];
    let sent: Vec<_> = (0..).zip(lengths).map(|(i, len)| frame([2, 0, 0, 0, 0, 9], len, i)).collect();
    for bytes in &sent {
        assert!(guest.driver.send(&NetHeader::NONE, bytes).unwrap());
    }
    guest.pump_tx(&mut queue);
    let mut seen = 0;
    while seen < sent.len() {
        assert!(guest.pump_rx(&mut queue).frames > 0);
        while let Some((_, bytes)) = guest.driver.receive().unwrap() {
            assert!(bytes == reflected(&sent[seen]));
            seen += 1;
        }
    }
    host.stop(vec![queue]);
    drop(host);
    let (stats, result) = writer.finish();
    result.unwrap();
    assert_eq!((stats.written, stats.dropped), (20, 0));
    let found = read_back(&path);
    let (outbound, inbound): (Vec<_>, Vec<_>) = found.into_iter().partition(|frame| frame.0 == 2);
    assert!(outbound.iter().map(|f| &f.1).eq(&sent));
    assert!(inbound.iter().map(|f| f.1.clone()).eq(sent.iter().map(|s| reflected(s))));
}

#[test]
fn a_loopback_is_bounded() {
    let (_host, mut queue) = started(&NetKind::Loopback);
    let mut guest = Guest::new(256, MERGING);
    for _ in 0..10 {
        for i in 0..256 {
            let bytes = frame([0xff; 6], 60, i as u8);
            assert!(guest.driver.send(&NetHeader::NONE, &bytes).unwrap());
        }
        guest.pump_tx(&mut queue);
    }
    assert_eq!((guest.tx_pump.stats().frames, guest.tx_pump.stats().failed), (1024, 1536));
    let mut seen = 0;
    while guest.pump_rx(&mut queue).frames > 0 {
        while let Some((_, bytes)) = guest.driver.receive().unwrap() {
            assert_eq!(bytes[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe], "no group as a source");
            seen += 1;
        }
    }
    assert_eq!(seen, 1024);
    // A ring that is switched off and on again starts with nothing.
    assert!(guest.driver.send(&NetHeader::NONE, &frame([0xff; 6], 60, 0)).unwrap());
    guest.pump_tx(&mut queue);
    queue.set_active(false).unwrap();
    queue.set_active(true).unwrap();
    assert_eq!(guest.pump_rx(&mut queue).frames, 0);
}

#[test]
fn null_takes_all_and_gives_nothing() {
    let (host, mut queue) = started(&NetKind::Null);
    assert!(host.features().contains(Features::HOST_TSO4 | Features::CSUM));
    let mut guest = Guest::new(256, MERGING);
    for i in 0..200 {
        assert!(guest.driver.send(&NetHeader::NONE, &frame([0xff; 6], 60, i)).unwrap());
    }
    guest.pump_tx(&mut queue);
    assert_eq!((guest.tx_pump.stats().frames, guest.pump_rx(&mut queue).frames), (200, 0));
}

#[test]
fn a_sink_copies_what_it_takes() {
    let mut sink = SinkQueue::new();
    let mut guest = Guest::new(256, MERGING);
    // More frames than there are buffers.
    for (i, len) in [14, 60, 128, 129, 576, 1514, 2304].into_iter().cycle().take(300).enumerate() {
        let bytes = frame([0xff; 6], len, i as u8);
        assert!(guest.driver.send(&NetHeader::NONE, &bytes).unwrap());
        guest.pump_tx(&mut sink);
        let rest = bytes.get(HEAD_LEN..).unwrap_or_default();
        assert!(rest.is_empty() || sink.last()[..rest.len()] == *rest, "frame {i} of {len} bytes");
    }
    // What is longer than a buffer comes around, to the last byte.
    let bytes = frame([0xff; 6], 65_589, 7);
    assert!(guest.driver.send(&NetHeader::NONE, &bytes).unwrap());
    guest.pump_tx(&mut sink);
    let begin = HEAD_LEN + (bytes.len() - HEAD_LEN) / slots::SLOT * slots::SLOT;
    assert_eq!(sink.last()[..bytes.len() - begin], bytes[begin..]);
    assert_eq!((guest.tx_pump.stats().frames, guest.tx_pump.stats().failed), (301, 0));
    assert_eq!(guest.pump_rx(&mut sink).frames, 0);
}

#[test]
fn a_source_fills_every_buffer_and_then_waits() {
    let kinds = [FrameSize::Bytes(64), FrameSize::Bytes(1500), FrameSize::Mix];
    for (size, lengths) in kinds.into_iter().zip([&[64][..], &[1500], &[64, 576, 1500]]) {
        let (_host, mut queue) = started(&NetKind::Source(size));
        assert!(queue.poll_fd().is_none() && queue.next_wake().is_none(), "nothing but buffers wakes a source");
        let mut guest = Guest::new(256, MERGING);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let outcome = guest.pump_rx(&mut queue);
            assert_eq!((outcome.frames, outcome.stop), (256, RxStop::NoBuffers));
            assert_eq!(guest.pump_rx(&mut queue).stop, RxStop::NoBuffers, "until the guest posts buffers");
            while let Some((header, bytes)) = guest.driver.receive().unwrap() {
                assert_eq!((header.flags, &bytes[..6], &bytes[12..14]), (0, &MAC.0[..], &[8, 0][..]));
                let said = u16::from_be_bytes([bytes[16], bytes[17]]);
                assert_eq!(usize::from(said) + 14, bytes.len(), "the length in the IP header");
                seen.insert(bytes.len());
            }
        }
        assert!(seen.iter().eq(lengths), "{seen:?}");
        // It takes what the guest sends.
        assert!(guest.driver.send(&NetHeader::NONE, &frame([0xff; 6], 60, 1)).unwrap());
        guest.pump_tx(&mut queue);
        assert_eq!((guest.tx_pump.stats().frames, guest.tx_pump.stats().failed), (1, 0));
    }
}

#[test]
fn the_embedded_network_answers_an_arp_request() {
    let (_host, mut queue) = started(&NetKind::User);
    let mut guest = Guest::new(256, MERGING);
    let mac = [2, 0, 0, 0, 0, 1];
    // Ethernet, IPv4, a request, from 10.0.2.15 for 10.0.2.2.
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let body = [&head[..], &mac, &[10, 0, 2, 15], &[0; 6], &[10, 0, 2, 2]].concat();
    let request = [&[0xff; 6][..], &mac, &[8, 6], &body, &[0; 18]].concat();
    assert!(guest.driver.send(&NetHeader::NONE, &request).unwrap());
    guest.pump_tx(&mut queue);
    let mut answered = false;
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !answered {
        assert!(std::time::Instant::now() < deadline);
        guest.pump_rx(&mut queue);
        while let Some((_, bytes)) = guest.driver.receive().unwrap() {
            answered |= bytes[..6] == mac && bytes[12..14] == [8, 6] && bytes[28..32] == [10, 0, 2, 2];
        }
    }
}
