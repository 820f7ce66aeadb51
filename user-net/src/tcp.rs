//! TCP connections: a bounded set of smoltcp sockets, reused, and what each of them is for.
//!
//! A socket listens only while the segment that opens its connection is being looked at. So nobody can use listeners
//! up, and when all sockets are taken the oldest connection that was never established makes room.

mod recovery;
mod service;

use std::net::SocketAddr;
use std::time::Instant;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

use crate::offload::mss_option;
use crate::packet::{Packet, TCP};
use crate::stats::{Service, UserNetStats};
use recovery::Recovery;
use service::Job;

/// A connection whose guest says nothing for this long is given up.
const TIMEOUT: Duration = Duration::from_secs(120);
/// A guest that says nothing is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Send or receive buffer of the direction that carries little.
const SMALL: usize = 4096;
/// What smoltcp takes for the MSS of a peer that names none, and the least that it believes.
const DEFAULT_MSS: u16 = 536;
const LEAST_MSS: u16 = 48;

/// Both ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ends {
    pub(crate) guest: SocketAddr,
    pub(crate) host: SocketAddr,
}

/// A segment that opens a connection to a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opening {
    ends: Ends,
    service: Service,
    mss: u16,
}

#[derive(Debug)]
struct Slot {
    handle: SocketHandle,
    service: Service,
    ends: Option<Ends>,
    /// When it was opened: a number that grows.
    opened: u64,
    mss: u16,
    established: bool,
    job: Job,
    recovery: Recovery,
}

/// The connections.
#[derive(Debug)]
pub(crate) struct Connections {
    slots: Vec<Slot>,
    most: usize,
    window: usize,
    opened: u64,
    block: Vec<u8>,
}

impl Opening {
    /// Looks at a TCP segment. `None` if it opens nothing, or nothing that there is.
    pub(crate) fn read(frame: &[u8], packet: &Packet) -> Option<Self> {
        let (from, to) = packet.ports(frame).filter(|_| packet.protocol == TCP)?;
        let service = Job::service(to)?;
        let header = packet.tcp_header(frame)?;
        let segment = packet.transport(frame);
        // SYN without ACK, RST and FIN.
        if segment.get(13)? & 0x17 != 0x02 || from == 0 {
            return None;
        }
        // smoltcp takes 0 for none.
        let mss = mss_option(segment.get(20..header)?).map_or(0, |(_, mss)| mss);
        let mss = if mss == 0 { DEFAULT_MSS } else { mss.max(LEAST_MSS) };
        let ends = Ends { guest: SocketAddr::new(packet.src, from), host: SocketAddr::new(packet.dst, to) };
        Some(Self { ends, service, mss })
    }
}

impl Connections {
    pub(crate) const fn new(most: usize, window: usize) -> Self {
        Self { slots: Vec::new(), most, window, opened: 0, block: Vec::new() }
    }

    /// Makes a socket listen for this connection, if there is one to be had. False if not.
    pub(crate) fn open(&mut self, sockets: &mut SocketSet<'_>, opening: &Opening) -> bool {
        // A half-open connection that was reset listens again: not for this one.
        for slot in &self.slots {
            let socket = sockets.get_mut::<Socket<'_>>(slot.handle);
            if socket.state() == State::Listen {
                socket.abort();
            }
        }
        let state = |slot: &Slot| sockets.get::<Socket<'_>>(slot.handle).state();
        let known = self.slots.iter().position(|s| s.ends == Some(opening.ends) && state(s) != State::Closed);
        if let Some(n) = known
            && self.slots.get(n).is_some_and(|s| state(s) != State::TimeWait)
        {
            // The same again: its own socket knows what to say.
            return true;
        }
        let free = || self.slots.iter().position(|s| s.service == opening.service && state(s) == State::Closed);
        let index = match known.or_else(free) {
            Some(n) => n,
            None if self.slots.len() < self.most => self.slots.len(),
            None => {
                let ranked = self.slots.iter().enumerate().filter_map(|(n, s)| Some((rank(state(s))?, s.opened, n)));
                match ranked.min() {
                    Some((_, _, n)) => n,
                    None => return false,
                }
            }
        };
        self.occupy(sockets, index, opening)
    }

    /// Puts the connection into slot `index`, with its socket if it is for the same service.
    fn occupy(&mut self, sockets: &mut SocketSet<'_>, index: usize, opening: &Opening) -> bool {
        let old = (index < self.slots.len()).then(|| self.slots.swap_remove(index));
        let handle = match old {
            Some(slot) if slot.service == opening.service => slot.handle,
            other => {
                if let Some(slot) = other {
                    drop(sockets.remove(slot.handle));
                }
                sockets.add(self.socket(opening.service))
            }
        };
        let socket = sockets.get_mut::<Socket<'_>>(handle);
        socket.abort();
        let listens = socket.listen((opening.ends.host.ip(), opening.ends.host.port())).is_ok();
        self.opened = self.opened.wrapping_add(1);
        self.slots.push(Slot {
            handle,
            service: opening.service,
            ends: Some(opening.ends),
            opened: self.opened,
            mss: opening.mss,
            established: false,
            job: Job::new(opening.service),
            recovery: Recovery::default(),
        });
        listens
    }

