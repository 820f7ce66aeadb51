//! The control thread's end of a worker.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::{Plan, Shared, Worker};
use crate::error::SessionError;
use crate::port::PortQueue;
use crate::stop::wake;

/// Something for a worker to do.
pub(crate) type Job<Q> = Box<dyn FnOnce(&mut Worker<Q>) + Send>;

/// A running worker.
#[derive(Debug)]
pub(crate) struct Handle<Q> {
    pair: usize,
    jobs: Sender<Job<Q>>,
    shared: Arc<Shared>,
    thread: JoinHandle<Q>,
}

/// Starts a worker thread.
pub(crate) fn spawn<Q: PortQueue>(plan: Plan<Q>) -> Result<Handle<Q>, SessionError> {
    let pair = plan.pair;
    let shared = Arc::clone(&plan.shared);
    let (jobs, queue): (Sender<Job<Q>>, Receiver<Job<Q>>) = channel();
    let body = move || {
        pin(plan.cpu);
        Worker::new(plan).run(&queue)
    };
    let thread = std::thread::Builder::new().name(format!("vhost-q{pair}")).spawn(body)?;
    Ok(Handle { pair, jobs, shared, thread })
}

/// Pins the calling thread.
fn pin(cpu: Option<usize>) {
    let Some(cpu) = cpu else { return };
    let mut set = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        tracing::warn!("cannot pin to CPU {cpu}: expected below {}", rustix::thread::CpuSet::MAX_CPU);
        return;
    }
    set.set(cpu);
    if let Err(e) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!("cannot pin to CPU {cpu}: {e}");
    }
}

impl<Q: PortQueue> Handle<Q> {
    /// Lets the worker do something and waits for the answer.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker<Q>) -> R + Send + 'static,
    ) -> Result<R, SessionError> {
        let gone = || SessionError::Worker { pair: self.pair };
        let (answer, answered) = channel();
        let job = Box::new(move |worker: &mut Worker<Q>| {
            // If nobody waits for the answer any more, nobody misses it.
            let _ = answer.send(job(worker));
        });
        self.jobs.send(job).map_err(|_| gone())?;
        if let Some(event) = self.shared.event(self.pair) {
            wake(event.as_fd());
        }
        answered.recv().map_err(|_| gone())
    }

    /// Ends the thread and gives the port's queue back, unless the worker died.
    pub(crate) fn finish(self) -> Option<Q> {
        let _ = self.ask(Worker::quit);
        let queue = self.thread.join();
        if queue.is_err() {
            tracing::error!("worker of queue pair {} died", self.pair);
        }
        queue.ok()
    }
}
