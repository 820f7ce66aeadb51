//! What can go wrong around a guest, each in one line.

use std::path::PathBuf;
use std::time::Duration;

/// Why a guest, its set-up or its surroundings failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read, written or found.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// The whole command.
        command: String,
        /// Exit state and its last complaint.
        reason: String,
    },
    /// A package that the system's package lists do not have.
    #[error("no package {wanted} in the package lists of this system ({system}), needed for: {why}")]
    NoPackage {
        /// Name or pattern.
        wanted: String,
        /// `PRETTY_NAME` of the system.
        system: String,
        /// What it is for.
        why: String,
    },
    /// Something needs root.
    #[error("{what} needs root: run as root, or with sudo")]
    NeedsRoot {
        /// What.
        what: &'static str,
    },
    /// The kernel could not set aside that many huge pages.
    #[error("{got} huge pages are free, expected {wanted}: memory is used up or in pieces")]
    HugePages {
        /// Asked for.
        wanted: u64,
        /// Free after that.
        got: u64,
    },
    /// A guest kind was booted that was not prepared.
    #[error("{what} is not prepared: name its kind in Workshop::prepare")]
    NotPrepared {
        /// What is missing.
        what: String,
    },
    /// This combination does not exist.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The guest did not finish in time.
    #[error("the guest did not finish within {0:?}; its console is in {console}", console = .1.display())]
    Deadline(Duration, PathBuf),
    /// The guest ended before its plan did.
    #[error("the guest ended before its checks ({state}); last console line: {last:?}; console in {console}", console = console.display())]
    Died {
        /// Exit state of the process.
        state: String,
        /// Last line it printed.
        last: String,
        /// Where the console was kept.
        console: PathBuf,
    },
    /// A front end of ours and its back end did not get along.
    #[error("front end at {socket}: {reason}", socket = socket.display())]
    Front {
        /// The socket.
        socket: PathBuf,
        /// What the back end lacks, refused or did.
        reason: String,
    },
    /// A service could not be set up.
    #[error("service {name}: {source}")]
    Service {
        /// Which.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`: a file and what happened to it.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
