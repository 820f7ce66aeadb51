//! The published single-producer queue `rtrb`, once in each direction: what a good queue that is no ring of buffers
//! does.
//!
//! The driver's queue carries buffers, the device's queue carries lengths. Both are written and read in chunks, so that
//! indices move once a burst; `rtrb` keeps a copy of the peer's index and reads the real one when it has run out. It
//! lives on the heap, not in the arena: between two processes it would not do. Its sides do not sleep: the flags for
//! that are beside it, in the arena.
//!
//! Count, bursts of 32: 8 lines of buffers (16 bytes each) and 2 of lengths, and of four indices (the two that are
//! written by the reader are looked at once a ring) 2: 12/32 = 0.38 lines a buffer. Bursts of 1 in a stream: the same
//! lines, and one of the two indices each time that a reader runs out, at worst once a buffer: up to 2.31.

use std::error::Error;

use rtrb::chunks::{ChunkError, ReadChunk};
use rtrb::{Consumer, Producer, RingBuffer};

use super::shared::{AREAS, Bell, Raw, area};
use crate::lab::report::{Picture, Writer};
use crate::lab::{Buffer, DeviceSide, DriverSide, Layout, Setup};

/// The driver's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Driver {
    words: Raw,
    bell: Bell,
    out: Producer<Buffer>,
    back: Consumer<u32>,
    /// Added and not yet visible.
    burst: Vec<Buffer>,
    free: usize,
    bytes: u64,
}

/// The device's side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Device {
    words: Raw,
    bell: Bell,
    input: Consumer<Buffer>,
    back: Producer<u32>,
    /// Completed and not yet visible.
    burst: Vec<u32>,
}

impl Driver {
    /// Sum of the lengths of all buffers that were reaped.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Moves a burst into a queue that has room for it. False if there was nothing.
#[inline(always)]
fn publish<T: Copy>(queue: &mut Producer<T>, burst: &mut Vec<T>) -> bool {
    if burst.is_empty() {
        return false;
    }
    // No more are under way than either queue has slots.
    if let Ok(chunk) = queue.write_chunk_uninit(burst.len()) {
        chunk.fill_from_iter(burst.drain(..));
    }
    true
}

/// Up to `most` of what is in a queue. The peer's index is read only if its copy does not say that there are so many.
#[inline(always)]
fn chunk<T>(queue: &mut Consumer<T>, most: usize) -> Option<ReadChunk<'_, T>> {
    let most = most.min(queue.buffer().capacity());
    let count = match queue.read_chunk(most) {
        Ok(_) => most,
        Err(ChunkError::TooFewSlots(there)) => there,
    };
    queue.read_chunk(count).ok()
}

impl DriverSide for Driver {
    #[inline(always)]
    fn add(&mut self, buffer: Buffer) -> bool {
        if self.free == 0 {
            return false;
        }
        self.free -= 1;
        self.burst.push(buffer);
        true
    }

    #[inline(always)]
    fn flush(&mut self) -> bool {
        publish(&mut self.out, &mut self.burst) && self.bell.must_wake(&self.words)
    }

    #[inline(always)]
    fn reap(&mut self, most: usize) -> usize {
        let Some(chunk) = chunk(&mut self.back, most) else { return 0 };
        let count = chunk.len();
        self.bytes = self.bytes.wrapping_add(chunk.into_iter().map(u64::from).sum());
        self.free += count;
        count
    }

    fn arm(&mut self) -> bool {
        self.bell.ask(&self.words);
        self.back.is_empty() || {
            self.bell.hush(&self.words);
            false
        }
    }

    fn disarm(&mut self) {
        self.bell.hush(&self.words);
    }
}

impl DeviceSide for Device {
    #[inline(always)]
    fn serve(&mut self, most: usize, mut visit: impl FnMut(Buffer)) -> usize {
        let Some(chunk) = chunk(&mut self.input, most) else { return 0 };
        let count = chunk.len();
        for buffer in chunk {
            visit(buffer);
            self.burst.push(buffer.len);
        }
        count
    }

    #[inline(always)]
    fn flush(&mut self) -> bool {
        publish(&mut self.back, &mut self.burst) && self.bell.must_wake(&self.words)
    }

    fn arm(&mut self) -> bool {
        self.bell.ask(&self.words);
        self.input.is_empty() || {
            self.bell.hush(&self.words);
            false
        }
    }

    fn disarm(&mut self) {
        self.bell.hush(&self.words);
    }
}

/// The layout.
#[derive(Debug)]
pub struct Rtrb;

impl Layout for Rtrb {
    const NAME: &'static str = "rtrb";
    const IDEA: &'static str =
        "The published single-producer queue rtrb in each direction, buffers there and lengths back";
    type Driver = Driver;
    type Device = Device;

    fn open(setup: &Setup<'_>) -> Result<(Driver, Device), Box<dyn Error>> {
        let (driver, device) = Raw::pair(setup, AREAS)?;
        let size = usize::from(setup.size);
        let (out, input) = RingBuffer::new(size);
        let (returns, back) = RingBuffer::new(size);
        let (mine, peers) = (Bell::driver(setup.sleeps), Bell::device(setup.sleeps));
        let burst = Vec::with_capacity(size);
        let driver = Driver { words: driver, bell: mine, out, back, burst, free: size, bytes: 0 };
        let burst = Vec::with_capacity(size);
        Ok((driver, Device { words: device, bell: peers, input, back: returns, burst }))
    }

    fn picture(size: u16) -> Picture {
        let n = usize::from(size);
        let index = |name, writer, when| area(name, "index, 8 B", (1.0, 1), writer, when);
        Picture {
            layout: Self::NAME.into(),
            idea: Self::IDEA.into(),
            areas: vec![
                area("event words", "flag, 4 B", (1.0, 2), Writer::Both, "before sleeping"),
                area("buffers", "address and length, 16 B", (4.0, n.div_ceil(4)), Writer::Driver, "once a buffer"),
                index("tail of the buffers", Writer::Driver, "once a burst; read when the device has run out"),
                index("head of the buffers", Writer::Device, "once a burst; read once a ring"),
                area("lengths", "length, 4 B", (16.0, n.div_ceil(16)), Writer::Device, "once a buffer"),
                index("tail of the lengths", Writer::Device, "once a burst; read when the driver has run out"),
                index("head of the lengths", Writer::Driver, "once a burst; read once a ring"),
            ],
            transfers_burst_1: 1.0 / 4.0 + 1.0 / 16.0 + 2.0,
            transfers_burst_32: (8.0 + 2.0 + 2.0) / 32.0,
            count: "1/4 of a line of buffers and 1/16 of lengths, two indices a burst; the other two once a ring"
                .into(),
        }
    }
}
