//! A device against a hostile driver that only has memory, beside the model and the shadow.

mod hostile;

use std::ops::Range;

use virtio_ring::{Chains, DeviceRing, Format, GuestAddr, QueueConfig, QueueState, RingError, Token};

use crate::Tally;
use crate::arena::{Arena, Run};
use crate::common::guest::{RING, RawPacked, RawRing, WRITE, word16, word32};
use crate::common::peers::Setup;
use crate::input::Input;
use crate::model::{Chain, Model, Next, Shape};
use crate::restore;
use crate::watched::Watched;

/// Bytes of the ring's pages, where raw writes go.
pub(crate) const RING_BYTES: usize = 0x1000;
/// More than the largest ring here has entries: the device takes all that there is.
const DEPTH: usize = 64;
/// Operations of a session.
const MOST: usize = 200;
/// Most bytes written to one chain.
const MOST_BYTES: u32 = 2048;

/// A chain that was taken out of the pool and waits to be completed.
struct Held {
    token: Token,
    chain: Chain,
    written: u32,
}

/// See the module. `make` starts the device.
pub(crate) struct Session<'a, D, F> {
    input: Input<'a>,
    mem: Watched,
    make: F,
    device: D,
    chains: Chains<Watched>,
    model: Model,
    /// What the model made of the chains in the pool.
    pooled: Vec<Chain>,
    held: Vec<Held>,
    /// The driver's next available index (split) or position (packed).
    offered: u64,
    tally: Tally,
}

/// A queue of 1 to 64 entries, with some features.
pub(crate) fn set_up(input: &mut Input<'_>, format: Format) -> Setup {
    let (size, features) = (input.u8(), input.u8());
    let size = match format {
        Format::Split => 1 << (size % 7),
        Format::Packed => u16::from(size % 64) + 1,
    };
    Setup {
        event_idx: features & 1 != 0,
        indirect: features & 2 != 0,
        in_order: features & 4 != 0,
        ..Setup::new(format, size)
    }
}

/// A whole session of a device that `make` starts, on a ring that was never used or is at one of its turns.
pub(crate) fn run<D, F>(format: Format, data: &[u8], tricks: &[u8], make: F) -> Tally
where
    D: DeviceRing,
    F: Fn(&Watched, &QueueConfig, QueueState) -> Result<D, RingError>,
{
    let mut input = Input::new(data);
    let mut setup = set_up(&mut input, format);
    let evil = !tricks.is_empty();
    // What a table that changes is made of is not known, and so not whether its used entry may be left out.
    setup.indirect &= !(evil && setup.in_order);
    let arena = Arena::fresh();
    arena.poke(RING, &[0; RING_BYTES]);
    let config = setup.config();
    let state = match (format, input.below(4)) {
        (Format::Split, 3) => {
            // One step before the indices wrap.
            arena.poke(config.device.0 + 2, &0xFFFF_u16.to_le_bytes());
            arena.poke(config.driver.0 + 2, &0xFFFF_u16.to_le_bytes());
            QueueState(0xFFFF)
        }
        (Format::Packed, 3) => QueueState(0x0001_0001 * u32::from(setup.size - 1)),
        _ => format.start(),
    };
    let mem = Watched::new(arena, tricks);
    mem.begin();
    let device = match make(&mem, &config, state) {
        Ok(device) => device,
        Err(error) => {
            assert!(evil, "oracle: {error} of a ring that can be");
            return Tally { refused: 1, ..Tally::default() };
        }
    };
    Session::new(input, mem, (format, config), (make, device), state).finish(evil)
}

