//! `--state FILE` and `state show FILE`: what guests commanded, kept from one run of the daemon to the next.

use std::fmt::Write;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use virtio_net_core::state::{HashState, MAX_LEN, NetState, StateError};
use virtio_net_core::steering::RssConfig;

/// A file that is no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it cannot be.
    #[error("{}: {error}", path.display())]
    State {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        error: StateError,
    },
}

/// Reads a state.
pub(crate) fn load(path: &Path) -> Result<NetState, FileError> {
    let file = |source| FileError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // No more than is refused for its length.
    let most = (MAX_LEN as u64).saturating_add(1);
    std::fs::File::open(path).map_err(file)?.take(most).read_to_end(&mut bytes).map_err(file)?;
    NetState::parse(&bytes).map_err(|error| FileError::State { path: path.to_owned(), error })
}

/// Replaces the file: it is there as a whole or as it was.
pub(crate) fn store(path: &Path, state: &NetState) -> Result<(), FileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = std::fs::write(&new, state.to_bytes()).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|source| FileError::File { path: path.to_owned(), source })
}

/// A state for a reader, one fact a line, so that two of them can be compared with `diff`.
pub(crate) fn show(state: &NetState) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // A string takes what it is given.
        let _ = writeln!(text, "{name:<22} {value}");
    };
    line("features", &state.acked);
    line("control queue", &yes(state.commanded));
    line("suspended", &yes(state.suspended));
    line("link", &if state.link_up { "up" } else { "down" });
    line("to be announced", &yes(state.announce));
    if let Some(up) = state.link_later {
        line("link after resume", &if up { "up" } else { "down" });
    }
    line("queue pairs", &format_args!("{} of {}", state.used_pairs, state.pairs));
    let enabled: Vec<usize> = state.enabled.iter().enumerate().filter(|(_, on)| **on).map(|(i, _)| i).collect();
    line("queues set up", &list(&enabled));
    let receive = &state.receive;
    line("own address", &receive.own);
    let modes: Vec<_> = receive.modes.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    line("receive modes", &list(&modes));
    let all = [("unicast", receive.all_unicast), ("multicast", receive.all_multicast)];
    let all: Vec<_> = all.iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
    line("received without table", &list(&all));
    line("addresses", &list(&receive.addresses));
    match &receive.vlans {
        Some(vlans) => line("vlans", &list(&vlans.iter().collect::<Vec<_>>())),
        None => line("vlans", &"all"),
    }
    line("receive offloads", &state.offloads);
    line("tunnels hashed inside", &flags(state.tunnels.iter_names().map(|(name, _)| name)));
    match &state.hash {
        HashState::Hash(hash) => {
            line("hash types", &flags(hash.types.iter_names().map(|(name, _)| name)));
            line("hash key", &hex(&hash.key));
        }
        HashState::Rss(rss) => {
            line("hash types", &flags(rss.types.iter_names().map(|(name, _)| name)));
            line("hash key", &hex(&rss.key));
            line("queues by hash", &table(rss));
        }
    }
    for (id, rss) in &state.contexts {
        line(&format!("context {id}"), &table(rss));
    }
    let coalescing = &state.coalescing;
    let named = [("receive queues".to_owned(), coalescing.rx), ("transmit queues".to_owned(), coalescing.tx)];
    let queues = coalescing.queues.iter().enumerate().map(|(i, p)| (format!("queue {i}"), *p));
    for (name, params) in named.into_iter().chain(queues).filter(|(_, params)| params.is_on()) {
        let value = format!("a call for {} packets or after {} us", params.max_packets, params.max_usecs);
        line(&format!("calls, {name}"), &value);
    }
    line("commands", &format_args!("{}, {} carried out", state.commands.commands, state.commands.ok));
    for ring in &state.rings {
        line(&format!("ring {}", ring.index), &format_args!("{} entries, at {:#x}", ring.size, ring.state.0));
    }
    text
}

const fn yes(on: bool) -> &'static str {
    if on { "yes" } else { "no" }
}

fn list<T: ToString>(all: &[T]) -> String {
    if all.is_empty() { "none".to_owned() } else { all.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

fn flags<'a>(names: impl Iterator<Item = &'a str>) -> String {
    list(&names.collect::<Vec<_>>())
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "none".to_owned()
    } else {
        bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
    }
}

fn table(rss: &RssConfig) -> String {
    format!("{}; unclassified {}; {} transmit queues", list(&rss.table), rss.unclassified, rss.max_tx_vq)
}
