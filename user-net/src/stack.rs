//! The network itself: everything that happens between a frame from the guest and the frames to it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketSet};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpCidr};
use virtio_net_core::backend::TxBurst;
use virtio_net_core::{Features, GSO_NONE};

use crate::bytes::array;
use crate::config::UserNetConfig;
use crate::dhcp::Dhcp;
use crate::neighbours::{self, Neighbours};
use crate::offload;
use crate::packet::{HOP_BY_HOP, ICMPV6, Kind, Packet, TCP, UDP, parse};
use crate::phy::{Frame, FrameQueue, LargeSegments, QueueDevice};
use crate::stats::{DropReason, Service, UserNetStats};
use crate::tcp::{Connections, Opening};
use crate::udp::{Around, Udp};

/// A guest is never told to come back sooner than this: what is due now was done before it was told.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// Most bytes of the backlog: as many as a few windows of large segments.
const BACKLOG_BYTES: usize = 4 << 20;
const DHCP: u16 = 67;
const PREFIX6: u8 = 64;

pub(crate) struct Stack {
    config: UserNetConfig,
    device: QueueDevice,
    iface: Interface,
    sockets: SocketSet<'static>,
    connections: Connections,
    neighbours: Neighbours,
    udp: Udp,
    dhcp: Dhcp,
    stats: UserNetStats,
    acked: Features,
    began: Instant,
}

impl Stack {
    pub(crate) fn new(config: UserNetConfig) -> Self {
        let began = Instant::now();
        let rx = FrameQueue::new(8, 1 << 20);
        let tx = FrameQueue::new(config.max_backlog, BACKLOG_BYTES);
        let mut device = QueueDevice::new(rx, tx, LargeSegments::default());
        let iface = interface(&config, &mut device, began);
        Self {
            iface,
            device,
            sockets: SocketSet::new(Vec::new()),
            connections: Connections::new(config.max_connections, config.window),
            neighbours: Neighbours::default(),
            udp: Udp::default(),
            dhcp: Dhcp::new(&config, began),
            stats: UserNetStats::default(),
            acked: Features::empty(),
            began,
            config,
        }
    }

    /// The guest takes these receive offloads from now on. Connections go on.
    pub(crate) fn set_offloads(&mut self, on: Features) {
        self.acked = self.acked.difference(Features::GUEST_OFFLOADS).union(on);
        self.device.set_large(offload::large_segments(self.acked));
        // It goes on with what it asked the device for when it was made. What it knows of neighbours it learns anew.
        self.iface = interface(&self.config, &mut self.device, self.began);
    }

    /// A guest comes, or comes back with other features: nothing is left of the one before but its lease.
    pub(crate) fn start(&mut self, acked: Features) {
        self.acked = acked;
        self.connections.clear(&mut self.sockets);
        self.udp.clear();
        self.neighbours.clear();
        self.device.rx.clear();
        self.device.tx.clear();
        self.device.set_large(offload::large_segments(acked));
        self.iface = interface(&self.config, &mut self.device, self.began);
    }

