//! Taps of the running kernel, each in a network namespace of its own. Needs root and /dev/net/tun.
#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "tests"
)]

mod common;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/packets.rs"]
mod packets;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use common::{Guest, pattern};
use namespace::{in_namespace, ip};
use packets::{Checksum, GUEST_MAC, TCP, TRANSPORT, Tcp, UDP};
use rustix::event::{PollFd, PollFlags, poll};
use tap_io::{IfMissing, Tap, TapError, TapQueue};
use virtio_net_core::rx::RxStop;
use virtio_net_core::{Features, GSO_TCPV4, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, NetHeader};

const MERGING: Features = Features::VERSION_1.union(Features::MRG_RXBUF);

/// A tap with the host's address on it, and the guest's in its neighbour table. Nothing else speaks on it.
fn host_with(queues: u16) -> Tap {
    let tap = Tap::open("tap0", queues, IfMissing::Create).unwrap();
    ip("link set tap0 address 02:00:00:00:00:01");
    std::fs::write("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", "1").unwrap();
    ip("addr add 10.77.0.1/24 dev tap0");
    tap.set_up(true).unwrap();
    let mac = GUEST_MAC.map(|b| format!("{b:02x}")).join(":");
    ip(&format!("neigh add 10.77.0.2 lladdr {mac} dev tap0"));
    tap
}

fn host(guest_takes: Features) -> (Tap, TapQueue) {
    let tap = host_with(1);
    tap.set_offloads(guest_takes).unwrap();
    let queue = tap.queues().remove(0);
    (tap, queue)
}

