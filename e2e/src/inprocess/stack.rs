//! The guest's TCP/IP stack, smoltcp, and the one loop that runs it.

use super::card::Card;
use guest_agent::{GUEST6, HOST4, HOST6, Step};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::{Duration as StackDuration, Instant as StackInstant};
use smoltcp::wire::{EthernetAddress, IpCidr};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use user_net::phy::{FrameQueue, QueueDevice};

/// Bytes each way of a TCP connection.
const WINDOW: usize = 1 << 20;
/// Datagrams and bytes that wait in a UDP socket.
const DATAGRAMS: (usize, usize) = (512, 1 << 20);
/// How often a sleeping guest looks whether it should end.
const GLANCE: Duration = Duration::from_millis(50);
/// Turns without a frame before the guest sleeps: being woken costs more than that.
const IDLE_TURNS: u32 = 50;
/// Between two probes of a connection without any other timer.
const PROBE: StackDuration = StackDuration::from_millis(200);
const FIRST_PORT: u16 = 49_152;

/// See the module.
pub(super) struct Stack {
    pub(super) card: Card,
    pub(super) sockets: SocketSet<'static>,
    pub(super) iface: Interface,
    device: QueueDevice,
    began: Instant,
    deadline: Option<Instant>,
    stop: Arc<AtomicBool>,
    port: u16,
    /// Gateway of the lease.
    pub(super) gateway: Option<Ipv4Addr>,
}

impl Stack {
    /// A stack on the card at this socket, without an IPv4 address yet.
    pub(super) fn new(socket: &Path, packed: bool, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let card = Card::plug(socket, packed)?;
        let mut device = QueueDevice::new(FrameQueue::new(256, 1 << 24), FrameQueue::new(128, 1 << 23), card.large());
        let mut config = Config::new(EthernetAddress(card.config().mac).into());
        config.random_seed = std::process::id().into();
        let mut iface = Interface::new(config, &mut device, StackInstant::from_micros(0));
        let mut added = true;
        iface.update_ip_addrs(|list| added = list.push(IpCidr::new(GUEST6.into(), 64)).is_ok());
        if !added {
            return Err("no room for an IPv6 address".to_owned());
        }
        let sockets = SocketSet::new(Vec::new());
        let began = Instant::now();
        Ok(Self { card, sockets, iface, device, began, deadline: None, stop, port: FIRST_PORT, gateway: None })
    }

    /// Lets go of what the last check left, and gives the next one its time.
    pub(super) fn begin(&mut self, step: &Step) {
        self.sockets = SocketSet::new(Vec::new());
        self.deadline = Instant::now().checked_add(step.limit());
    }

    /// The host's service at `port`, over IPv6 if the step says so.
    pub(super) fn service(&self, step: &Step, port: u16) -> (IpAddr, u16) {
        match step.parameter("v", 4) {
            6 => (HOST6.into(), port),
            _ => (self.host4(), port),
        }
    }

    pub(super) fn host4(&self) -> IpAddr {
        self.gateway.unwrap_or(HOST4).into()
    }

    fn next_port(&mut self) -> u16 {
        self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
        self.port
    }

    /// A connection to the host.
    pub(super) fn connect(&mut self, peer: (IpAddr, u16)) -> Result<SocketHandle, String> {
        let buffer = || tcp::SocketBuffer::new(vec![0; WINDOW]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        // smoltcp 0.14 stops retransmitting when a closed window opens by less than what is on its way; the answers
        // to these probes, which are only sent when no other timer runs, make it go on.
        socket.set_keep_alive(Some(PROBE));
        let port = self.next_port();
        let begun = socket.connect(self.iface.context(), peer, port);
        begun.map_err(|e| format!("connect to {}:{}: {e}", peer.0, peer.1))?;
        let handle = self.sockets.add(socket);
        self.until(&format!("connect to {}:{}", peer.0, peer.1), |stack| match stack.tcp(handle).state() {
            tcp::State::SynSent | tcp::State::SynReceived => Ok(None),
            tcp::State::Closed => Err("refused".to_owned()),
            _ => Ok(Some(handle)),
        })
    }

    /// A UDP socket of its own port.
    pub(super) fn datagrams(&mut self) -> Result<SocketHandle, String> {
        let (count, bytes) = DATAGRAMS;
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; count], vec![0; bytes]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        let port = self.next_port();
        socket.bind(port).map_err(|e| format!("UDP port {port}: {e}"))?;
        Ok(self.sockets.add(socket))
    }

    pub(super) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(super) fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Runs until `done` has a result, or the check's time is over.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Self) -> Result<Option<T>, String>,
    ) -> Result<T, String> {
        let mut idle = 0_u32;
        loop {
            let moved = self.turn()?;
            if let Some(result) = done(self).map_err(|e| format!("{what}: {e}"))? {
                // What it wrote last goes out now: the next wait may be long.
                self.turn()?;
                return Ok(result);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(format!("{what}: stopped"));
            }
            if self.deadline.is_some_and(|d| Instant::now() >= d) {
                return Err(format!("{what}: not within the check's time"));
            }
            idle = if moved { 0 } else { idle.saturating_add(1) };
            if idle > IDLE_TURNS {
                self.sleep()?;
            }
        }
    }

    /// Runs for this long.
    pub(super) fn pause(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now().checked_add(time);
        self.until("pause", |_| Ok(end.is_none_or(|e| Instant::now() >= e).then_some(())))
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// One turn of the stack and the card. True if a frame went either way.
    fn turn(&mut self) -> Result<bool, String> {
        let now = self.now();
        self.iface.poll(now, &mut self.device, &mut self.sockets);
        self.card.exchange(&mut self.device)
    }

    fn sleep(&mut self) -> Result<(), String> {
        let now = self.now();
        let timer = self.iface.poll_delay(now, &self.sockets).map(|d| Duration::from_micros(d.total_micros()));
        let limit = timer.unwrap_or(GLANCE).min(GLANCE);
        if !limit.is_zero() && self.device.rx.is_empty() {
            self.card.wait(limit, !self.device.tx.is_empty())?;
        }
        Ok(())
    }
}
