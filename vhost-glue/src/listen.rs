//! Getting a connection: as the side that listens, or as the one that connects.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::stop::{Stop, wait_for};

/// Why a socket path cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process listens there.
    #[error("{path}: another process is listening at this socket", path = path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else has that name.
    #[error("{path}: exists and is not a socket", path = path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system said no.
    #[error("{path}: cannot listen: {source}", path = path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening socket. Its path is removed with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the path, so that a successor's socket is not removed.
    identity: Option<(u64, u64)>,
}

/// Listens at `path`. A socket that a dead process left there is replaced.
///
/// # Errors
/// [`ListenError`]; nothing is left behind.
pub fn listen(path: &Path) -> Result<Listener, ListenError> {
    let fail = |source| ListenError::Io { path: path.to_owned(), source };
    let socket = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            clear(path)?;
            UnixListener::bind(path).map_err(fail)?
        }
        other => other.map_err(fail)?,
    };
    let identity = std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let listener = Listener { socket, path: path.to_owned(), identity };
    listener.socket.set_nonblocking(true).map_err(fail)?;
    Ok(listener)
}

/// Removes a socket at which nobody listens.
fn clear(path: &Path) -> Result<(), ListenError> {
    let owned = || path.to_owned();
    let fail = |source| ListenError::Io { path: owned(), source };
    let kind = std::fs::symlink_metadata(path).map_err(fail)?.file_type();
    if !kind.is_socket() {
        return Err(ListenError::NotASocket { path: owned() });
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(fail),
        _ => Err(ListenError::InUse { path: owned() }),
    }
}

impl Listener {
    /// The next connection, or `None` if a stop was requested first.
    ///
    /// # Errors
    /// A fault of the socket.
    pub fn accept(&self, stop: &Stop) -> io::Result<Option<UnixStream>> {
        loop {
            if !wait_for(self.socket.as_fd(), PollFlags::IN, stop)? {
                return Ok(None);
            }
            match self.socket.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                // Gone again, or taken by nobody: wait for the next one.
                Err(e) if transient(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn transient(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(e.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

impl Drop for Listener {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path).ok().map(|m| (m.dev(), m.ino()));
        if now.is_some() && now == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Connects to a front end that listens at `path`, trying again every `retry` until one does. `None` if a stop was
/// requested first.
///
/// # Errors
/// Anything but "nobody listens there" and "no such path".
pub fn connect(path: &Path, retry: Duration, stop: &Stop) -> io::Result<Option<UnixStream>> {
    let pause = Timespec::try_from(retry).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(Some(stream)),
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
            Err(e) => return Err(e),
        }
        let mut fds = [PollFd::new(stop, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&pause)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}