fn udp_socket(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(("10.77.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let n = socket.recv(&mut bytes).unwrap();
    bytes.truncate(n);
    bytes
}

/// Waits until there is something to read, at most some seconds.
fn wait(queue: &TapQueue) -> PollFlags {
    let mut fds = [PollFd::new(queue, PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
    poll(&mut fds, Some(&limit)).unwrap();
    fds[0].revents()
}

/// Pumps until a frame comes of which `pick` makes something.
fn next<T>(guest: &mut Guest, queue: &mut TapQueue, mut pick: impl FnMut(NetHeader, &[u8]) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        while let Some((header, frame)) = guest.driver.receive().unwrap() {
            if let Some(found) = pick(header, frame) {
                return found;
            }
        }
        assert!(Instant::now() < deadline, "nothing came: {:?}", queue.stats());
        if guest.pump_rx(queue).stop == RxStop::Dry && guest.driver.arm_rx() {
            wait(queue);
        }
    }
}

fn send(guest: &mut Guest, queue: &mut TapQueue, header: &NetHeader, frame: &[u8]) {
    assert!(guest.driver.send(header, frame).unwrap());
    guest.pump_tx(queue);
}

fn refused(fd: impl Into<OwnedFd>) -> String {
    let fd = fd.into();
    let number = fd.as_raw_fd();
    let text = Tap::from_fd(fd).unwrap_err().to_string();
    assert!(!text.contains('\n'));
    let text = text.strip_prefix(&format!("descriptor {number} is ")).unwrap().to_owned();
    text.strip_suffix(", expected a tap with vnet headers (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR)").unwrap().to_owned()
}

#[test]
fn descriptors_of_any_other_kind_are_refused_by_name() {
    assert!(refused(std::fs::File::open("/proc/self/exe").unwrap()).starts_with("a regular file (/"));
    assert!(refused(std::fs::File::open("/").unwrap()).starts_with("a directory (/"));
    assert_eq!(refused(std::fs::File::open("/dev/null").unwrap()), "a character device (/dev/null)");
    assert!(refused(UdpSocket::bind("127.0.0.1:0").unwrap()).starts_with("a socket (socket:"));
    assert!(refused(rustix::pipe::pipe().unwrap().0).starts_with("a pipe (pipe:"));
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    assert_eq!(refused(event), "something (anon_inode:[eventfd])");
}

#[test]
#[expect(unsafe_code, reason = "a descriptor by number")]
fn a_closed_descriptor_is_refused() {
    // SAFETY: no process has that many descriptors open: nobody owns this one.
    let error = unsafe { tap_io::inherited(1_000_000) }.unwrap_err();
    assert_eq!(
        error.to_string(),
        "descriptor 1000000 is not open, expected a tap with vnet headers (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR)"
    );
}

#[test]
fn tuns_and_taps_of_another_sort_are_refused() {
    in_namespace(|| {
        let open = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
        assert_eq!(refused(open()), "/dev/net/tun without an interface");
        for (name, flags, found) in [
            ("tun7", libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR, "the tun interface tun7 (layer 3)"),
            ("tap7", libc::IFF_TAP | libc::IFF_VNET_HDR, "the tap tap7 with packet information (no IFF_NO_PI)"),
            ("tap8", libc::IFF_TAP | libc::IFF_NO_PI, "the tap tap8 without vnet headers (no IFF_VNET_HDR)"),
        ] {
            let file = open();
            let mut req = [0_u8; 40];
            req[..name.len()].copy_from_slice(name.as_bytes());
            req[16..18].copy_from_slice(&(flags as u16).to_ne_bytes());
            attach(&file, &mut req);
            assert_eq!(refused(file), found);
        }
    });
}

#[expect(unsafe_code, reason = "an ioctl")]
fn attach(file: &std::fs::File, req: &mut [u8; 40]) {
    // SAFETY: TUNSETIFF takes a `struct ifreq`, 40 bytes.
    assert_eq!(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, req.as_mut_ptr()) }, 0);
}

#[test]
fn names_and_interfaces_that_do_not_fit_are_refused() {
    for name in ["", "a-name-of-sixteen", "a b", "a/b", "a:b", "tap%d", ".", ".."] {
        let error = Tap::open(name, 1, IfMissing::Create).unwrap_err();
        assert!(matches!(error, TapError::Name { .. }), "{name:?}: {error}");
    }
    in_namespace(|| {
        let open = |name: &str, queues| Tap::open(name, queues, IfMissing::Fail);
        assert!(matches!(open("tap9", 1), Err(TapError::Missing { .. })));
        assert!(matches!(open("lo", 1), Err(TapError::NotTap { .. })));
        assert!(matches!(open("lo", 2), Err(TapError::NotTap { .. })));
        ip("tuntap add dev tun1 mode tun");
        assert!(matches!(open("tun1", 1), Err(TapError::NotTap { .. })));
        ip("tuntap add dev one mode tap");
        assert!(matches!(open("one", 2), Err(TapError::Queues { has: 1, asked: 2, .. })));
        let tap = open("one", 1).unwrap();
        assert!(matches!(open("one", 1), Err(TapError::Busy { .. })));
        drop(tap);
        drop(open("one", 1).unwrap());
        ip("tuntap add dev many mode tap multi_queue");
        assert_eq!(open("many", 1).unwrap().queue_count(), 1);
        assert_eq!(open("many", 8).unwrap().queue_count(), 8);
        assert!(matches!(open("many", 257), Err(TapError::Queues { asked: 257, .. })));
        // Nothing is left of what was made.
        drop(Tap::open("made", 3, IfMissing::Create).unwrap());
        assert!(matches!(open("made", 1), Err(TapError::Missing { .. })));
    });
}

#[test]
fn interface_settings_are_read_and_set() {
    in_namespace(|| {
        let mut tap = host_with(1);
        assert_eq!(tap.mac().unwrap(), packets::HOST_MAC);
        assert_eq!(tap.mtu().unwrap(), 1500);
        tap.set_mtu(9000).unwrap();
        assert_eq!(tap.mtu().unwrap(), 9000);
        assert!(tap.is_up().unwrap());
        tap.set_up(false).unwrap();
        assert!(!tap.is_up().unwrap());
        assert!(matches!(tap.set_mtu(1), Err(TapError::Call { call: "SIOCSIFMTU", .. })));
        for len in [9, 25, 0, 1 << 20] {
            assert!(matches!(tap.set_header_len(len), Err(TapError::HeaderLen { .. })));
        }
        // By descriptor, from elsewhere: the name means nothing there.
        let fd = tap.queues()[0].as_fd().try_clone_to_owned().unwrap();
        std::thread::spawn(|| {
            in_namespace(|| {
                let tap = Tap::from_fd(fd).unwrap();
                assert_eq!((tap.name(), tap.mac().unwrap()), ("tap0", packets::HOST_MAC));
                assert!(matches!(tap.mtu(), Err(TapError::OtherNamespace { .. })));
                let _other = host_with(1);
                ip("link set tap0 address 02:00:00:00:00:77");
                assert!(matches!(tap.mtu(), Err(TapError::OtherNamespace { .. })));
            });
        })
        .join()
        .unwrap();
    });
}

#[test]
fn datagrams_pass_both_ways_with_every_header_length() {
    in_namespace(|| {
        let mut tap = host_with(1);
        println!("offloads of this kernel's tap: {:?}", tap.features());
        assert!(tap.features().contains(Features::CSUM | Features::HOST_TSO4 | Features::GUEST_TSO6));
        let socket = udp_socket(4000);
        for header_len in [10, 12, 20, 24, 12] {
            tap.set_header_len(header_len).unwrap();
            let mut queue = tap.queues().remove(0);
            let mut guest = Guest::new(64, MERGING | Features::CSUM);
            for len in [1, 86, 87, 500, 1400] {
                let payload = pattern(len, header_len as u8);
                send(&mut guest, &mut queue, &NetHeader::NONE, &packets::udp(5000, 4000, &payload, Checksum::Complete));
                assert!(receive(&socket) == payload);
                // A guest that leaves the checksum to the device.
                let frame = packets::udp(5000, 4000, &payload, Checksum::Partial);
                let header = NetHeader {
                    flags: NEEDS_CSUM,
                    csum_start: TRANSPORT as u16,
                    csum_offset: 6,
                    hdr_len: TRANSPORT as u16 + 8,
                    ..NetHeader::NONE
                };
                send(&mut guest, &mut queue, &header, &frame);
                assert!(receive(&socket) == payload);
                socket.send_to(&payload, "10.77.0.2:5000").unwrap();
                let got = next(&mut guest, &mut queue, |header, frame| {
                    assert_eq!(header, NetHeader::NONE);
                    let segment = packets::segment(frame, UDP)?;
                    assert!(packets::is_complete(segment, UDP), "the guest does not take partial checksums");
                    Some(segment[8..].to_vec())
                });
                assert!(got == payload);
            }
            assert_eq!(queue.stats().errors.total(), 0);
        }
    });
}

#[test]
fn a_large_send_is_segmented_by_the_kernel() {
    in_namespace(|| {
        let (tap, mut queue) = host(Features::empty());
        if !tap.features().contains(Features::HOST_USO) {
            println!("skipped: no USO before Linux 6.2");
            return;
        }
        let mut guest = Guest::new(64, MERGING | Features::CSUM | Features::HOST_USO);
        let socket = udp_socket(4000);
        let payload = pattern(40_000, 3);
        let header = NetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_UDP_L4,
            gso_size: 1000,
            hdr_len: TRANSPORT as u16 + 8,
            csum_start: TRANSPORT as u16,
            csum_offset: 6,
        };
        send(&mut guest, &mut queue, &header, &packets::udp(5000, 4000, &payload, Checksum::Partial));
        for piece in payload.chunks(1000) {
            assert!(receive(&socket) == piece);
        }
        assert_eq!((queue.stats().writes, queue.stats().errors.total()), (1, 0));
    });
}

