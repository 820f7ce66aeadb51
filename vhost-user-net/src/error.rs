//! Why the daemon does not start, or ends.

use std::io;
use std::path::PathBuf;

use tap_io::TapError;
use user_net::ConfigError;
use vhost_glue::ListenError;

/// One clear line each.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("--net tap: {0}")]
    Tap(#[from] TapError),
    #[error("--net tap: {name} has {has} queue(s), --queues asks for {asked}")]
    TapQueues { name: String, has: usize, asked: u16 },
    #[error("--net user: {0}")]
    UserNet(#[from] ConfigError),
    #[error("--pin: CPU {cpu} is not one that this process may use")]
    Cpu { cpu: usize },
    #[error("--capture {path}: {source}", path = path.display())]
    Capture { path: PathBuf, source: io::Error },
    #[error("--stats-json {path}: {source}", path = path.display())]
    StatsJson { path: PathBuf, source: io::Error },
    #[error("--socket {path}: exists and is not a socket", path = path.display())]
    NotASocket { path: PathBuf },
    #[error("--socket {path}: {source}", path = path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("device: {0}")]
    Device(String),
}

impl DaemonError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