    fn now(&self) -> StackInstant {
        let micros = self.began.elapsed().as_micros();
        StackInstant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// Takes a burst in. Returns how many of the frames were dropped.
    pub(crate) fn submit(&mut self, burst: &TxBurst<'_>) -> usize {
        let mut failed = 0_usize;
        for arrived in burst.iter() {
            self.stats.frames_in = self.stats.frames_in.wrapping_add(1);
            self.stats.bytes_in = self.stats.bytes_in.wrapping_add(arrived.len() as u64);
            let mut frame = self.device.rx.take();
            frame.set_len(arrived.len());
            arrived.copy_to(frame.bytes_mut());
            frame.header = arrived.header;
            if let Err(reason) = self.take(frame) {
                self.stats.drop(reason);
                failed = failed.saturating_add(1);
            }
        }
        self.poll();
        failed
    }

    fn take(&mut self, mut frame: Frame) -> Result<(), DropReason> {
        if !offload::is_uso(&frame.header) {
            return self.ingest(frame);
        }
        let mut pieces: Vec<Frame> = Vec::new();
        let queue = &mut self.device.rx;
        let split = offload::split_udp(&mut frame, |bytes, header| {
            let mut piece = queue.take();
            piece.set_len(bytes.len());
            piece.bytes_mut().copy_from_slice(bytes);
            piece.header = header;
            pieces.push(piece);
        });
        queue.recycle(frame);
        split?;
        pieces.into_iter().try_for_each(|piece| self.ingest(piece))
    }

    /// One frame of at most one packet.
    fn ingest(&mut self, mut frame: Frame) -> Result<(), DropReason> {
        match self.handle(&mut frame) {
            Ok(true) => {
                self.feed(frame);
                Ok(())
            }
            done => {
                self.device.rx.recycle(frame);
                done.map(drop)
            }
        }
    }

    /// Does what is done here. True if smoltcp is to see the frame.
    fn handle(&mut self, frame: &mut Frame) -> Result<bool, DropReason> {
        let kind = offload::admit(frame)?;
        let bytes = frame.bytes();
        let to: [u8; 6] = array(bytes, 0).unwrap_or_default();
        let [first, ..] = to;
        if first & 1 == 0 && to != self.config.mac {
            return Err(DropReason::NotForUs);
        }
        let Kind::Ip(packet) = kind else { return Ok(true) };
        if packet.protocol == HOP_BY_HOP {
            return Err(DropReason::HopByHop);
        }
        let ports = packet.ports(bytes).filter(|_| packet.protocol == UDP);
        if let Some((_, DHCP)) = ports
            && packet.src.is_ipv4()
        {
            return self.dhcp(frame, &packet).map(|()| false);
        }
        if packet.protocol == ICMPV6 && neighbours::is_solicitation(bytes, &packet) {
            return self.solicited(frame, &packet).map(|()| false);
        }
        if !self.config.is_guest(packet.src) {
            // Duplicate address detection and listener reports have no source.
            let silent = packet.src == IpAddr::from([0; 16]);
            return Err(if silent { DropReason::NotForUs } else { DropReason::ForeignSource });
        }
        if !self.config.is_host(packet.dst) {
            // Multicast and broadcast: ARP's successor, and echo requests to all.
            return if is_group(packet.dst, &self.config) && packet.protocol != TCP && packet.protocol != UDP {
                Ok(true)
            } else {
                Err(DropReason::NotForUs)
            };
        }
        if packet.protocol == UDP {
            let mut around = Around { config: &self.config, stats: &mut self.stats, out: &mut self.device.tx };
            if self.udp.serve(frame, &packet, &mut around) {
                return Ok(false);
            }
        }
        self.introduce(frame, &packet);
        Ok(true)
    }

    fn dhcp(&mut self, frame: &Frame, packet: &Packet) -> Result<(), DropReason> {
        let to_us = self.config.is_host(packet.dst) || is_group(packet.dst, &self.config);
        let message = packet.datagram(frame.bytes()).filter(|_| to_us).ok_or(DropReason::NotForUs)?;
        self.stats.request(Service::Dhcp, message.len());
        let mut reply = self.device.tx.take();
        match self.dhcp.serve(&self.config, message, &mut reply, Instant::now()) {
            Ok(true) => {
                self.stats.count(Service::Dhcp, 0, reply.bytes().len());
                // Clients read replies below the network stack, and some of them verify a checksum that is not there.
                offload::finish(&mut reply, Features::empty(), u16::MAX);
                self.device.tx.push(reply);
                Ok(())
            }
            other => {
                self.device.tx.recycle(reply);
                other.map(drop).map_err(|()| DropReason::BadRequest)
            }
        }
    }

    fn solicited(&mut self, frame: &Frame, packet: &Packet) -> Result<(), DropReason> {
        if !packet.src.is_unspecified() && !self.config.is_guest(packet.src) {
            return Err(DropReason::ForeignSource);
        }
        let mut reply = self.device.tx.take();
        neighbours::advertise(&self.config, frame.bytes(), packet, &mut reply);
        self.stats.request(Service::RouterAdvert, 0);
        self.stats.count(Service::RouterAdvert, 0, reply.bytes().len());
        self.device.tx.push(reply);
        Ok(())
    }

    /// Tells smoltcp where the answer to a frame has to go.
    fn introduce(&mut self, frame: &Frame, packet: &Packet) {
        let mut told = self.device.rx.take();
        if self.neighbours.tell(&self.config, frame.bytes(), packet, &mut told) {
            self.device.rx.push(told);
            let now = self.now();
            self.iface.poll_ingress_single(now, &mut self.device, &mut self.sockets);
        } else {
            self.device.rx.recycle(told);
        }
    }

    /// Gives a frame to smoltcp.
    fn feed(&mut self, mut frame: Frame) {
        // Whatever a guest claims: without segmentation nothing longer than the MTU is sent to it.
        offload::clamp_mss(&mut frame, self.config.mtu());
        let (opening, missed) = match parse(frame.bytes()) {
            Ok(Kind::Ip(packet)) => {
                (Opening::read(frame.bytes(), &packet), self.connections.heard(frame.bytes(), &packet, Instant::now()))
            }
            _ => (None, None),
        };
        if let Some(opening) = &opening
            && !self.connections.open(&mut self.sockets, opening)
        {
            self.stats.drop(DropReason::Refused);
        }
        self.device.rx.push(frame);
        let now = self.now();
        self.iface.poll_ingress_single(now, &mut self.device, &mut self.sockets);
        if opening.is_some() {
            self.connections.settle(&mut self.sockets);
        } else if let Some(connection) = missed {
            self.repeat(connection);
        }
    }

    /// Makes smoltcp repeat what the guest has not acknowledged.
    fn repeat(&mut self, connection: usize) {
        let queue = &mut self.device.rx;
        self.connections.duplicates(connection, |bytes| {
            let mut frame = queue.take();
            frame.set_len(bytes.len());
            frame.bytes_mut().copy_from_slice(bytes);
            queue.push(frame);
        });
        let now = self.now();
        while self.iface.poll_ingress_single(now, &mut self.device, &mut self.sockets) != PollIngressSingleResult::None
        {
        }
    }

    /// Does everything that is due. True if there are frames for the guest.
    pub(crate) fn poll(&mut self) -> bool {
        // While frames wait for the guest it cannot have lost them.
        while self.device.tx.is_empty()
            && let Some(late) = self.connections.overdue(&self.sockets, Instant::now())
        {
            self.repeat(late);
        }
        self.connections.serve(&mut self.sockets, &mut self.stats);
        self.udp.send(&mut self.device.tx, &mut self.stats);
        let now = self.now();
        while self.device.tx.has_room()
            && self.iface.poll_egress(now, &mut self.device, &mut self.sockets) != PollResult::None
        {}
        !self.device.tx.is_empty()
    }

    /// The next frame for the guest, complete.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut frame = self.device.tx.pop()?;
        if !frame.finished {
            let mss = match parse(frame.bytes()) {
                Ok(Kind::Ip(packet)) if packet.protocol == TCP => {
                    offload::clamp_mss(&mut frame, self.config.mtu());
                    let fits = self.config.mtu().saturating_sub(offload::headers(&packet));
                    self.connections.sent(frame.bytes(), &packet, Instant::now()).min(fits)
                }
                _ => u16::MAX,
            };
            offload::finish(&mut frame, self.acked, mss);
        }
        Some(frame)
    }

