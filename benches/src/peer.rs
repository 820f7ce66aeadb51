//! The device side of rust-vmm's virtio-queue, in the two ways that its users have.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use virtio_queue::{Queue, QueueOwnedT, QueueT};

use crate::{Arena, DeviceSide, Mmap};

fn queue(arena: &Arena) -> Result<Queue, Box<dyn Error>> {
    let c = &arena.config;
    let mut queue = Queue::new(c.size)?;
    let halves = |a: u64| (Some(a as u32), Some((a >> 32) as u32));
    let (low, high) = halves(c.desc.0);
    queue.set_desc_table_address(low, high);
    let (low, high) = halves(c.driver.0);
    queue.set_avail_ring_address(low, high);
    let (low, high) = halves(c.device.0);
    queue.set_used_ring_address(low, high);
    queue.set_ready(true);
    if !queue.is_valid(&*arena.mmap) {
        return Err("virtio-queue does not like the ring".into());
    }
    Ok(queue)
}

/// One chain at a time: `pop_descriptor_chain`, its descriptor, `add_used`.
#[derive(Debug)]
#[repr(align(128))]
pub struct Pop {
    queue: Queue,
    mmap: Arc<Mmap>,
}

impl Pop {
    /// Begins at index 0.
    ///
    /// # Errors
    /// None that this arena can cause.
    pub fn new(arena: &Arena) -> Result<Self, Box<dyn Error>> {
        Ok(Self { queue: queue(arena)?, mmap: Arc::clone(&arena.mmap) })
    }
}

impl DeviceSide for Pop {
    #[inline]
    fn serve(&mut self, most: usize) -> usize {
        let mmap = &*self.mmap;
        let (mut sum, mut count) = (0_u64, 0);
        while count < most
            && let Some(mut chain) = self.queue.pop_descriptor_chain(mmap)
        {
            if let Some(d) = chain.next() {
                sum = sum.wrapping_add(d.addr().0 ^ u64::from(d.len()));
            }
            let _ = black_box(self.queue.add_used(mmap, chain.head_index(), 0));
            count += 1;
        }
        black_box(sum);
        if count > 0 {
            let _ = black_box(self.queue.needs_notification(mmap));
        }
        count
    }
}

/// The iterator over what is available, then `add_used` for each.
#[derive(Debug)]
#[repr(align(128))]
pub struct Iter {
    queue: Queue,
    mmap: Arc<Mmap>,
    heads: Vec<u16>,
}

impl Iter {
    /// Begins at index 0.
    ///
    /// # Errors
    /// None that this arena can cause.
    pub fn new(arena: &Arena) -> Result<Self, Box<dyn Error>> {
        let heads = Vec::with_capacity(arena.config.size.into());
        Ok(Self { queue: queue(arena)?, mmap: Arc::clone(&arena.mmap), heads })
    }
}

impl DeviceSide for Iter {
    #[inline]
    fn serve(&mut self, most: usize) -> usize {
        let mmap = &*self.mmap;
        self.heads.clear();
        let mut sum = 0_u64;
        if let Ok(chains) = self.queue.iter(mmap) {
            for mut chain in chains.take(most) {
                if let Some(d) = chain.next() {
                    sum = sum.wrapping_add(d.addr().0 ^ u64::from(d.len()));
                }
                self.heads.push(chain.head_index());
            }
        }
        black_box(sum);
        for head in &self.heads {
            let _ = black_box(self.queue.add_used(mmap, *head, 0));
        }
        if !self.heads.is_empty() {
            let _ = black_box(self.queue.needs_notification(mmap));
        }
        self.heads.len()
    }
}