#[test]
fn a_datagram_to_be_fragmented_is_taken() {
    in_namespace(|| {
        let (tap, mut queue) = host(Features::empty());
        assert!(tap.features().contains(Features::HOST_UFO));
        let mut guest = Guest::new(64, MERGING | Features::CSUM | Features::HOST_UFO);
        let socket = udp_socket(4000);
        let payload = pattern(20_000, 4);
        let header = NetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_UDP,
            gso_size: 1480,
            hdr_len: TRANSPORT as u16 + 8,
            csum_start: TRANSPORT as u16,
            csum_offset: 6,
        };
        send(&mut guest, &mut queue, &header, &packets::udp(5000, 4000, &payload, Checksum::Partial));
        assert!(receive(&socket) == payload);
        assert_eq!((queue.stats().writes, queue.stats().errors.total()), (1, 0));
    });
}

/// Opens a TCP connection from the guest by hand; returns the host's end and the host's first sequence number.
fn connect(guest: &mut Guest, queue: &mut TapQueue) -> (TcpStream, u32) {
    let listener = TcpListener::bind("10.77.0.1:7000").unwrap();
    let syn = Tcp { from: 6000, to: 7000, seq: 100, ack: 0, flags: 2, options: &[2, 4, 5, 0xb4], payload: &[] };
    send(guest, queue, &NetHeader::NONE, &syn.frame(Checksum::Complete));
    let seq = next(guest, queue, |_, frame| {
        let segment = packets::segment(frame, TCP)?;
        assert_eq!(segment[13], 0x12, "SYN and ACK");
        Some(u32::from_be_bytes(segment[4..8].try_into().unwrap()))
    });
    let seq = seq.wrapping_add(1);
    let ack = Tcp { from: 6000, to: 7000, seq: 101, ack: seq, flags: 0x10, options: &[], payload: &[] };
    send(guest, queue, &NetHeader::NONE, &ack.frame(Checksum::Complete));
    (listener.accept().unwrap().0, seq)
}