    fn socket(&self, service: Service) -> Socket<'static> {
        let (rx, tx) = match service {
            Service::TcpEcho => (self.window, self.window),
            Service::TcpSource => (SMALL, self.window),
            _ => (self.window, SMALL),
        };
        let mut socket = Socket::new(SocketBuffer::new(vec![0; rx]), SocketBuffer::new(vec![0; tx]));
        socket.set_timeout(Some(TIMEOUT));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        // Remainders of a stream without end would cost a guest a buffer each: they wait for more to come. Answers do not.
        socket.set_nagle_enabled(matches!(service, Service::TcpSource));
        // Bursts are what is acknowledged, at their end.
        socket.set_ack_delay(None);
        socket
    }

    /// Nobody listens between segments.
    pub(crate) fn settle(&self, sockets: &mut SocketSet<'_>) {
        // Whatever was opened last is the only one that can.
        if let Some(slot) = self.slots.last() {
            let socket = sockets.get_mut::<Socket<'_>>(slot.handle);
            if socket.state() == State::Listen {
                socket.abort();
            }
        }
    }

    /// Lets every service take and give what it can.
    pub(crate) fn serve(&mut self, sockets: &mut SocketSet<'_>, stats: &mut UserNetStats) {
        for slot in &mut self.slots {
            let socket = sockets.get_mut::<Socket<'_>>(slot.handle);
            match socket.state() {
                // A half-open connection that was reset listens again.
                State::Listen => socket.abort(),
                State::Closed | State::SynReceived => {}
                _ => {
                    if !slot.established {
                        slot.established = true;
                        stats.connection(slot.service);
                    }
                    slot.job.run(socket, &mut self.block, stats);
                }
            }
        }
    }

    /// Takes note of a segment to the guest. Returns the longest one that the guest's end of this connection takes.
    pub(crate) fn sent(&mut self, frame: &[u8], packet: &Packet, now: Instant) -> u16 {
        let ends = packet.ports(frame).map(|(host, guest)| Ends {
            guest: SocketAddr::new(packet.dst, guest),
            host: SocketAddr::new(packet.src, host),
        });
        let Some(slot) = self.slots.iter_mut().find(|s| ends.is_some() && s.ends == ends) else { return DEFAULT_MSS };
        slot.recovery.sent(frame, packet, now);
        slot.mss
    }

    /// Takes note of a segment from the guest. The connection that has something to repeat, if there is one.
    pub(crate) fn heard(&mut self, frame: &[u8], packet: &Packet, now: Instant) -> Option<usize> {
        let (guest, host) = packet.ports(frame).filter(|_| packet.protocol == TCP)?;
        let ends = Ends { guest: SocketAddr::new(packet.src, guest), host: SocketAddr::new(packet.dst, host) };
        let (n, slot) = self.slots.iter_mut().enumerate().find(|(_, s)| s.ends == Some(ends))?;
        slot.recovery.heard(frame, packet, now).then_some(n)
    }

    /// When [`overdue`](Self::overdue) has something to say at the earliest.
    pub(crate) fn due(&self, sockets: &SocketSet<'_>) -> Option<Instant> {
        let open = |slot: &&Slot| sockets.get::<Socket<'_>>(slot.handle).state() != State::Closed;
        self.slots.iter().filter(open).filter_map(|slot| slot.recovery.due()).min()
    }

    /// A connection whose guest should have acknowledged something by now.
    pub(crate) fn overdue(&mut self, sockets: &SocketSet<'_>, now: Instant) -> Option<usize> {
        let late = |slot: &Slot| {
            slot.recovery.due().is_some_and(|due| due <= now)
                && sockets.get::<Socket<'_>>(slot.handle).state() != State::Closed
        };
        let (n, slot) = self.slots.iter_mut().enumerate().find(|(_, slot)| late(slot))?;
        slot.recovery.overdue(now);
        Some(n)
    }

    /// Frames that make smoltcp repeat what comes first on a connection.
    pub(crate) fn duplicates(&mut self, index: usize, frame: impl FnMut(&[u8])) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.recovery.duplicates(frame);
        }
    }

    /// Connections that are open.
    pub(crate) fn count(&self, sockets: &SocketSet<'_>) -> usize {
        self.slots.iter().filter(|s| sockets.get::<Socket<'_>>(s.handle).state() != State::Closed).count()
    }

    /// Forgets all connections without a word.
    pub(crate) fn clear(&mut self, sockets: &mut SocketSet<'_>) {
        for slot in self.slots.drain(..) {
            drop(sockets.remove(slot.handle));
        }
    }
}

/// Whether a connection may make room for another one, and which first.
const fn rank(state: State) -> Option<u8> {
    match state {
        State::Closed | State::TimeWait | State::Listen => Some(0),
        State::SynReceived | State::SynSent => Some(1),
        // Everything was sent and acknowledged; only the guest's own end is still open.
        State::FinWait2 | State::Closing => Some(2),
        State::Established | State::FinWait1 | State::CloseWait | State::LastAck => None,
    }
}
