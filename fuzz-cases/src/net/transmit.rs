//! Transmit headers and frames: whatever is in them, what leaves is what is in memory, with a header that is true of it.

use net_filter::SpoofCheck;
use virtio_net_core::backend::{FrameSink, Taken, TxBurst};
use virtio_net_core::tx::TxPump;
use virtio_net_core::{Features, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader};
use virtio_ring::DriverRing;

use super::rig::{OWN, Rig, device, frame};
use crate::Tally;
use crate::input::Input;

/// Takes as much as it is told, and keeps it.
struct Wire {
    frames: Vec<(NetHeader, Vec<u8>)>,
    takes: usize,
    fails: usize,
}

impl FrameSink for Wire {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        let count = burst.len().min(self.takes);
        for frame in burst.iter().take(count) {
            let mut bytes = vec![0; frame.len()];
            assert_eq!(frame.copy_to(&mut bytes), frame.len());
            assert_eq!(frame.head(), &bytes[..frame.head().len()]);
            self.frames.push((frame.header, bytes));
        }
        Taken { count, failed: self.fails.min(count) }
    }
}

pub(crate) fn run(data: &[u8]) -> Tally {
    let mut input = Input::new(data);
    let mut rig = Rig::new(&mut input);
    let net = device(&mut input, 1);
    let (acked, header_len) = (net.acked(), net.acked().header_len());
    let mut pump = TxPump::new(rig.mem.clone(), net.tx_format());
    let mut filter = if input.u8() & 1 == 0 { SpoofCheck::off() } else { SpoofCheck::new(OWN) };
    let mut wire = Wire { frames: Vec::new(), takes: 64, fails: 0 };
    let (mut offered, mut chains) = (Vec::new(), 0_u64);
    for _ in 0..input.below(24) {
        let mut bytes = vec![0; header_len];
        // Flags, type, lengths and offsets, as the script has them.
        for byte in bytes.iter_mut().take(10) {
            *byte = if input.u8() & 3 == 0 { input.u8() } else { 0 };
        }
        bytes.extend(frame(&mut input));
        let cut = input.u8();
        if cut & 0xf0 == 0xf0 {
            bytes.truncate(usize::from(cut & 0xf) * 2);
        }
        let at = rig.place(bytes.len());
        rig.write(at, &bytes);
        let elements = Rig::cut(&mut input, at, bytes.len(), false);
        if rig.offer(&elements).is_some() {
            offered.push(bytes);
            chains += 1;
        }
    }
    let _ = rig.driver.flush();
    let before = rig.buffers();
    (wire.takes, wire.fails) = (input.below(65), input.below(3));
    for _ in 0..8 {
        pump.pump(&mut rig.device, &mut wire, &mut filter, 64).unwrap();
        wire.takes = 64;
    }
    assert!(before == rig.buffers(), "nothing of a transmit chain is written");
    let stats = *pump.stats();
    let rejected = stats.filtered + stats.bad_frames + stats.bad_chains;
    assert_eq!(stats.frames + stats.failed + rejected, chains, "every chain is one or the other");
    assert_eq!(stats.frames + stats.failed, wire.frames.len() as u64);
    let mut used = 0;
    while let Some(done) = rig.driver.poll_used().unwrap() {
        assert_eq!(done.len, 0);
        used += 1;
    }
    assert_eq!(used, chains);
    // In order, each whole and unchanged.
    let mut rest = offered.iter();
    for (header, bytes) in &wire.frames {
        assert!(
            rest.any(|one| one.get(header_len..) == Some(&bytes[..])),
            "a frame that was not sent, or out of order"
        );
        check(header, bytes, acked);
    }
    Tally { completed: wire.frames.len(), faulty: rejected as usize, ..Tally::default() }
}

/// What a host end may rely on.
fn check(header: &NetHeader, frame: &[u8], acked: Features) {
    let len = frame.len();
    assert!((14..=65_589).contains(&len));
    if header.flags & NEEDS_CSUM != 0 {
        assert!(acked.contains(Features::CSUM));
        assert!(usize::from(header.csum_start) + usize::from(header.csum_offset) + 2 <= len);
    }
    let needs = match header.gso_type & !GSO_ECN {
        GSO_NONE => return assert_eq!((header.gso_type, header.flags & !NEEDS_CSUM), (0, 0)),
        GSO_TCPV4 => Features::HOST_TSO4,
        GSO_TCPV6 => Features::HOST_TSO6,
        GSO_UDP => Features::HOST_UFO,
        GSO_UDP_L4 => Features::HOST_USO,
        other => panic!("type {other:#x}"),
    };
    // A frame to segment need not say that its checksum is partial: its headers are looked at then.
    assert!(
        acked.contains(needs) && header.flags & !NEEDS_CSUM == 0 && header.gso_size > 0,
        "{header:?} of {len} bytes"
    );
    assert!(header.gso_type & GSO_ECN == 0 || acked.contains(Features::HOST_ECN));
    assert!(usize::from(header.hdr_len) <= len);
}
