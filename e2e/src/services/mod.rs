//! What the guest's checks talk to when the host end is a real Linux network stack: echo, discard, source,
//! digest and counter, and DNS for the host's own name, on plain sockets and threads. The embedded network
//! speaks the same protocol by itself.
//!
//! | port | TCP | UDP |
//! |---|---|---|
//! | 7 | what comes goes back (RFC 862) | the same |
//! | 9 | what comes is dropped; closes when the other side has (RFC 863) | dropped |
//! | 19 | the pattern of RFC 864 without end, from its first byte | `SEND count size`: that many datagrams, each beginning with its number as a big-endian u32 |
//! | 53 | | DNS for `host.virtio.internal` |
//! | 67 | | DHCP, in a namespace only |
//! | 4809 | lower-case SHA-256 of what came and a line end, after the half-close | counts by source; `REPORT` is answered with `packets bytes` and a line end, and starts anew |

mod dhcp;
mod tcp;
mod udp;

use crate::Error;
use guest_agent::port;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a waiting thread looks whether it should end.
const GLANCE: Duration = Duration::from_millis(100);

/// Where the services are, and on which ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In this process's network namespace, on any ports that are free, and without DHCP.
    Here,
    /// In the network namespace of this name, on the ports of the protocol, with DHCP.
    Namespace(&'a str),
}

/// Running services. They end when this is dropped.
#[derive(Debug)]
pub struct Services {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    tcp: BTreeMap<u16, SocketAddr>,
    udp: BTreeMap<u16, SocketAddr>,
}

impl Services {
    /// Starts them on all addresses, of both IP versions.
    ///
    /// # Errors
    /// The namespace cannot be entered or a port cannot be had.
    pub fn start(place: Place<'_>) -> Result<Self, Error> {
        let namespace = match place {
            Place::Here => None,
            Place::Namespace(name) => Some(name.to_owned()),
        };
        let (tcp, udp) = in_namespace(namespace.as_deref(), || open_all(namespace.is_some()))?;
        let mut services =
            Self { stop: Arc::default(), threads: Vec::new(), tcp: BTreeMap::new(), udp: BTreeMap::new() };
        for (number, listener) in tcp {
            services.tcp.insert(number, listener.local_addr().map_err(failed("TCP", number))?);
            let stop = Arc::clone(&services.stop);
            services.threads.push(std::thread::spawn(move || tcp::serve(number, &listener, &stop)));
        }
        for (number, socket) in udp {
            services.udp.insert(number, socket.local_addr().map_err(failed("UDP", number))?);
            let stop = Arc::clone(&services.stop);
            services.threads.push(std::thread::spawn(move || udp::serve(number, &socket, &stop)));
        }
        Ok(services)
    }

    /// Where the TCP service with this number of the protocol listens.
    pub fn tcp(&self, number: u16) -> Option<SocketAddr> {
        self.tcp.get(&number).copied()
    }

    /// Where the UDP service with this number of the protocol listens.
    pub fn udp(&self, number: u16) -> Option<SocketAddr> {
        self.udp.get(&number).copied()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

type Opened = (Vec<(u16, TcpListener)>, Vec<(u16, UdpSocket)>);

/// Opens something in a network namespace. Sockets stay where they were made: a short-lived thread goes there, so that
/// the caller need not.
pub(crate) fn in_namespace<T: Send>(
    namespace: Option<&str>,
    open: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let opened = std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            namespace.map_or(Ok(()), enter)?;
            open()
        });
        opener.join()
    });
    opened.map_err(|_| Error::Service { name: "all".to_owned(), source: io::ErrorKind::BrokenPipe.into() })?
}

fn enter(namespace: &str) -> Result<(), Error> {
    let path = Path::new("/run/netns").join(namespace);
    let file = File::open(&path).map_err(Error::file(&path))?;
    let entered = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
    entered.map_err(|e| Error::File { path, source: e.into() })
}

/// Everything; on the ports of the protocol if they are its own.
fn open_all(own: bool) -> Result<Opened, Error> {
    let at = |number| (Ipv6Addr::UNSPECIFIED, if own { number } else { 0 });
    let tcp = [port::ECHO, port::DISCARD, port::SOURCE, port::DIGEST].map(|number| {
        let listener = TcpListener::bind(at(number)).and_then(|l| l.set_nonblocking(true).map(|()| l));
        listener.map(|l| (number, l)).map_err(failed("TCP", number))
    });
    let mut numbers = vec![port::ECHO, port::DISCARD, port::SOURCE, port::DNS, port::DIGEST];
    numbers.extend(own.then_some(port::DHCP));
    let udp = numbers.into_iter().map(|number| {
        let socket = UdpSocket::bind(at(number)).and_then(|s| s.set_read_timeout(Some(GLANCE)).map(|()| s));
        socket.map(|s| (number, s)).map_err(failed("UDP", number))
    });
    let tcp = tcp.into_iter().collect::<Result<_, _>>()?;
    Ok((tcp, udp.collect::<Result<_, _>>()?))
}

fn failed(protocol: &'static str, number: u16) -> impl Fn(io::Error) -> Error {
    move |source| Error::Service { name: format!("{protocol} {number}"), source }
}

#[cfg(test)]
mod tests;
