//! Frames to the guest, into buffers of any sizes: whole, in as few buffers as they take, and nothing beside them.

use std::convert::Infallible;

use net_filter::ReceiveFilter;
use virtio_net_core::backend::{FrameSource, HEAD_LEN, Placed, RxRoom, Supply};
use virtio_net_core::rx::{RxFilter, RxPump};
use virtio_net_core::{DATA_VALID, GSO_NONE, NEEDS_CSUM, NetHeader};
use virtio_ring::{DriverRing, GuestSlice};

use super::rig::{OWN, Rig, device, frame};
use crate::Tally;
use crate::input::Input;

const CANARY: u8 = 0xa5;

/// Offers its frames, one way or the other.
struct Wire {
    frames: Vec<(NetHeader, Vec<u8>, bool)>,
    next: usize,
    placed: Vec<Placed>,
}

impl FrameSource for Wire {
    type Error = Infallible;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        while let Some((header, bytes, read)) = self.frames.get(self.next) {
            let placed = if *read {
                // As a tap: what does not fit is cut off.
                let read = |to: &mut [u8; 12], head: &mut [u8; HEAD_LEN], rest: &[GuestSlice<'_>]| {
                    *to = header.to_bytes(0);
                    let n = bytes.len().min(HEAD_LEN);
                    head[..n].copy_from_slice(&bytes[..n]);
                    let mut left = &bytes[n..];
                    for seg in rest {
                        left = &left[seg.write(left)..];
                    }
                    Ok::<_, Infallible>(Some(bytes.len()))
                };
                room.read_with(read).unwrap().unwrap()
            } else {
                room.put(header, bytes)
            };
            if placed == Placed::NoRoom {
                return Ok(Supply::More);
            }
            self.placed.push(placed);
            self.next += 1;
        }
        Ok(Supply::Dry)
    }
}

pub(crate) fn run(data: &[u8]) -> Tally {
    let mut input = Input::new(data);
    let mut rig = Rig::new(&mut input);
    let net = device(&mut input, 1);
    let format = net.rx_format();
    let mut pump = RxPump::new(rig.mem.clone(), 64, format);
    let mut buffers = std::collections::BTreeMap::new();
    for _ in 0..input.below(64) {
        let len = [1, 11, 12, 20, 64, 200, 600, 1600, 4000, 0][input.below(10)];
        let at = rig.place(len);
        rig.write(at, &vec![CANARY; len + 32]);
        let elements = Rig::cut(&mut input, at, len, true);
        if let Some(id) = rig.offer(&elements) {
            buffers.insert(id, (at, len));
        }
    }
    let _ = rig.driver.flush();
    let mut wire = Wire { frames: Vec::new(), next: 0, placed: Vec::new() };
    for _ in 0..input.below(24) {
        let flags = input.u8();
        let mut header = NetHeader::NONE;
        if flags & 1 == 1 {
            header = NetHeader {
                flags: input.u8() & 7,
                gso_type: input.u8() & 0x87,
                hdr_len: input.u16(),
                gso_size: input.u16(),
                csum_start: input.u16() & 0xff,
                csum_offset: input.u16() & 0x1f,
            };
        }
        wire.frames.push((header, frame(&mut input), flags & 2 == 2));
    }
    let mut filter = ReceiveFilter::for_station(OWN);
    for _ in 0..4 {
        let outcome = pump.pump(&mut rig.device, &mut wire, &mut filter, 64).unwrap();
        assert!(outcome.error.is_none());
    }
    // What came back, in the order in which it was used.
    let mut used = Vec::new();
    while let Some(done) = rig.driver.poll_used().unwrap() {
        let (at, len) = buffers.remove(&done.handle.0).unwrap();
        assert!(done.len as usize <= len);
        let bytes = rig.read(at, len + 32);
        if done.len == 0 {
            continue;
        }
        assert!(bytes[len..].iter().all(|b| *b == CANARY), "behind a buffer");
        used.push((bytes, done.len as usize, len));
    }
    let mut used = used.into_iter();
    let delivered = wire.placed.iter().zip(&wire.frames).filter(|(placed, _)| **placed == Placed::Delivered);
    let mut count = 0;
    for (_, (header, frame, _)) in delivered {
        count += 1;
        check(&mut used, header, frame, &format);
    }
    assert!(used.next().is_none(), "bytes that nobody sent");
    let stats = pump.stats();
    assert_eq!(stats.frames, count);
    assert_eq!(stats.filtered, wire.placed.iter().filter(|p| **p == Placed::Filtered).count() as u64);
    Tally {
        completed: count as usize,
        faulty: stats.bad_chains as usize,
        refused: stats.dropped as usize,
        ..Tally::default()
    }
}

/// One frame in its buffers.
fn check(
    used: &mut impl Iterator<Item = (Vec<u8>, usize, usize)>,
    given: &NetHeader,
    frame: &[u8],
    format: &virtio_net_core::rx::RxFormat,
) {
    let total = format.header_len + frame.len();
    let (mut bytes, mut count) = (Vec::new(), 0_u16);
    while bytes.len() < total {
        let (buffer, written, len) = used.next().expect("buffers for the whole frame");
        count += 1;
        bytes.extend_from_slice(&buffer[..written]);
        assert!(bytes.len() == total || written == len, "every buffer but the last is full");
    }
    assert_eq!(bytes.len(), total);
    assert!(count == 1 || format.mergeable);
    let header =
        NetHeader::from_bytes(bytes[..10].iter().copied().chain([0, 0]).collect::<Vec<_>>()[..].try_into().unwrap());
    if format.header_len >= 12 {
        assert_eq!(u16::from_le_bytes([bytes[10], bytes[11]]), count, "num_buffers");
        assert!(bytes[12..format.header_len].iter().all(|b| *b == 0), "no hash");
    }
    assert_eq!(header.flags & !format.flags, 0, "flags that the driver takes");
    if header.gso_type != GSO_NONE {
        assert!(header.flags & NEEDS_CSUM != 0 && header.gso_size != 0);
        assert_ne!(format.gso_types >> (header.gso_type & 7) & 1, 0);
    }
    let seen = &bytes[format.header_len..];
    let completed = given.flags & NEEDS_CSUM != 0 && header.flags & NEEDS_CSUM == 0;
    if completed {
        let at = usize::from(given.csum_start) + usize::from(given.csum_offset);
        assert_eq!(
            (&seen[..at], &seen[at + 2..]),
            (&frame[..at], &frame[at + 2..]),
            "only the checksum is another one"
        );
    } else {
        assert_eq!(seen, frame);
    }
    assert!(header.flags & DATA_VALID == 0 || given.flags & DATA_VALID != 0, "nobody but the host end says so");
}