#[test]
fn tcp_to_the_host_goes_in_pieces_of_forty_thousand_bytes() {
    in_namespace(|| {
        let (_tap, mut queue) = host(Features::empty());
        let mut guest = Guest::new(64, MERGING | Features::CSUM | Features::HOST_TSO4);
        let (mut stream, ack) = connect(&mut guest, &mut queue);
        let payload = pattern(40_000, 5);
        let tso = Tcp { from: 6000, to: 7000, seq: 101, ack, flags: 0x18, options: &[], payload: &payload };
        let header = NetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            gso_size: 1460,
            hdr_len: TRANSPORT as u16 + 20,
            csum_start: TRANSPORT as u16,
            csum_offset: 16,
        };
        let before = queue.stats().writes;
        send(&mut guest, &mut queue, &header, &tso.frame(Checksum::Partial));
        let mut got = vec![0; payload.len()];
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.read_exact(&mut got).unwrap();
        assert!(got == payload);
        assert_eq!((queue.stats().writes - before, queue.stats().errors.total()), (1, 0));
    });
}

/// What the guest sees of `payload` that the host sends by TCP: the first flight, and the headers.
fn first_flight(acked: Features) -> Vec<(NetHeader, usize, bool)> {
    let (_tap, mut queue) = host(acked);
    let mut guest = Guest::new(256, MERGING | acked);
    let (mut stream, first) = connect(&mut guest, &mut queue);
    let payload = pattern(10_000, 7);
    stream.write_all(&payload).unwrap();
    let mut frames = Vec::new();
    let mut got = vec![None; payload.len()];
    while got.contains(&None) {
        next(&mut guest, &mut queue, |header, frame| {
            let segment = packets::segment(frame, TCP)?;
            let at = u32::from_be_bytes(segment[4..8].try_into().unwrap()).wrapping_sub(first) as usize;
            let body = &segment[usize::from(segment[12] >> 4) * 4..];
            for (to, from) in got[at..].iter_mut().zip(body) {
                *to = Some(*from);
            }
            frames.push((header, body.len(), packets::is_complete(segment, TCP)));
            Some(())
        });
    }
    assert!(got.into_iter().flatten().collect::<Vec<_>>() == payload);
    frames
}

#[test]
fn a_guest_that_takes_tso_gets_it() {
    in_namespace(|| {
        let frames = first_flight(Features::GUEST_CSUM | Features::GUEST_TSO4);
        let (header, len, _) = frames.iter().max_by_key(|f| f.1).unwrap();
        assert!(*len > 5000, "{frames:?}");
        assert_eq!((header.flags, header.gso_type, header.gso_size), (NEEDS_CSUM, GSO_TCPV4, 1460));
        assert_eq!((header.csum_start, header.csum_offset), (TRANSPORT as u16, 16));
    });
}

#[test]
fn a_guest_that_takes_no_offload_gets_segments_with_checksums() {
    in_namespace(|| {
        let frames = first_flight(Features::empty());
        assert!(frames.len() >= 7);
        for (header, len, complete) in frames {
            assert_eq!(header, NetHeader::NONE);
            assert!(len <= 1460 && complete);
        }
    });
}

#[test]
fn a_guest_that_takes_partial_checksums_gets_segments_with_them() {
    in_namespace(|| {
        for (header, len, complete) in first_flight(Features::GUEST_CSUM) {
            assert_eq!((header.gso_type, len <= 1460), (0, true));
            assert!(header.flags & NEEDS_CSUM != 0 && !complete);
        }
    });
}

#[test]
fn a_frame_longer_than_the_buffers_is_dropped_and_the_next_one_arrives() {
    in_namespace(|| {
        let (tap, mut queue) = host(Features::empty());
        tap.set_mtu(9000).unwrap();
        let mut guest = Guest::new(64, Features::VERSION_1);
        let socket = udp_socket(4000);
        socket.send_to(&pattern(5000, 0), "10.77.0.2:5000").unwrap();
        socket.send_to(b"short", "10.77.0.2:5000").unwrap();
        let got = next(&mut guest, &mut queue, |_, frame| Some(packets::segment(frame, UDP)?[8..].to_vec()));
        assert_eq!(got, b"short");
        assert_eq!(guest.rx_pump.stats().too_long, 1);
        assert_eq!((queue.stats().received, queue.stats().held), (2, 1));
    });
}

