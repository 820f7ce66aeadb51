//! What a TCP connection is for.

use sha2::{Digest, Sha256};
use smoltcp::socket::tcp::{Socket, State};

use crate::pattern;
use crate::stats::{Service, UserNetStats};

const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const SOURCE: u16 = 19;
const DIGEST: u16 = 4809;

/// Bytes that an echo moves at once.
const BLOCK: usize = 1 << 16;

/// A service's side of one connection.
#[derive(Debug)]
pub(super) enum Job {
    Echo,
    Discard,
    /// How far into the period of the pattern it is.
    Source(usize),
    /// The hash, until it was sent.
    Digest(Option<Box<Sha256>>),
}

impl Job {
    /// The service at a port.
    pub(super) const fn service(port: u16) -> Option<Service> {
        match port {
            ECHO => Some(Service::TcpEcho),
            DISCARD => Some(Service::TcpDiscard),
            SOURCE => Some(Service::TcpSource),
            DIGEST => Some(Service::TcpDigest),
            _ => None,
        }
    }

    pub(super) fn new(service: Service) -> Self {
        match service {
            Service::TcpEcho => Self::Echo,
            Service::TcpSource => Self::Source(0),
            Service::TcpDigest => Self::Digest(Some(Box::default())),
            _ => Self::Discard,
        }
    }

    /// Takes and gives as much as the socket allows now, and closes when the guest has.
    pub(super) fn run(&mut self, socket: &mut Socket<'_>, block: &mut Vec<u8>, stats: &mut UserNetStats) {
        match self {
            Self::Echo => echo(socket, block, stats),
            Self::Discard => {
                let n = take(socket, |_| ());
                stats.count(Service::TcpDiscard, n, 0);
            }
            Self::Source(at) => {
                let n = take(socket, |_| ());
                let sent = source(socket, at);
                stats.count(Service::TcpSource, n, sent);
            }
            Self::Digest(hash) => digest(socket, hash, stats),
        }
        if socket.state() == State::CloseWait && socket.recv_queue() == 0 {
            socket.close();
        }
    }
}

/// Takes everything that has come; returns how many bytes.
fn take(socket: &mut Socket<'_>, mut see: impl FnMut(&[u8])) -> usize {
    let mut total = 0_usize;
    loop {
        let taken = socket.recv(|data| {
            see(data);
            (data.len(), data.len())
        });
        match taken {
            Ok(n) if n > 0 => total = total.saturating_add(n),
            _ => return total,
        }
    }
}

fn echo(socket: &mut Socket<'_>, block: &mut Vec<u8>, stats: &mut UserNetStats) {
    block.resize(BLOCK, 0);
    loop {
        let room = socket.send_capacity().saturating_sub(socket.send_queue()).min(BLOCK);
        let place = block.get_mut(..room).unwrap_or_default();
        let n = socket.recv_slice(place).unwrap_or(0);
        if n == 0 {
            return;
        }
        // There is room for all of it, unless the guest has reset the connection.
        let sent = socket.send_slice(place.get(..n).unwrap_or_default()).unwrap_or(0);
        stats.count(Service::TcpEcho, n, sent);
    }
}

fn source(socket: &mut Socket<'_>, at: &mut usize) -> usize {
    let mut total = 0_usize;
    if socket.state() != State::Established {
        return total;
    }
    loop {
        let sent = socket.send(|room| {
            let n = pattern::fill(room, *at);
            (n, n)
        });
        match sent {
            Ok(n) if n > 0 => {
                *at = pattern::advance(*at, n);
                total = total.saturating_add(n);
            }
            _ => return total,
        }
    }
}

fn digest(socket: &mut Socket<'_>, hash: &mut Option<Box<Sha256>>, stats: &mut UserNetStats) {
    let n = take(socket, |data| {
        if let Some(hash) = hash.as_mut() {
            hash.update(data);
        }
    });
    let mut sent = 0;
    if socket.state() == State::CloseWait
        && socket.recv_queue() == 0
        && let Some(hash) = hash.take()
    {
        let mut text: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        text.push('\n');
        // The send buffer is empty and longer than this.
        sent = socket.send_slice(text.as_bytes()).unwrap_or(0);
    }
    stats.count(Service::TcpDigest, n, sent);
}
