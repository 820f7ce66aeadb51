//! `--capture`: every frame to a pcapng file, beside the data path.
//!
//! Workers copy frames into a bounded queue and go on; a thread of its own writes them. What the queue cannot take is
//! left out of the file and counted.

mod pcapng;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use virtio_net_core::NetHeader;
use virtio_net_core::backend::TxFrame;
use virtio_net_core::rx::RxWatch;
use virtio_ring::GuestSlice;

use pcapng::{Direction, Packet};

/// Frames that wait for the disk at most.
const MAX_FRAMES: usize = 16_384;
/// Bytes that wait for the disk at most.
const MAX_BYTES: usize = 64 << 20;
/// How long the end waits for the disk.
const LAST_WRITE: Duration = Duration::from_secs(5);
/// How long what was captured may stay out of the file.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    ended: AtomicBool,
}

/// Frames captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CaptureStats {
    pub(crate) written: u64,
    pub(crate) dropped: u64,
}

/// Where workers hand frames in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    queue: SyncSender<Packet>,
    shared: Arc<Shared>,
}

/// The end of the thread that writes.
#[derive(Debug)]
pub(crate) struct CaptureWriter {
    result: Receiver<io::Result<()>>,
    shared: Arc<Shared>,
}

/// Creates the file and starts writing to it.
///
/// # Errors
/// The file cannot be created or written; a file that this made is removed again.
pub(crate) fn start(path: &Path) -> io::Result<(Capture, CaptureWriter)> {
    let new = !path.exists();
    let file = File::create(path)?;
    let begun = (|| {
        let mut file = BufWriter::with_capacity(1 << 18, file);
        pcapng::write_start(&mut file)?;
        file.flush()?;
        let (queue, frames) = sync_channel(MAX_FRAMES);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let (end, result) = channel();
        let run = move || {
            // Whoever would want to know may have stopped waiting.
            let _ = end.send(run(file, &frames, &theirs));
        };
        std::thread::Builder::new().name("capture".into()).spawn(run)?;
        Ok((Capture { queue, shared: Arc::clone(&shared) }, CaptureWriter { result, shared }))
    })();
    if begun.is_err() && new {
        let _ = std::fs::remove_file(path);
    }
    begun
}

fn run(mut file: BufWriter<File>, frames: &Receiver<Packet>, shared: &Shared) -> io::Result<()> {
    loop {
        match frames.recv_timeout(FLUSH_AFTER) {
            Ok(packet) => {
                shared.waiting.fetch_sub(packet.frame.len(), Ordering::Relaxed);
                if let Err(error) = pcapng::write_packet(&mut file, &packet) {
                    tracing::error!("capture ends here: {error}");
                    return Err(error);
                }
                shared.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(RecvTimeoutError::Timeout) if shared.ended.load(Ordering::Relaxed) => break,
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = file.flush() {
                    tracing::error!("capture ends here: {error}");
                    return Err(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    file.flush()
}

impl CaptureWriter {
    /// Writes what still waits, and ends, but does not wait for a disk that takes nothing. Nothing may be handed in
    /// any more.
    pub(crate) fn finish(self) -> (CaptureStats, io::Result<()>) {
        self.shared.ended.store(true, Ordering::Relaxed);
        let result = self.result.recv_timeout(LAST_WRITE).unwrap_or_else(|error| Err(io::Error::other(error)));
        (stats(&self.shared), result)
    }
}

fn stats(shared: &Shared) -> CaptureStats {
    CaptureStats { written: shared.written.load(Ordering::Relaxed), dropped: shared.dropped.load(Ordering::Relaxed) }
}

impl Capture {
    /// The counters, readable after the writer's end.
    pub(crate) fn stats(&self) -> CaptureStats {
        stats(&self.shared)
    }

    /// For one queue pair.
    pub(crate) fn queue(&self) -> QueueCapture {
        QueueCapture { capture: self.clone() }
    }

    /// Reserves room for a frame of `len` bytes.
    fn reserve(&self, len: usize) -> bool {
        let before = self.shared.waiting.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) > MAX_BYTES {
            self.unreserve(len);
            return false;
        }
        true
    }

    fn unreserve(&self, len: usize) {
        self.shared.waiting.fetch_sub(len, Ordering::Relaxed);
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn hand_in(&self, direction: Direction, header: &NetHeader, frame: Vec<u8>) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let len = frame.len();
        if self.queue.try_send(Packet { time, direction, header: *header, frame }).is_err() {
            self.unreserve(len);
        }
    }
}

/// Captures the frames of one queue pair.
#[derive(Debug)]
pub(crate) struct QueueCapture {
    capture: Capture,
}

impl QueueCapture {
    /// The guest sent these.
    pub(crate) fn sent<'a>(&self, frames: impl Iterator<Item = TxFrame<'a>>) {
        for frame in frames {
            if self.capture.reserve(frame.len()) {
                let mut bytes = vec![0; frame.len()];
                frame.copy_to(&mut bytes);
                self.capture.hand_in(Direction::Outbound, &frame.header, bytes);
            }
        }
    }
}

impl RxWatch for QueueCapture {
    fn delivered(&mut self, header: &NetHeader, len: usize, frame: &mut dyn Iterator<Item = GuestSlice<'_>>) {
        if !self.capture.reserve(len) {
            return;
        }
        let mut bytes = vec![0; len];
        let mut rest = &mut bytes[..];
        for segment in frame {
            let n = segment.read(rest);
            rest = rest.get_mut(n..).unwrap_or_default();
        }
        self.capture.hand_in(Direction::Inbound, header, bytes);
    }
}

#[cfg(test)]
pub(crate) mod tests;
