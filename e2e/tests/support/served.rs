//! A device of this process that serves one front end, with the test as the other end of its wire.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::wire::Wire;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vhost_glue::{Device, DeviceConfig, SessionEnd, Snapshot, Stats, Stop, Workers, WorkersConfig};

const PATIENCE: Duration = Duration::from_secs(10);

/// The device, the wire, and the socket for the front end.
pub(crate) struct Served {
    pub(crate) wire: Wire,
    stats: Stats,
    stop: Stop,
    serving: Option<JoinHandle<SessionEnd>>,
    folder: tempfile::TempDir,
}

impl Served {
    /// It listens when this returns.
    pub(crate) fn start(config: DeviceConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (wire, stop) = (Wire::new(config.queues), Stop::new().unwrap());
        let workers = Workers::start(&WorkersConfig { count: 1, ..WorkersConfig::default() }).unwrap();
        let mut device = Device::new(config, wire.clone(), &workers).unwrap();
        let stats = device.stats();
        let listener = vhost_glue::listen(&folder.path().join("vm.sock")).unwrap();
        let until = stop.clone();
        let serving = std::thread::spawn(move || {
            let connection = listener.accept(&until).unwrap();
            connection.map_or(SessionEnd::Stopped, |connection| device.serve(connection, &until).unwrap())
        });
        Self { wire, stats, stop, serving: Some(serving), folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("vm.sock")
    }

    pub(crate) fn stats(&self) -> Snapshot {
        self.stats.snapshot()
    }

    /// Waits until the device says so.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Snapshot) -> bool) {
        let begin = Instant::now();
        while !done(&self.stats()) {
            assert!(begin.elapsed() < PATIENCE, "not in time: {what}: {:?}", self.stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The front end has gone, in good order.
    pub(crate) fn end(mut self) -> Snapshot {
        let end = self.serving.take().map(|serving| serving.join().unwrap());
        assert_eq!(end, Some(SessionEnd::Disconnected));
        let stats = self.stats();
        assert_eq!(stats.refusals, 0, "refused requests");
        stats
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // After a failure the front end may still be there.
        self.stop.request();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}
