//! One receive queue, its driver, and a host end that gives one frame.

use core::convert::Infallible;
use std::collections::VecDeque;

use virtio_net_core::backend::{FrameSource, HEAD_LEN, Placed, RxRoom, Supply};
use virtio_net_core::rx::{RxFilter, RxFormat, RxPump, RxStats};
use virtio_net_core::{BACKEND_HEADER_LEN, Features, NetHeader};
use virtio_ring::{
    Access, DriverRing, Element, Format, GuestAddr, GuestMemory, HeapMemory, QueueState, SplitDevice, SplitDriver,
};

/// How a host end hands frames over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// The frame is in its memory.
    Put,
    /// It is read straight into the guest's buffers.
    ReadWith,
}

/// What the driver found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Got {
    pub(crate) header: NetHeader,
    pub(crate) num_buffers: u16,
    /// What follows the number of buffers: room for a hash.
    pub(crate) hash: Vec<u8>,
    /// Used lengths, in order.
    pub(crate) used: Vec<u32>,
    /// The buffers' numbers, in the order in which they were used.
    pub(crate) which: Vec<usize>,
    pub(crate) frame: Vec<u8>,
}

/// Lets everything through.
pub(crate) struct Open;
impl RxFilter for Open {
    fn accepts(&mut self, _head: &[u8]) -> bool {
        true
    }
}

/// Gives one frame.
struct One<'f> {
    way: Way,
    header: NetHeader,
    frame: &'f [u8],
    placed: Option<Placed>,
}

impl FrameSource for One<'_> {
    type Error = Infallible;

    fn at_once(&self) -> usize {
        if self.way == Way::ReadWith { self.frame.len() + 20 } else { 0 }
    }

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        let frame = self.frame;
        self.placed = match self.way {
            Way::Put => Some(room.put(&self.header, frame)),
            Way::ReadWith => {
                let bytes: [u8; BACKEND_HEADER_LEN] = self.header.to_bytes(0);
                room.read_with(|header, head, rest| {
                    *header = bytes;
                    let n = frame.len().min(HEAD_LEN);
                    head[..n].copy_from_slice(&frame[..n]);
                    let mut left = &frame[n..];
                    for seg in rest {
                        left = &left[seg.write(left)..];
                    }
                    Ok::<_, Infallible>(Some(frame.len()))
                })?
            }
        };
        Ok(if self.placed == Some(Placed::NoRoom) { Supply::More } else { Supply::Dry })
    }
}

/// Gives what it holds, in order, and keeps a frame for which there is no room.
#[derive(Default)]
pub(crate) struct Inbox(pub(crate) VecDeque<(NetHeader, Vec<u8>)>);

impl FrameSource for Inbox {
    type Error = Infallible;

    fn receive<F: RxFilter + ?Sized>(&mut self, room: &mut RxRoom<'_, F>) -> Result<Supply, Infallible> {
        while let Some((header, frame)) = self.0.front() {
            if room.put(header, frame) == Placed::NoRoom {
                return Ok(Supply::More);
            }
            self.0.pop_front();
        }
        Ok(Supply::Dry)
    }
}

/// What buffers are full of that nobody wrote to.
const CANARY: u8 = 0xee;

/// Buffers that a driver posts: chains, each of segments of so many bytes.
pub(crate) type Layout = Vec<Vec<u32>>;

/// Hands one frame to a driver that posted these buffers; what became of it, what the driver found, and the counters.
pub(crate) fn deliver(
    format: RxFormat,
    layout: &[Vec<u32>],
    way: Way,
    frame: (NetHeader, &[u8]),
) -> (Placed, Option<Got>, RxStats) {
    deliver_after([format; 2], layout, way, frame)
}

