//! The device side of rust-vmm's virtio-queue, in the two ways that its users have, behind our driver.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use virtio_ring::{QueueConfig, SplitDriver};

use crate::lab::layouts::split;
use crate::lab::report::Picture;
use crate::lab::{self, Buffer, DeviceSide, Layout, Setup};
use crate::{Area, Arena, Mmap, bare, ours};

/// The queue, its memory, and whether something was completed since the last look at the driver's event word.
#[derive(Debug)]
#[repr(align(128))]
struct Inner {
    queue: Queue,
    mmap: Arc<Mmap>,
    completed: bool,
    /// The driver may sleep.
    asks: bool,
}

impl Inner {
    fn new(arena: &Arena, event_idx: bool) -> Result<Self, Box<dyn Error>> {
        let c = &arena.config;
        let mut queue = Queue::new(c.size)?;
        let halves = |a: u64| (Some(a as u32), Some((a >> 32) as u32));
        let (low, high) = halves(c.desc.0);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(c.driver.0);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(c.device.0);
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        if !queue.is_valid(&*arena.mmap) {
            return Err("virtio-queue does not like the ring".into());
        }
        Ok(Self { queue, mmap: Arc::clone(&arena.mmap), completed: false, asks: event_idx })
    }

    /// virtio-queue publishes with every `add_used`; what is left is to ask whether the driver wants a call, if it sleeps.
    #[inline]
    fn flush(&mut self) -> bool {
        std::mem::take(&mut self.completed)
            && self.asks
            && black_box(self.queue.needs_notification(&*self.mmap)).unwrap_or(true)
    }

    fn arm(&mut self) -> bool {
        !self.queue.enable_notification(&*self.mmap).unwrap_or(true)
    }

    fn disarm(&mut self) {
        let _ = self.queue.disable_notification(&*self.mmap);
    }
}

macro_rules! sleeps {
    () => {
        #[inline]
        fn flush(&mut self) -> bool {
            self.0.flush()
        }
        fn arm(&mut self) -> bool {
            self.0.arm()
        }
        fn disarm(&mut self) {
            self.0.disarm();
        }
    };
}

/// One chain at a time: `pop_descriptor_chain`, its descriptor, `add_used`.
#[derive(Debug)]
pub struct PopDevice(Inner);

impl PopDevice {
    /// Begins at index 0.
    ///
    /// # Errors
    /// None that this arena can cause.
    pub fn new(arena: &Arena) -> Result<Self, Box<dyn Error>> {
        Ok(Self(Inner::new(arena, false)?))
    }
}

impl DeviceSide for PopDevice {
    #[inline]
    fn serve(&mut self, most: usize, mut visit: impl FnMut(Buffer)) -> usize {
        let Inner { queue, mmap, completed, .. } = &mut self.0;
        let mmap = &**mmap;
        let mut count = 0;
        while count < most
            && let Some(mut chain) = queue.pop_descriptor_chain(mmap)
        {
            if let Some(d) = chain.next() {
                visit(Buffer { addr: d.addr().0, len: d.len() });
            }
            let _ = black_box(queue.add_used(mmap, chain.head_index(), 0));
            count += 1;
        }
        *completed |= count > 0;
        count
    }

    sleeps!();
}

/// The iterator over what is available, then `add_used` for each.
#[derive(Debug)]
pub struct IterDevice(Inner, Vec<u16>);

impl IterDevice {
    /// Begins at index 0.
    ///
    /// # Errors
    /// None that this arena can cause.
    pub fn new(arena: &Arena) -> Result<Self, Box<dyn Error>> {
        Ok(Self(Inner::new(arena, false)?, Vec::with_capacity(arena.config.size.into())))
    }
}

impl DeviceSide for IterDevice {
    #[inline]
    fn serve(&mut self, most: usize, mut visit: impl FnMut(Buffer)) -> usize {
        let Self(Inner { queue, mmap, completed, .. }, heads) = self;
        let mmap = &**mmap;
        heads.clear();
        if let Ok(chains) = queue.iter(mmap) {
            for mut chain in chains.take(most) {
                if let Some(d) = chain.next() {
                    visit(Buffer { addr: d.addr().0, len: d.len() });
                }
                heads.push(chain.head_index());
            }
        }
        for head in heads.iter() {
            let _ = black_box(queue.add_used(mmap, *head, 0));
        }
        *completed |= !heads.is_empty();
        heads.len()
    }

    sleeps!();
}

type Driver = ours::Driver<SplitDriver<Area>>;

/// Our driver, with the event index if the sides sleep. It sets the ring up, so it comes before the device.
fn driver(setup: &Setup<'_>) -> Result<Driver, Box<dyn Error>> {
    let config = QueueConfig { event_idx: setup.sleeps, ..setup.arena.config };
    let mut driver = ours::split(setup.arena, &config)?.0;
    driver.asks = setup.sleeps;
    Ok(driver)
}

/// Our driver before virtio-queue, popped.
#[derive(Debug)]
pub struct Pop;

impl Layout for Pop {
    const NAME: &'static str = "virtio-queue-pop";
    const IDEA: &'static str = "the split ring, device by rust-vmm's virtio-queue, one chain at a time";
    type Driver = Driver;
    type Device = PopDevice;

    fn open(setup: &Setup<'_>) -> Result<(Self::Driver, Self::Device), Box<dyn Error>> {
        let driver = driver(setup)?;
        Ok(split::quiet(setup, driver, PopDevice(Inner::new(setup.arena, setup.sleeps)?)))
    }

    fn poster(setup: &Setup<'_>) -> Option<lab::Poster> {
        bare::split_poster(setup)
    }

    fn picture(size: u16) -> Picture {
        Picture { layout: Self::NAME.into(), idea: Self::IDEA.into(), ..split::Split::picture(size) }
    }
}

/// Our driver before virtio-queue, iterated.
#[derive(Debug)]
pub struct Iter;

impl Layout for Iter {
    const NAME: &'static str = "virtio-queue-iter";
    const IDEA: &'static str = "the split ring, device by rust-vmm's virtio-queue, by its iterator";
    type Driver = Driver;
    type Device = IterDevice;

    fn open(setup: &Setup<'_>) -> Result<(Self::Driver, Self::Device), Box<dyn Error>> {
        let driver = driver(setup)?;
        let heads = Vec::with_capacity(setup.size.into());
        Ok(split::quiet(setup, driver, IterDevice(Inner::new(setup.arena, setup.sleeps)?, heads)))
    }

    fn poster(setup: &Setup<'_>) -> Option<lab::Poster> {
        bare::split_poster(setup)
    }

    fn picture(size: u16) -> Picture {
        Picture { layout: Self::NAME.into(), idea: Self::IDEA.into(), ..split::Split::picture(size) }
    }
}
