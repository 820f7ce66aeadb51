//! Frames there and back.

use super::super::frames;
use super::super::guest::plus;
use super::super::outcome::{Check, Stop, want};
use super::super::ring::{Piece, Used};
use super::{CANARY, Plug};
use std::time::{Duration, Instant};
use virtio_net_core::Features;

const RX: usize = 0;
const TX: usize = 1;

/// A frame that came, and the buffers that it came in.
#[derive(Clone, Debug)]
pub(in super::super) struct Packet {
    pub(in super::super) header: Vec<u8>,
    pub(in super::super) frame: Vec<u8>,
    /// What was written to each buffer, as reported, and what it has room for.
    pub(in super::super) buffers: Vec<(u32, u32)>,
}

impl Packet {
    pub(in super::super) fn parsed(&self) -> frames::Header {
        frames::Header::parse(&self.header)
    }
}

impl Plug<'_> {
    /// Sends a frame whose header and data are one buffer; what the device side reports to have written.
    pub(in super::super) fn send(&mut self, header: &frames::Header, frame: &[u8]) -> Check<u32> {
        self.send_cut(header, frame, &[])
    }

    /// The same in buffers of these lengths, and one for the rest.
    pub(in super::super) fn send_cut(
        &mut self,
        header: &frames::Header,
        frame: &[u8],
        lengths: &[usize],
    ) -> Check<u32> {
        let bytes = [&header.bytes(self.header_len()), frame].concat();
        let pieces = self.cut(&bytes, lengths)?;
        self.send_pieces(&pieces)
    }

    /// The same in a chain that is there already. Waits until it is used.
    pub(in super::super) fn send_pieces(&mut self, pieces: &[Piece]) -> Check<u32> {
        let id = self.post(TX, pieces)?;
        let used = self.used(TX)?;
        want!(used.id == id, "buffer {id} was sent, and {} is used", used.id);
        Ok(used.len)
    }

    /// Gives one receive buffer of these pieces.
    pub(in super::super) fn give(&mut self, lengths: &[usize]) -> Check {
        self.give_to(RX, lengths)
    }

    /// The same for another ring.
    pub(in super::super) fn give_to(&mut self, ring: usize, lengths: &[usize]) -> Check {
        let pieces = self.room(lengths)?;
        self.give_pieces(ring, &pieces, &pieces)
    }

    /// Buffers to write to.
    pub(in super::super) fn room(&mut self, lengths: &[usize]) -> Check<Vec<Piece>> {
        let each = lengths.iter().map(|len| Ok(Piece::writable(self.buffer(*len)?, *len as u32)));
        each.collect()
    }

    /// A chain that is there already, which leads to these buffers.
    pub(in super::super) fn give_pieces(&mut self, ring: usize, chain: &[Piece], buffers: &[Piece]) -> Check {
        let id = self.post(ring, chain)?;
        self.given.insert((ring, id), buffers.to_vec());
        Ok(())
    }

    /// The next frame of ours, if one comes in time.
    pub(in super::super) fn receive(&mut self, limit: Duration) -> Check<Option<Packet>> {
        self.receive_at(RX, limit)
    }

    /// The same at another ring.
    pub(in super::super) fn receive_at(&mut self, ring: usize, limit: Duration) -> Check<Option<Packet>> {
        let begin = Instant::now();
        loop {
            let mut first = None;
            let left = limit.saturating_sub(begin.elapsed());
            self.until(left, |plug| {
                first = plug.look(ring)?;
                Ok(first.is_some())
            })?;
            let Some(first) = first else { return Ok(None) };
            let packet = self.gather(ring, first)?;
            if frames::is_ours(&packet.frame) {
                return Ok(Some(packet));
            }
        }
    }

    /// The whole frame that begins in this buffer. What else belongs to it must be there by now (N26).
    fn gather(&mut self, ring: usize, first: Used) -> Check<Packet> {
        let header_len = self.header_len();
        let mut buffers = Vec::new();
        let mut bytes = self.take_used(ring, first, &mut buffers)?;
        want!(bytes.len() >= header_len, "the first buffer of a frame has {} bytes, no header", bytes.len());
        let count = frames::Header::parse(&bytes).num_buffers;
        if self.setup.features.contains(Features::MRG_RXBUF) {
            want!(count > 0, "num_buffers is 0");
        } else {
            want!(count == 1, "num_buffers is {count} without mergeable buffers, expected 1");
        }
        for n in 1..count {
            let Some(used) = self.look(ring)? else {
                return Err(Stop::Fail(format!("{n} buffers of {count} are visible, the others not yet")));
            };
            bytes.extend(self.take_used(ring, used, &mut buffers)?);
        }
        let frame = bytes.split_off(header_len);
        Ok(Packet { header: bytes, frame, buffers })
    }

    /// What is in a used receive buffer.
    fn take_used(&mut self, ring: usize, used: Used, buffers: &mut Vec<(u32, u32)>) -> Check<Vec<u8>> {
        let unknown = || Stop::Fail(format!("receive buffer {} is used, which is not out", used.id));
        let pieces = self.given.remove(&(ring, used.id)).ok_or_else(unknown)?;
        let room = pieces.iter().fold(0_u32, |sum, piece| sum.saturating_add(piece.len));
        want!(used.len <= room, "{} bytes are reported in a buffer of {room}", used.len);
        buffers.push((used.len, room));
        let mut bytes = Vec::new();
        for piece in &pieces {
            bytes.extend(self.guest.read(piece.addr, piece.len as usize));
            self.canaries(piece)?;
        }
        bytes.truncate(used.len as usize);
        Ok(bytes)
    }

    /// Nothing was written beside the buffer.
    fn canaries(&self, piece: &Piece) -> Check {
        let around = [
            self.guest.read(plus(piece.addr, 0_u64.wrapping_sub(64)), 64),
            self.guest.read(plus(piece.addr, piece.len.into()), 64),
        ];
        let whole = around.iter().flatten().all(|byte| *byte == CANARY);
        want!(whole, "bytes beside a buffer of {} are written", piece.len);
        Ok(())
    }

    /// Gives a buffer, sends a frame, and waits for it to come back.
    pub(in super::super) fn there_and_back(&mut self, header: &frames::Header, frame: &[u8]) -> Check<Packet> {
        self.give(&[4096])?;
        self.send(header, frame)?;
        self.comes_back(frame)
    }

    /// Waits for a frame that was sent: its contents behind the addresses must be the same.
    pub(in super::super) fn comes_back(&mut self, frame: &[u8]) -> Check<Packet> {
        let late = || Stop::Fail(format!("a frame of {} bytes does not come back", frame.len()));
        let packet = self.receive(self.target.patience)?.ok_or_else(late)?;
        let same = packet.frame.len() == frame.len() && packet.frame.get(12..) == frame.get(12..);
        want!(same, "a frame of {} bytes comes back as another one, of {} bytes", frame.len(), packet.frame.len());
        Ok(packet)
    }

    /// The device side still serves this driver: another frame comes back, or is at least taken.
    pub(in super::super) fn still_works(&mut self, number: u64) -> Check {
        let mac = self.target.mac;
        let frame = frames::plain(mac, mac, number);
        if self.target.returns == super::super::target::Returns::Never {
            self.send(&frames::NONE, &frame).map(|_| ())
        } else {
            self.there_and_back(&frames::NONE, &frame).map(|_| ())
        }
    }
}