/// The same on a queue that began in another way, before the driver switched offloads on or off.
pub(crate) fn deliver_after(
    [before, format]: [RxFormat; 2],
    layout: &[Vec<u32>],
    way: Way,
    (header, frame): (NetHeader, &[u8]),
) -> (Placed, Option<Got>, RxStats) {
    let size = layout.iter().map(Vec::len).sum::<usize>().next_power_of_two() as u16;
    let (config, mut at) = Format::Split.layout(GuestAddr(0), size);
    let room = layout.iter().flatten().fold(0, |n, len| n + *len as usize + 3);
    let mem = HeapMemory::zeroed(GuestAddr(0), at.0 as usize + room).unwrap();
    let buffers = at;
    mem.translate(buffers, room, Access::Write).unwrap().write(&vec![CANARY; room]);
    let mut guest = SplitDriver::new(&mem, &config).unwrap();
    let mut posted = Vec::new();
    for chain in layout {
        let mut elements = Vec::new();
        for len in chain {
            elements.push(Element { addr: at, len: *len, writable: true });
            // Apart from each other.
            at.0 += u64::from(*len) + 3;
        }
        posted.push((guest.add(&elements).unwrap(), elements));
    }
    assert!(guest.flush().is_needed());
    let mut ring = SplitDevice::new(&mem, &config, QueueState::default()).unwrap();
    let mut one = One { way, header, frame, placed: None };
    let mut pump = RxPump::new(mem.clone(), size, before);
    pump.set_format(format);
    pump.pump(&mut ring, &mut one, &mut Open, 1).unwrap();
    let mut image = vec![0; room];
    mem.translate(buffers, room, Access::Read).unwrap().read(&mut image);
    let mut bytes = Vec::new();
    let (mut lens, mut which) = (Vec::new(), Vec::new());
    while let Some(used) = guest.poll_used().unwrap() {
        let number = posted.iter().position(|(handle, _)| *handle == used.handle).unwrap();
        let mut left = used.len as usize;
        for element in &posted[number].1 {
            let n = left.min(element.len as usize);
            let at = (element.addr.0 - buffers.0) as usize;
            bytes.extend(&image[at..at + n]);
            image[at..at + n].fill(CANARY);
            left -= n;
        }
        assert_eq!(left, 0, "no more than the buffer has");
        lens.push(used.len);
        which.push(number);
    }
    // A frame that was read straight in and is then refused leaves its bytes in buffers that are not given back.
    let unused = posted.iter().enumerate().filter(|(i, _)| way == Way::ReadWith && !which.contains(i));
    for element in unused.flat_map(|(_, (_, elements))| elements) {
        let at = (element.addr.0 - buffers.0) as usize;
        image[at..at + element.len as usize].fill(CANARY);
    }
    assert!(image.iter().all(|b| *b == CANARY), "bytes beyond what was said to be written");
    // Buffers that are too short for a header come back without a byte.
    let got = (!bytes.is_empty()).then(|| {
        let head = bytes.first_chunk::<BACKEND_HEADER_LEN>().unwrap();
        Got {
            header: NetHeader::from_bytes(head),
            num_buffers: u16::from_le_bytes([head[10], head[11]]),
            hash: bytes.get(BACKEND_HEADER_LEN..format.header_len).unwrap_or_default().to_vec(),
            used: lens,
            which,
            frame: bytes[format.header_len..].to_vec(),
        }
    });
    (one.placed.unwrap(), got, *pump.stats())
}

/// One buffer that is long enough for what the tests send; one in many pieces; and many that have to be merged.
pub(crate) fn layouts() -> [(bool, Layout); 3] {
    let pieces = vec![1, 11, 3, 7, 128, 1, 1, 50, 33, 4000];
    let many = (0..60).map(|i| if i % 3 == 0 { vec![50 + i, 7] } else { vec![61 + i] }).collect();
    [(false, vec![vec![4096]]), (false, vec![pieces]), (true, many)]
}

/// With merging, if that is wanted.
pub(crate) fn mergeable(acked: Features, on: bool) -> Features {
    if on { acked | Features::MRG_RXBUF } else { acked }
}
