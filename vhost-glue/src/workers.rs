//! Workers: threads that serve the queue pairs of any number of devices.
//!
//! A session sends jobs, closures over a seat, and waits for their answer: when `GET_VRING_BASE` is answered, no worker
//! touches the ring any more.

mod crew;
mod desk;
mod handle;
mod pace;
mod places;
mod post;
mod stamp;

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::config::WorkersConfig;
use crew::Crew;
pub(crate) use desk::{Seat, Source, Wanted};
pub(crate) use handle::{Bell, Handle};
pub(crate) use places::node_of;
use places::{NODES, Place, keep_to, nodes, places, usable};
use post::Post;

/// Threads that serve queue pairs, of as many devices as there are. Cheap to clone; the threads end with the last clone.
///
/// A pair goes to the worker with the fewest pairs when its session starts the host end, on a machine with several NUMA
/// nodes to one of the node whose memory holds the guest's ring, and stays there. Each worker serves its pairs in turn,
/// each within a budget; see [`WorkersConfig::poll`] for what it does between.
#[derive(Clone, Debug)]
pub struct Workers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    posts: Vec<Arc<Post>>,
    threads: Vec<JoinHandle<()>>,
    /// Held while a worker is chosen: two pairs that come at a time do not go to the same one.
    choice: Mutex<()>,
    /// Workers are on different nodes.
    spread: bool,
}

/// What a worker is and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerStats {
    /// The CPU that it is pinned to, if it is one.
    pub cpu: Option<usize>,
    /// The NUMA node that it is kept to, on a machine with several.
    pub node: Option<usize>,
    /// Queue pairs that it has now.
    pub pairs: usize,
    /// Cycles spent in rounds that did something. The unit is that of [`PairStats::busy_cycles`](crate::PairStats).
    pub busy_cycles: u64,
    /// Cycles since it was started, asleep or not.
    pub cycles: u64,
    /// How often it slept, with all its pairs.
    pub sleeps: u64,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// No thread or no descriptor to be had; none is left then.
    pub fn start(config: &WorkersConfig) -> io::Result<Self> {
        let places = places(config.count.max(1), &config.pin, &nodes(Path::new(NODES)), &usable());
        let first = places.first().and_then(|place| place.node);
        let spread = places.iter().any(|place| place.node != first);
        // Dropped on the way, it ends the threads that there are.
        let mut inner = Inner { posts: Vec::new(), threads: Vec::new(), choice: Mutex::default(), spread };
        for (number, place) in places.into_iter().enumerate() {
            inner.spawn(number, place, config)?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What each of the workers is and did, from any thread.
    #[must_use]
    pub fn stats(&self) -> Vec<WorkerStats> {
        let stats = |post: &Arc<Post>| {
            let (busy_cycles, cycles, sleeps) = post.tally.read();
            let cpu = if let [cpu] = post.place.cpus[..] { Some(cpu) } else { None };
            let pairs = post.tally.pairs.load(Ordering::Relaxed);
            WorkerStats { cpu, node: post.place.node, pairs, busy_cycles, cycles, sleeps }
        };
        self.inner.posts.iter().map(stats).collect()
    }

    /// True if it matters where memory is.
    pub(crate) fn is_spread(&self) -> bool {
        self.inner.spread
    }

    /// The worker for one pair more, which then counts as having it. `None` if all of them are gone.
    fn choose(&self, node: Option<usize>) -> Option<Arc<Post>> {
        let _held = self.inner.choice.lock().unwrap_or_else(PoisonError::into_inner);
        let load = |post: &Arc<Post>| {
            let there = !post.tally.gone.load(Ordering::Acquire);
            there.then(|| (post.tally.pairs.load(Ordering::Relaxed), post.place.node))
        };
        let loads: Vec<_> = self.inner.posts.iter().map(load).collect();
        let post = places::choose(&loads, node).and_then(|chosen| self.inner.posts.get(chosen))?;
        post.tally.pairs.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(post))
    }
}

impl Inner {
    fn spawn(&mut self, number: usize, place: Place, config: &WorkersConfig) -> io::Result<()> {
        let (post, jobs) = Post::new(place)?;
        let post = Arc::new(post);
        let (set, poll) = (Crew::set(&post)?, config.poll);
        let gone = Gone(Arc::clone(&post));
        let body = move || {
            let gone = gone;
            keep_to(&gone.0.place);
            Crew::new(Arc::clone(&gone.0), poll, set).run(&jobs);
        };
        let thread = std::thread::Builder::new().name(format!("vhost-w{number}")).spawn(body)?;
        self.posts.push(post);
        self.threads.push(thread);
        Ok(())
    }
}

/// Says so when a thread ends, in whatever way.
struct Gone(Arc<Post>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.tally.gone.store(true, Ordering::Release);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for post in &self.posts {
            post.send(Box::new(Crew::quit));
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker died");
            }
        }
    }
}

#[cfg(test)]
mod tests;