impl<'a, D, F> Session<'a, D, F>
where
    D: DeviceRing,
    F: Fn(&Watched, &QueueConfig, QueueState) -> Result<D, RingError>,
{
    pub(crate) fn new(
        input: Input<'a>,
        mem: Watched,
        (format, config): (Format, QueueConfig),
        (make, device): (F, D),
        state: QueueState,
    ) -> Self {
        let model = Model::new(format, config, mem.clone(), state);
        let chains = Chains::new(mem.clone(), DEPTH);
        let offered = model.avail;
        let (pooled, held) = (Vec::new(), Vec::new());
        Self { input, mem, make, device, chains, model, pooled, held, offered, tally: Tally::default() }
    }

    /// Runs the script, serves what is left and looks at the whole.
    pub(crate) fn finish(mut self, evil: bool) -> Tally {
        self.model.evil = evil;
        for _ in 0..MOST {
            if self.input.is_empty() || self.device.fault().is_some() {
                break;
            }
            self.step();
        }
        self.serve_all();
        self.mem.arena.settle(self.own());
        self.mem.arena.check();
        self.tally
    }

    fn step(&mut self) {
        match self.input.below(16) {
            0 | 1 => self.offer_good(),
            2 | 3 => self.write_descriptor(),
            4 => self.offer(),
            5 => self.write_table(),
            6 => self.raw(),
            7 | 8 => self.fill(),
            9 | 10 => self.take(),
            11 | 12 => self.complete(),
            13 => self.arm(),
            14 => self.rewind(),
            _ if self.input.below(4) > 0 => self.fill(),
            _ => self.restart(),
        }
    }

    /// Bytes that the device may write of the ring itself.
    fn own(&self) -> Vec<Range<u64>> {
        let config = self.config();
        match self.model.format {
            Format::Split => vec![RawRing(config).used_range()],
            Format::Packed => {
                let slots = (0..u64::from(config.size)).map(|i| config.desc.0 + 16 * i);
                let tails = slots.map(|at| at + 8..at + 16);
                tails.chain(std::iter::once(config.device.0..config.device.0 + 4)).collect()
            }
        }
    }

    /// Takes what is available into the pool, and compares it with what the model makes of it.
    fn fill(&mut self) {
        let before = self.chains.len();
        self.mem.begin();
        let filled = self.chains.fill(&mut self.device);
        let mut expected = Ok(());
        for _ in before..self.chains.len() {
            match self.model.next() {
                Next::Chain(chain) => self.pooled.push(chain),
                _ => panic!("oracle: a chain from nowhere"),
            }
        }
        // Without another look at the ring it ends only if the pool is full, or if it took all that can be known.
        let looked = filled.is_err() || self.mem.is_unaccounted();
        let ends = self.chains.is_full() || self.model.knows_of_no_more(self.chains.len() > before);
        if looked || !ends {
            match self.model.next() {
                Next::Empty => {}
                Next::Chain(_) => panic!("oracle: a chain was left in the ring"),
                Next::Broken => expected = Err(()),
            }
        }
        assert_eq!(filled.map(|_| ()).map_err(|_| ()), expected, "oracle: a broken ring");
        if expected.is_ok() {
            self.mem.end();
        } else {
            self.tally.broken += 1;
        }
        self.compare(before);
    }

    fn compare(&self, before: usize) {
        assert_eq!(self.chains.len(), self.pooled.len());
        let view = self.chains.view();
        for (seen, expected) in view.chains().iter().zip(&self.pooled).skip(before) {
            let runs = |all: &[virtio_ring::GuestSlice<'_>]| merged(all.iter().map(|s| self.mem.arena.run_of(s)));
            let (readable, writable) = (runs(view.readable(seen)), runs(view.writable(seen)));
            let sum = |runs: &[Run]| runs.iter().map(|r| r.1 as u64).sum::<u64>();
            if seen.is_faulty() {
                assert!(!matches!(expected.shape, Shape::Good(..)), "oracle: a good chain is faulty");
                continue;
            }
            let lengths = (u64::from(seen.readable_len()), u64::from(seen.writable_len()));
            assert_eq!((sum(&readable), sum(&writable)), lengths, "oracle: lengths of a chain");
            match &expected.shape {
                Shape::Good(r, w) => {
                    let posted = (merged(r.iter().copied()), merged(w.iter().copied()));
                    assert_eq!((readable, writable), posted, "oracle: buffers that were not posted");
                }
                Shape::Faulty => panic!("oracle: a faulty chain is good"),
                Shape::Unknown => {}
            }
        }
    }

    /// Writes to the oldest chain of the pool, and takes it out.
    fn take(&mut self) {
        let wish = match self.input.below(3) {
            0 => 0,
            1 => self.input.u16().into(),
            _ => MOST_BYTES,
        };
        self.take_writing(wish);
    }

    fn take_writing(&mut self, wish: u32) {
        let view = self.chains.view();
        let Some(seen) = view.chains().first() else { return };
        let (mut left, fill) = (seen.writable_len().min(wish).min(MOST_BYTES) as usize, self.tally.completed as u8);
        let mut written = 0;
        let is_faulty = seen.is_faulty();
        if !is_faulty {
            for slice in view.readable(seen).iter().take(8) {
                slice.read(&mut [0; 64]);
            }
            for slice in view.writable(seen) {
                let data = vec![fill; slice.len().min(left)];
                // Before the write: the buffer may be anything, the ring included.
                let (at, _) = self.mem.arena.run_of(slice);
                let n = slice.write(&data);
                self.mem.arena.expect(at, &data);
                (left, written) = (left - n, written + n as u32);
            }
        }
        self.tally.faulty += usize::from(is_faulty);
        let token = self.chains.pop().expect("oracle: the chain that was looked at");
        self.held.push(Held { token, chain: self.pooled.remove(0), written });
    }

    /// Completes some of what is held, in whatever order is allowed, and publishes it.
    fn complete(&mut self) {
        let count = self.input.below(self.held.len() + 1);
        let which: Vec<_> = (0..count).map(|_| self.input.below(DEPTH)).collect();
        self.complete_these(&which);
    }

    fn complete_these(&mut self, which: &[usize]) {
        let mut done = Vec::new();
        let old = self.model.used;
        for i in which {
            if self.held.is_empty() {
                break;
            }
            let i = if self.config().in_order { 0 } else { i % self.held.len() };
            let Held { token, chain, written } = self.held.remove(i);
            self.device.complete(token, written);
            done.push((chain, written));
        }
        self.model.used += done.iter().map(|(c, _)| c.count).sum::<u64>();
        self.mem.begin();
        let notify = self.device.flush();
        assert_eq!(notify.is_needed(), self.model.wanted(old), "oracle: a notification");
        self.mem.end();
        self.tally.completed += done.len();
        self.used_entries(old, &done);
    }

    /// The driver finds each chain, and what was written to it.
    fn used_entries(&self, old: u64, done: &[(Chain, u32)]) {
        let (mut at, mut i) = (old, 0);
        while i < done.len() {
            let (id, len) = self.used_entry(at);
            let is = |(chain, written): &(Chain, u32)| (u32::from(chain.id), *written) == (id, len);
            let mut last = i;
            if self.config().in_order {
                // What may be skipped is skipped up to a chain with that id (virtio 1.3, 2.7.9, 2.8.9).
                let skipped = done[i..].iter().take_while(|(c, _)| !c.writable).count();
                let end = (i + skipped + 1).min(done.len());
                last = (i..end).rev().find(|j| is(&done[*j])).unwrap_or(i);
            }
            let (chain, written) = &done[last];
            assert_eq!((id, len), (chain.id.into(), *written), "oracle: used.len of what was written");
            at += done[i..=last].iter().map(|(c, _)| c.count).sum::<u64>();
            i = last + 1;
        }
        if self.model.format == Format::Split {
            let idx = word16(&self.mem.arena.mem, self.config().device.0 + 2);
            if !done.is_empty() {
                assert_eq!(idx, self.model.used as u16, "oracle: completions are as many as tokens");
            }
        }
    }

    /// Id and length of the entry at a position; a packed one must be the driver's.
    fn used_entry(&self, position: u64) -> (u32, u32) {
        let mem = &self.mem.arena.mem;
        if self.model.format == Format::Split {
            let at = self.config().device.0 + 4 + 8 * self.model.slot(position);
            return (word32(mem, at), word32(mem, at + 4));
        }
        let slot = self.model.slot(position) as u16;
        let (len, id, flags) = RawPacked(self.config()).tail(mem, slot);
        let used = if self.model.wrap(position) { RawPacked::AVAIL | RawPacked::USED } else { 0 };
        assert_eq!(flags & (RawPacked::AVAIL | RawPacked::USED), used, "oracle: completions are as many as tokens");
        assert_eq!(flags & WRITE != 0, len != 0, "oracle: the flag WRITE of a used entry");
        (id.into(), len)
    }

    fn arm(&mut self) {
        if self.input.below(4) == 0 {
            self.device.disarm();
        } else {
            self.mem.begin();
            let may_sleep = self.device.arm();
            assert_eq!(may_sleep, !self.model.has_work(), "oracle: work before sleep");
            self.mem.end();
        }
    }

    /// Puts back what is in the pool.
    fn rewind(&mut self) {
        self.chains.rewind(&mut self.device);
        let count: u64 = self.pooled.drain(..).map(|c| c.count).sum();
        self.model.avail -= count;
        assert_eq!(self.device.state(), self.model.state(), "oracle: state");
    }

    /// Another device goes on where this one is told to stop.
    fn restart(&mut self) {
        self.rewind();
        self.complete_these(&[0; DEPTH]);
        let state = self.device.state();
        assert_eq!(state, self.model.state(), "oracle: state");
        let (format, config) = (self.model.format, self.config());
        let violations = restore::violations(format, &config, state, &self.mem.arena);
        self.mem.begin();
        let Ok(device) = (self.make)(&self.mem, &config, state) else {
            // The driver wrote an index that is the device's, or took back what it had made available.
            assert!(self.model.evil || !violations.is_empty(), "oracle: a state that can be");
            return;
        };
        assert!(self.model.evil || violations.is_empty(), "oracle: a state that cannot be: {violations:?}");
        self.device = device;
        self.tally.restarts += 1;
        let (evil, ahead) = (self.model.evil, self.offered.saturating_sub(self.model.avail));
        self.model = Model::new(format, config, self.mem.clone(), state);
        self.model.evil = evil;
        self.offered = self.model.avail + ahead;
    }

    /// Whatever is available comes to an end, and quickly.
    fn serve_all(&mut self) {
        for _ in 0..2 * usize::from(self.config().size) + 4 {
            if self.device.fault().is_none() {
                self.fill();
            }
            while !self.chains.is_empty() {
                self.take_writing(0);
            }
            if self.held.is_empty() {
                return;
            }
            self.complete_these(&vec![0; self.held.len()]);
        }
        assert!(self.model.evil, "oracle: a head was not completed within the budget");
    }
}

/// Adjacent runs as one.
fn merged(runs: impl Iterator<Item = Run>) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    for (addr, len) in runs {
        match all.last_mut() {
            Some((at, bytes)) if at.wrapping_add(*bytes as u64) == addr => *bytes += len,
            _ => all.push((addr, len)),
        }
    }
    all
}

/// A device of the crate.
pub(crate) fn ours(
    format: Format,
) -> impl Fn(&Watched, &QueueConfig, QueueState) -> Result<virtio_ring::AnyDevice<crate::watched::WatchedArea>, RingError>
{
    move |mem, config, state| virtio_ring::AnyDevice::new(mem, format, config, state)
}

/// Where a ring of the driver's choice may be.
pub(crate) fn anywhere(input: &mut Input<'_>) -> GuestAddr {
    GuestAddr(match input.below(4) {
        0..=2 => RING + u64::from(input.u16()) % (2 * RING_BYTES as u64),
        _ => input.u64(),
    })
}
