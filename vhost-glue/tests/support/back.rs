//! A device in a thread of its own, that serves what it is given.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use vhost_glue::{Device, DeviceConfig, SessionEnd, SessionError, Stats, Stop, Workers, WorkersConfig};

use super::front::Front;
use super::guest::{KINDS, with_kind};
use super::port::{Mirror, Seen};
use super::{DEADLINE, alone};

/// The same with rings of every kind: `test` gets a device and the features to ask it for.
pub fn each_kind(queues: u16, test: impl Fn(&Back, u64)) {
    let _alone = alone();
    for kind in KINDS {
        println!("kind of ring {kind:#x}");
        test(&Back::new(queues), with_kind(u64::MAX, kind));
    }
}

/// So many workers.
pub fn workers(count: usize) -> Workers {
    Workers::start(&WorkersConfig { count, ..WorkersConfig::default() }).unwrap()
}

pub struct Back {
    sessions: Option<Sender<UnixStream>>,
    ends: Receiver<Result<SessionEnd, SessionError>>,
    thread: Option<JoinHandle<()>>,
    pub stop: Stop,
    pub stats: Stats,
    pub seen: Arc<Seen>,
}

impl Back {
    pub fn new(queues: u16) -> Self {
        Self::with(DeviceConfig { queues, ..DeviceConfig::default() })
    }

    /// With a worker of its own.
    pub fn with(config: DeviceConfig) -> Self {
        Self::at(config, &workers(1))
    }

    /// With workers that others have as well.
    pub fn at(config: DeviceConfig, workers: &Workers) -> Self {
        let seen = Arc::<Seen>::default();
        let mut device = Device::new(config, Mirror { seen: Arc::clone(&seen), pairs: 4 }, workers).unwrap();
        let (stop, stats) = (Stop::new().unwrap(), device.stats());
        let (sessions, waiting) = channel();
        let (ended, ends) = channel();
        let request = stop.clone();
        let thread = std::thread::spawn(move || {
            for connection in waiting {
                ended.send(device.serve(connection, &request)).unwrap();
            }
        });
        Self { sessions: Some(sessions), ends, thread: Some(thread), stop, stats, seen }
    }

    /// The front end's side of a new session.
    pub fn connect(&self) -> UnixStream {
        let (front, back) = UnixStream::pair().unwrap();
        self.sessions.as_ref().unwrap().send(back).unwrap();
        front
    }

    /// Serves a connection that was accepted elsewhere.
    pub fn serve(&self, connection: UnixStream) {
        self.sessions.as_ref().unwrap().send(connection).unwrap();
    }

    /// How the session ended.
    pub fn end(&self) -> Result<SessionEnd, SessionError> {
        self.ends.recv_timeout(DEADLINE).expect("the session ends")
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        self.stop.request();
        drop(self.sessions.take());
        let thread = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            thread.unwrap();
        }
    }
}

/// The front end hangs up, and everything was given back.
pub fn finish(back: &Back, front: Front) {
    drop(front);
    assert_eq!(back.end().unwrap(), SessionEnd::Disconnected);
    assert_eq!(back.seen.starts.load(Ordering::SeqCst), back.seen.stops.load(Ordering::SeqCst));
    assert_eq!(back.seen.active.load(Ordering::SeqCst), 0);
}
