//! The guests: each with its socket, its device and a thread that speaks the protocol with it.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use vhost_glue::{Device, Listener, SessionEnd, Stop, listen};

use crate::error::DaemonError;
use crate::ledger::Ledger;
use crate::port::HostEnd;
use crate::state;

/// The first and the longest pause between attempts to connect.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// A session at least this long was a real one: the next attempt comes at once.
const REAL_SESSION: Duration = Duration::from_secs(1);
/// Stack of a session's thread in bytes. There may be a thousand of them, and all they do is small.
const STACK: usize = 256 << 10;

/// How guests are met.
#[derive(Debug)]
pub(crate) enum Way {
    Listening(Listener),
    Connecting(PathBuf),
}

impl Way {
    pub(crate) fn open(path: &Path, client: bool) -> Result<Self, DaemonError> {
        if !client {
            return Ok(Self::Listening(listen(path)?));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() && !found.file_type().is_symlink() => {
                Err(DaemonError::NotASocket { path: path.to_owned() })
            }
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(DaemonError::Socket { path: path.to_owned(), source })
            }
            _ => Ok(Self::Connecting(path.to_owned())),
        }
    }
}

/// One socket, and everything behind it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) way: Way,
    pub(crate) device: Device<HostEnd>,
    pub(crate) ledger: Arc<Ledger>,
    /// Where its state is kept.
    pub(crate) state: Option<PathBuf>,
}

/// What serving a guest takes besides its way in.
struct Host<'a> {
    device: &'a mut Device<HostEnd>,
    ledger: &'a Ledger,
    state: Option<&'a Path>,
}

/// Serves all of them, each on a thread of its own, until a stop is requested.
///
/// # Errors
/// A thread cannot be had; those before it have ended then.
pub(crate) fn serve_all(guests: &mut [Guest], stop: &Stop) -> io::Result<()> {
    let several = guests.len() > 1;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut result = Ok(());
        for (number, guest) in guests.iter_mut().enumerate() {
            let builder = std::thread::Builder::new().name(format!("guest-{number}")).stack_size(STACK);
            let socket = guest.ledger.socket().display().to_string();
            let body = move || {
                // What is logged about a guest says which one it is, if there are several.
                let span = if several { tracing::info_span!("guest", socket) } else { tracing::Span::none() };
                span.in_scope(|| guest.serve(stop));
            };
            match builder.spawn_scoped(scope, body) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    stop.request();
                    result = Err(error);
                    break;
                }
            }
        }
        for thread in threads {
            // A scope would pass the panic on, and with it end what the others have still to do.
            if thread.join().is_err() {
                tracing::error!("the thread of a guest's session died");
            }
        }
        result
    })
}

impl Guest {
    /// Serves one session after the other until a stop is requested.
    fn serve(&mut self, stop: &Stop) {
        let Self { way, device, ledger, state } = self;
        let mut host = Host { device, ledger, state: state.as_deref() };
        match way {
            Way::Listening(listener) => serve_listening(&mut host, listener, stop),
            Way::Connecting(path) => serve_connecting(&mut host, path, stop),
        }
    }
}

fn serve_listening(host: &mut Host<'_>, listener: &Listener, stop: &Stop) {
    tracing::info!("listening at {}", listener.path().display());
    loop {
        match listener.accept(stop) {
            Ok(Some(stream)) => session(host, stream, stop),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("no connection: {error}");
                pause(BACK_OFF.1, stop);
            }
        }
        if stop.is_requested() {
            return;
        }
    }
}

fn serve_connecting(host: &mut Host<'_>, path: &Path, stop: &Stop) {
    tracing::info!("connecting to {}", path.display());
    let mut wait = BACK_OFF.0;
    let mut said = None;
    while !stop.is_requested() {
        match UnixStream::connect(path) {
            Ok(stream) => {
                said = None;
                let begun = Instant::now();
                session(host, stream, stop);
                if begun.elapsed() >= REAL_SESSION {
                    wait = BACK_OFF.0;
                }
            }
            Err(error) if said == Some(error.kind()) => {}
            Err(error) => {
                said = Some(error.kind());
                tracing::info!("{}: {error}; trying again", path.display());
            }
        }
        pause(wait, stop);
        wait = wait.saturating_mul(2).min(BACK_OFF.1);
    }
}

/// Waits, or returns at once when a stop is requested.
fn pause(time: Duration, stop: &Stop) {
    let Ok(time) = Timespec::try_from(time) else { return };
    // Interrupted, it is a shorter pause.
    let _ = rustix::event::poll(&mut [PollFd::new(stop, PollFlags::IN)], Some(&time));
}

fn session(host: &mut Host<'_>, stream: UnixStream, stop: &Stop) {
    let Host { device, ledger, state } = host;
    tracing::info!("guest connected");
    match device.serve(stream, stop) {
        Ok(SessionEnd::Disconnected) => tracing::info!("guest disconnected"),
        Ok(SessionEnd::Stopped) => tracing::info!("rings stopped"),
        Err(error) => tracing::warn!("guest's session ended: {error}"),
    }
    if let (Some(path), Some(kept)) = (state, device.state())
        && let Err(error) = state::store(path, &kept)
    {
        tracing::error!("the state is not kept: {error}");
    }
    let before = ledger.totals();
    ledger.close_session();
    let spoofed = before.now.pairs.iter().fold(0_u64, |sum, pair| sum.saturating_add(pair.tx.filtered));
    if spoofed > 0 {
        tracing::warn!("{spoofed} frames of this guest were not its own by --spoof-check: dropped");
    }
}
