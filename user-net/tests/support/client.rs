//! A guest's TCP/IP stack: smoltcp again, at the other end of the rings.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpCidr};
use user_net::offload::{admit, finish, large_segments, towards_host};
use user_net::phy::{FrameQueue, QueueDevice};
use virtio_net_core::NetHeader;

use super::raw::{GUEST4, GUEST6, MAC};
use super::{Guest, RxStop};

type Loses = Box<dyn FnMut(&[u8]) -> bool>;

/// Changes the window of a TCP segment without IP options.
fn announce(frame: &mut [u8], window: fn(u16) -> u16) {
    let at = match (frame[12..14] == [8, 0], frame[12..14] == [0x86, 0xdd]) {
        (true, _) if frame[23] == 6 => 14 + 20 + 14,
        (_, true) if frame[20] == 6 => 14 + 40 + 14,
        _ => return,
    };
    let told = window(u16::from_be_bytes([frame[at], frame[at + 1]]));
    frame[at..at + 2].copy_from_slice(&told.to_be_bytes());
}

pub(crate) struct Client {
    pub(crate) guest: Guest,
    pub(crate) sockets: SocketSet<'static>,
    iface: Interface,
    device: QueueDevice,
    began: Instant,
    port: u16,
    /// Largest frame each way.
    pub(crate) largest: (usize, usize),
    /// Called with every frame from the host.
    pub(crate) tap: Option<fn(&NetHeader, &[u8])>,
    /// Says which frames from the host this guest loses.
    pub(crate) loses: Option<Loses>,
    /// What every segment of this guest says of its window, instead of the truth.
    pub(crate) window: Option<fn(u16) -> u16>,
}

impl Client {
    pub(crate) fn new(guest: Guest) -> Self {
        let large = large_segments(towards_host(guest.acked));
        let mut device = QueueDevice::new(FrameQueue::new(1024, 1 << 26), FrameQueue::new(128, 1 << 23), large);
        let began = Instant::now();
        let mut iface =
            Interface::new(Config::new(EthernetAddress(MAC).into()), &mut device, StackInstant::from_micros(0));
        iface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(GUEST4.into(), 24)).unwrap();
            addresses.push(IpCidr::new(GUEST6.into(), 64)).unwrap();
        });
        Self {
            guest,
            sockets: SocketSet::new(Vec::new()),
            iface,
            device,
            began,
            port: 40_000,
            largest: (0, 0),
            tap: None,
            loses: None,
            window: None,
        }
    }

    pub(crate) fn connect(&mut self, to: IpAddr, port: u16) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; 1 << 20]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        self.port += 1;
        socket.connect(self.iface.context(), (to, port), self.port).unwrap();
        self.sockets.add(socket)
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// One turn of everything.
    pub(crate) fn turn(&mut self) {
        let now = StackInstant::from_micros(self.began.elapsed().as_micros() as i64);
        self.iface.poll(now, &mut self.device, &mut self.sockets);
        let towards = towards_host(self.guest.acked);
        while let Some(mut frame) = self.device.tx.pop() {
            if let Some(window) = self.window {
                announce(frame.bytes_mut(), window);
            }
            finish(&mut frame, towards, 1440);
            if !self.guest.post(&frame.header, frame.bytes()) {
                self.device.tx.push_front(frame);
                break;
            }
            self.largest.0 = self.largest.0.max(frame.bytes().len());
            self.device.tx.recycle(frame);
        }
        self.guest.transmit();
        loop {
            let stop = self.guest.deliver();
            let mut some = false;
            while let Some((header, bytes)) = self.guest.receive() {
                some = true;
                if let Some(tap) = self.tap {
                    tap(&header, bytes);
                }
                self.largest.1 = self.largest.1.max(bytes.len());
                if self.loses.as_mut().is_some_and(|loses| loses(bytes)) {
                    continue;
                }
                let mut frame = self.device.rx.take();
                frame.set_len(bytes.len());
                frame.bytes_mut().copy_from_slice(bytes);
                frame.header = header;
                admit(&mut frame).unwrap();
                self.device.rx.push(frame);
            }
            if stop == RxStop::Dry || !some {
                break;
            }
        }
    }

    /// Turns until `done` says so.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: not within a minute; {:?}", self.guest.net.stats());
            self.turn();
        }
    }

    pub(crate) fn established(&mut self, handle: SocketHandle) {
        self.until("connect", |c| c.socket(handle).state() == State::Established);
    }
}