    /// The frame was delivered.
    pub(crate) fn delivered(&mut self, frame: Frame) {
        self.stats.frames_out = self.stats.frames_out.wrapping_add(1);
        self.stats.bytes_out = self.stats.bytes_out.wrapping_add(frame.bytes().len() as u64);
        self.device.tx.recycle(frame);
    }

    /// There is no room for the frame now.
    pub(crate) fn put_back(&mut self, frame: Frame) {
        self.device.tx.push_front(frame);
    }

    /// The frame can never be delivered. A large segment can be, piece by piece, complete with checksums.
    pub(crate) fn undeliverable(&mut self, frame: Frame) {
        self.stats.drop(DropReason::Undeliverable);
        if frame.header.gso_type != GSO_NONE {
            let queue = &mut self.device.tx;
            let mut pieces = Vec::new();
            offload::split_tcp(&frame, |bytes| {
                let mut piece = queue.take();
                piece.set_len(bytes.len());
                piece.bytes_mut().copy_from_slice(bytes);
                piece.finished = true;
                pieces.push(piece);
            });
            for piece in pieces.into_iter().rev() {
                queue.push_front(piece);
            }
        }
        self.device.tx.recycle(frame);
    }

    pub(crate) fn waits(&self) -> bool {
        !self.device.tx.is_empty()
    }

    pub(crate) fn next_wake(&mut self) -> Option<Duration> {
        if !self.device.tx.has_room() {
            // Nothing can be sent until the guest takes something, and then there is a receive.
            return None;
        }
        let now = self.now();
        let timer = self.iface.poll_delay(now, &self.sockets).map(|delay| Duration::from_micros(delay.total_micros()));
        let due = self.connections.due(&self.sockets).map(|due| due.saturating_duration_since(Instant::now()));
        let delay = timer.into_iter().chain(due).min()?;
        Some(delay.max(SHORTEST_SLEEP))
    }

    pub(crate) fn stats(&self) -> UserNetStats {
        let mut stats = self.stats.clone();
        stats.leases = self.dhcp.leases(Instant::now());
        stats.open_connections = self.connections.count(&self.sockets);
        stats.set_dropped(DropReason::Backlog, self.device.tx.dropped());
        stats
    }
}

/// True for an address that means all hosts, or the host among others.
fn is_group(address: IpAddr, config: &UserNetConfig) -> bool {
    match address {
        IpAddr::V4(a) => {
            let last = config.ipv4.to_bits() | !config.mask().to_bits();
            a.is_broadcast() || a.is_multicast() || a.to_bits() == last
        }
        IpAddr::V6(a) => a.is_multicast(),
    }
}

fn interface(config: &UserNetConfig, device: &mut QueueDevice, began: Instant) -> Interface {
    let mut settings = Config::new(EthernetAddress(config.mac).into());
    settings.random_seed = seed();
    let micros = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
    let mut iface = Interface::new(settings, device, StackInstant::from_micros(micros));
    iface.update_ip_addrs(|addresses| {
        // There is room for four.
        let _ = addresses.push(IpCidr::new(config.ipv4.into(), config.prefix4));
        let _ = addresses.push(IpCidr::new(config.ipv6.into(), PREFIX6));
        let _ = addresses.push(IpCidr::new(config.link_local.into(), PREFIX6));
    });
    iface
}

/// Something that a guest cannot know: TCP's first sequence numbers come from it.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