#[test]
fn frames_to_an_interface_that_is_down_fail_and_it_recovers() {
    in_namespace(|| {
        let (tap, mut queue) = host(Features::empty());
        let mut guest = Guest::new(64, MERGING);
        let socket = udp_socket(4000);
        let frame = packets::udp(5000, 4000, b"hello", Checksum::Complete);
        tap.set_up(false).unwrap();
        for _ in 0..3 {
            send(&mut guest, &mut queue, &NetHeader::NONE, &frame);
        }
        assert_eq!(guest.tx_pump.stats().failed, 3);
        assert_eq!(queue.stats().errors.iter().collect::<Vec<_>>(), [(libc::EIO, 3)]);
        let out = guest.pump_rx(&mut queue);
        assert!(out.stop == RxStop::Dry && out.error.is_none() && !queue.is_gone());
        tap.set_up(true).unwrap();
        send(&mut guest, &mut queue, &NetHeader::NONE, &frame);
        assert_eq!(receive(&socket), b"hello");
    });
}

#[test]
fn an_interface_deleted_under_traffic_is_reported_once() {
    in_namespace(|| {
        let (tap, mut queue) = host(Features::empty());
        let mut guest = Guest::new(256, MERGING);
        let socket = udp_socket(4000);
        let frame = packets::udp(5000, 4000, b"hello", Checksum::Complete);
        for _ in 0..20 {
            send(&mut guest, &mut queue, &NetHeader::NONE, &frame);
            socket.send_to(b"answer", "10.77.0.2:5000").unwrap();
        }
        ip("link del tap0");
        for _ in 0..10 {
            send(&mut guest, &mut queue, &NetHeader::NONE, &frame);
        }
        // What a worker does: it sees the error state, asks once, and waits for this descriptor no more.
        assert!(wait(&queue).contains(PollFlags::ERR));
        let mut errors = 0;
        for _ in 0..10 {
            let out = guest.pump_rx(&mut queue);
            assert_eq!(out.stop, RxStop::Dry);
            errors += u32::from(out.error.is_some());
        }
        assert!(queue.is_gone());
        assert_eq!((errors, guest.tx_pump.stats().failed), (1, 10));
        let stats = *queue.stats();
        assert_eq!(stats.errors.iter().collect::<Vec<_>>(), [(libc::EBADFD, 1)], "one call found out");
        assert!(tap.mtu().is_err());
        assert!(tap.set_offloads(Features::empty()).is_err());
    });
}

#[test]
fn detached_queues_get_nothing_and_attached_ones_everything() {
    in_namespace(|| {
        let tap = host_with(4);
        let mut queues = tap.queues();
        for queue in &mut queues {
            queue.set_active(false).unwrap();
            queue.set_active(false).unwrap();
        }
        // The interface can be set up while no queue is attached.
        tap.set_offloads(Features::GUEST_CSUM).unwrap();
        tap.set_offloads(Features::empty()).unwrap();
        let sockets: Vec<_> = (0..64).map(|i| udp_socket(4000 + i)).collect();
        let round = |queues: &mut Vec<TapQueue>, guest: &mut Guest| {
            for socket in &sockets {
                socket.send_to(b"x", "10.77.0.2:5000").unwrap();
            }
            let mut counts = vec![0; queues.len()];
            for (queue, count) in queues.iter_mut().zip(&mut counts) {
                assert_eq!(guest.pump_rx(queue).stop, RxStop::Dry);
                while guest.driver.receive().unwrap().is_some() {
                    *count += 1;
                }
            }
            counts
        };
        let mut guest = Guest::new(256, MERGING);
        assert_eq!(round(&mut queues, &mut guest), [0, 0, 0, 0]);
        queues[1].set_active(true).unwrap();
        assert_eq!(round(&mut queues, &mut guest), [0, 64, 0, 0]);
        for queue in &mut queues {
            queue.set_active(true).unwrap();
        }
        let spread = round(&mut queues, &mut guest);
        assert_eq!(spread.iter().sum::<u32>(), 64);
        assert!(spread.iter().filter(|n| **n > 0).count() > 1, "{spread:?}");
        queues[0].set_active(false).unwrap();
        let spread = round(&mut queues, &mut guest);
        assert_eq!((spread[0], spread.iter().sum::<u32>()), (0, 64));
        // A queue that is off still sends: the guest's frames go out.
        let frame = packets::udp(5000, 4000, b"hello", Checksum::Complete);
        send(&mut guest, &mut queues[0], &NetHeader::NONE, &frame);
        assert_eq!(receive(&sockets[0]), b"hello");
    });
}

#[test]
fn nothing_to_read_is_no_error() {
    in_namespace(|| {
        let (_tap, mut queue) = host(Features::empty());
        let mut guest = Guest::new(64, MERGING);
        for _ in 0..5 {
            let out = guest.pump_rx(&mut queue);
            assert!(out.error.is_none() && out.stop == RxStop::Dry);
        }
        assert_eq!(queue.stats().reads, 5);
        let mut none = [0; 10];
        let read = rustix::io::read(&queue, &mut none).map_err(std::io::Error::from);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}
