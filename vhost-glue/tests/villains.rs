//! Hostile front ends, numbered. After each, a fresh session works, and no descriptor or mapping is left over.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]

mod support;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use support::back::Back;
use support::front::*;
use support::guest::{BASE, Guest, KINDS, RING, SIZE, USER, event, format, memfd, place, ring, with_kind};
use support::{alone, guest_maps, open_fds, until};
use vhost_glue::SessionEnd;
use virtio_ring::Format;

/// What is to become of the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It goes on: what was wrong is refused, or ignored if nobody asked for an answer.
    Lives,
    /// The back end hangs up.
    Dropped,
    /// The front end hangs up in a bad moment.
    Cut,
}
use Outcome::{Cut, Dropped, Lives};

struct Villain {
    id: u16,
    /// Row of the threat list, or clause.
    mechanism: &'static str,
    outcome: Outcome,
    act: fn(&mut Front, &mut Guest),
}

const fn villain(id: u16, mechanism: &'static str, outcome: Outcome, act: fn(&mut Front, &mut Guest)) -> Villain {
    Villain { id, mechanism, outcome, act }
}

const PROTOCOLS: u64 = MQ | REPLY_ACK | CONFIG | MEM_SLOTS | STATUS | RESET;

/// Requests that the device knows and that have an acknowledgement, with their right size.
const ACKED: [(u32, usize); 15] = [
    (SET_OWNER, 0),
    (SET_FEATURES, 8),
    (SET_MEM_TABLE, 40),
    (SET_VRING_NUM, 8),
    (SET_VRING_ADDR, 40),
    (SET_VRING_BASE, 8),
    (SET_VRING_KICK, 8),
    (SET_VRING_CALL, 8),
    (SET_VRING_ERR, 8),
    (SET_PROTOCOL_FEATURES, 8),
    (SET_VRING_ENABLE, 8),
    (ADD_MEM_REG, 40),
    (REM_MEM_REG, 40),
    (SET_STATUS, 8),
    (RESET_DEVICE, 0),
];

fn header(request: u32, flags: u32, size: u32) -> Vec<u8> {
    words(&[request, flags, size])
}

fn many(fd: &OwnedFd, count: usize) -> Vec<BorrowedFd<'_>> {
    vec![fd.as_fd(); count]
}

fn region(guest: u64, size: u64, user: u64, offset: u64) -> Vec<u8> {
    longs(&[0, guest, size, user, offset])
}

/// A table of regions one behind the other.
fn table(count: u64) -> Vec<u8> {
    let mut body = words(&[count as u32, 0]);
    for n in 0..count {
        let at = BASE + n * 0x1_0000;
        body.extend(longs(&[at, 0x1_0000, at + USER, n * 0x1_0000]));
    }
    body
}

/// Regions that cannot be, as `SET_MEM_TABLE` and as `ADD_MEM_REG`.
fn bad_region(front: &mut Front, file: &OwnedFd, [guest, size, user, offset]: [u64; 4]) {
    let mut body = words(&[1, 0]);
    body.extend(longs(&[guest, size, user, offset]));
    front.refused(SET_MEM_TABLE, &body, &[file.as_fd()]);
    front.refused(ADD_MEM_REG, &region(guest, size, user, offset), &[file.as_fd()]);
}

const VILLAINS: &[Villain] = &[
    villain(1, "header: version 0", Dropped, |f, _| {
        f.raw(&header(SET_OWNER, 0, 0), &[]);
    }),
    villain(2, "header: version 2, need reply", Dropped, |f, _| {
        f.raw(&header(SET_OWNER, 0xa, 0), &[]);
    }),
    villain(3, "header: version 3", Dropped, |f, _| {
        f.raw(&header(SET_OWNER, 3, 0), &[]);
    }),
    villain(4, "header: a reply instead of a request", Dropped, |f, _| {
        f.raw(&header(GET_FEATURES, 5, 0), &[]);
    }),
    villain(5, "header: 4 GiB of payload", Dropped, |f, _| {
        f.raw(&header(SET_OWNER, 1, u32::MAX), &[]);
    }),
    villain(6, "header: payload one byte over the limit", Dropped, |f, _| {
        f.raw(&header(SET_MEM_TABLE, 1, 4097), &[]);
    }),
    villain(7, "header cut off after 0..12 bytes, with descriptors", Cut, |f, g| {
        f.raw(&header(SET_MEM_TABLE, 1, 40)[..7], &[g.file.as_fd()]);
    }),
    villain(8, "payload cut off, with descriptors", Cut, |f, g| {
        f.raw(&[header(SET_MEM_TABLE, 1, 40), vec![0; 39]].concat(), &[g.file.as_fd()]);
    }),
    villain(9, "every message one byte at a time", Lives, |f, g| {
        let message = [header(SET_MEM_TABLE, 9, 40), g.mem_table()].concat();
        assert!(f.raw(&message[..1], &[g.file.as_fd()]));
        message[1..].iter().for_each(|byte| assert!(f.raw(&[*byte], &[])));
        assert_eq!(f.reply().unwrap().2, [0; 8]);
    }),
    villain(10, "descriptors with the payload instead of the header", Lives, |f, g| {
        assert!(f.raw(&header(SET_MEM_TABLE, 9, 40), &[]));
        assert!(f.raw(&g.mem_table(), &[g.file.as_fd()]));
        assert_eq!(f.reply().unwrap().2, [0; 8]);
    }),
    villain(11, "two messages in one packet", Lives, |f, _| {
        let message = header(SET_OWNER, 9, 0);
        assert!(f.raw(&[message.clone(), message].concat(), &[]));
        (0..2).for_each(|_| assert_eq!(f.reply().unwrap().2, [0; 8]));
    }),
    villain(12, "every request too short and too long", Lives, |f, g| {
        for (request, size) in ACKED {
            for wrong in (0..64).chain([4096]).filter(|n| *n != size) {
                let fd = (request == SET_MEM_TABLE || request == ADD_MEM_REG).then_some(g.file.as_fd());
                f.refused(request, &vec![0; wrong], fd.as_slice());
            }
        }
    }),
    villain(13, "CVE-2019-14818: 1 to 16 surplus descriptors with every request", Lives, |f, g| {
        for (request, size) in ACKED {
            let proper = usize::from(matches!(request, SET_MEM_TABLE | ADD_MEM_REG | REM_MEM_REG | 12..=14));
            for count in (proper + 1)..=16 {
                f.refused(request, &vec![0; size], &many(&g.file, count));
            }
        }
    }),
    villain(14, "253 descriptors", Lives, |f, g| {
        f.refused(SET_OWNER, &[], &many(&g.file, 253));
        f.refused(SET_VRING_KICK, &longs(&[0]), &many(&g.file, 253));
        f.refused(SET_MEM_TABLE, &g.mem_table(), &many(&g.file, 253));
    }),
    villain(15, "descriptors with a request that must be answered", Dropped, |f, g| {
        f.message(GET_FEATURES, 0, &[], &[g.file.as_fd()]);
    }),
    villain(16, "payload with a request that has none", Dropped, |f, _| {
        f.message(GET_FEATURES, 0, &[0; 8], &[]);
    }),
    villain(17, "unknown requests with NEED_REPLY, with payload and descriptors", Lives, |f, g| {
        for request in [0, 6, 7, 19, 20, 21, 22, 23, 27, 30, 35, 45, 1000, 0x7fff_ffff, u32::MAX] {
            f.refused(request, &[], &[]);
            f.refused(request, &[7; 4096], &many(&g.file, 3));
        }
    }),
    villain(18, "unknown requests that nobody asks an answer for", Lives, |f, g| {
        for request in [0, 45, u32::MAX] {
            f.tell(request, &[7; 100], &many(&g.file, 2));
        }
    }),
    villain(19, "requests of features that are not offered and must be answered", Dropped, |f, _| {
        f.message(31, 0, &[0; 24], &[]);
    }),
    villain(20, "CVE-2020-10723: ring indices beyond the device, to 32 bits", Lives, |f, g| {
        for index in [3_u32, 4, 0xff, 0x100, 0x1_0000, 0x1_0001, 0x8000_0000, 0xffff_ffff] {
            f.refused(SET_VRING_NUM, &words(&[index, 256]), &[]);
            f.refused(SET_VRING_BASE, &words(&[index, 0]), &[]);
            f.refused(SET_VRING_ENABLE, &words(&[index, 1]), &[]);
            f.refused(SET_VRING_ADDR, &g.addresses(index & 1, 0).splice_index(index), &[]);
        }
        for value in [3_u64, 0xff, 0x200, 0x1_0000, 0x1_0000_0000, 0x8000_0000_0000_0000, !0x100] {
            for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
                f.refused(request, &longs(&[value]), &[g.kicks[0].as_fd()]);
                f.refused(request, &longs(&[value | 0x100]), &[]);
            }
        }
    }),
    villain(21, "GET_VRING_BASE of a ring that is not there", Dropped, |f, _| {
        f.message(GET_VRING_BASE, 0, &words(&[0x1_0000, 0]), &[]);
    }),
    villain(22, "ring sizes that cannot be, with this format", Lives, |f, g| {
        for size in [0_u32, 0x8001, 0xffff, 0x1_0000, 0x1_0100, 0x8000_0000, 0xffff_ffff] {
            f.refused(SET_VRING_NUM, &words(&[0, size]), &[]);
        }
        for size in [3_u32, 255, 257, 0x7fff] {
            match format(g.acked) {
                Format::Split => f.refused(SET_VRING_NUM, &words(&[0, size]), &[]),
                Format::Packed => f.ack(SET_VRING_NUM, &words(&[0, size]), &[]),
            }
        }
        (0..16).for_each(|n| f.ack(SET_VRING_NUM, &words(&[0, 1 << n]), &[]));
    }),
    villain(23, "bases and switches out of range", Lives, |f, g| {
        if format(g.acked) == Format::Split {
            f.refused(SET_VRING_BASE, &words(&[0, 0x1_0000]), &[]);
            f.refused(SET_VRING_BASE, &words(&[0, u32::MAX]), &[]);
        }
        f.refused(SET_VRING_ENABLE, &words(&[0, 2]), &[]);
        f.refused(SET_VRING_ENABLE, &words(&[0, u32::MAX]), &[]);
    }),
    villain(24, "CVE-2019-14818: 10000 times SET_VRING_NUM", Lives, |f, _| {
        (0..10_000).for_each(|n| f.tell(SET_VRING_NUM, &words(&[n & 1, 1 << (n % 16)]), &[]));
    }),
    villain(25, "ADDR and KICK before the memory table: the rings start with it", Lives, |f, g| {
        for index in [0, 1] {
            g.describe(f, index, 0);
            g.send_kick(f, index);
            f.enable(index, true);
        }
        f.settle();
        g.send_mem_table(f);
        f.settle();
        g.exchange(100, 60);
    }),
    villain(26, "KICK before ADDR and NUM: the rings start with the last of them", Lives, |f, g| {
        g.send_mem_table(f);
        for index in [1, 0] {
            g.send_kick(f, index);
            f.enable(index, true);
            g.describe(f, index, 0);
        }
        f.settle();
        g.exchange(100, 60);
    }),
    villain(27, "addresses outside of the memory table, by one byte and by all", Lives, |f, g| {
        g.send_mem_table(f);
        let good = g.addresses(0, 0);
        for at in [8, 16, 24] {
            for user in [0, BASE, BASE + USER - 16, BASE + USER + SIZE, u64::MAX - 15] {
                let mut body = good.clone();
                body[at..at + 8].copy_from_slice(&user.to_ne_bytes());
                f.refused(SET_VRING_ADDR, &body, &[]);
            }
        }
        // The area begins inside and ends outside.
        let used = if format(g.acked) == Format::Split { 4 } else { 2 };
        for (at, left) in [(8, 16), (16, used), (24, 2)] {
            let mut body = good.clone();
            body[at..at + 8].copy_from_slice(&(BASE + USER + SIZE - left).to_ne_bytes());
            f.tell(SET_VRING_NUM, &words(&[0, RING.into()]), &[]);
            f.ack(SET_VRING_ADDR, &body, &[]);
            f.refused(SET_VRING_KICK, &longs(&[0]), &[g.kicks[0].as_fd()]);
        }
    }),
    villain(28, "misaligned areas", Lives, |f, g| {
        g.send_mem_table(f);
        for (at, off) in [(8, 8), (16, 2), (24, 1)] {
            let mut body = g.addresses(0, 0);
            let place = &mut body[at..at + 8];
            let user = u64::from_ne_bytes(place.try_into().unwrap()) + off;
            place.copy_from_slice(&user.to_ne_bytes());
            f.tell(SET_VRING_NUM, &words(&[0, RING.into()]), &[]);
            f.ack(SET_VRING_ADDR, &body, &[]);
            f.refused(SET_VRING_KICK, &longs(&[0]), &[g.kicks[0].as_fd()]);
        }
    }),
    villain(29, "a base that the ring contradicts, and then the right one", Lives, |f, g| {
        g.send_mem_table(f);
        let bad: &[u32] = match format(g.acked) {
            Format::Split => &[257, 0xffff],
            // Either half outside of the ring; the available place further from the used one than the ring is long.
            Format::Packed => {
                &[256, 0x8100, 0x7fff, 0xffff, 0x0100_8000, 0xffff_8000, u32::MAX, 0x8000_0001, 0x8001_8000]
            }
        };
        f.enable(1, true);
        for base in bad {
            g.describe(f, 1, *base);
            f.refused(SET_VRING_KICK, &longs(&[1]), &[g.kicks[1].as_fd()]);
        }
        g.start(f, true);
        f.settle();
        g.exchange(300, 60);
    }),
    villain(30, "9 and 32 regions work, 33 do not, nor do 0 or a number without them", Lives, |f, g| {
        f.ack(SET_MEM_TABLE, &table(9), &many(&g.file, 9));
        f.ack(SET_MEM_TABLE, &table(32), &many(&g.file, 32));
        f.refused(ADD_MEM_REG, &region(1 << 40, 0x1000, 1 << 41, 0), &[g.file.as_fd()]);
        f.refused(SET_MEM_TABLE, &table(33), &many(&g.file, 33));
        f.refused(SET_MEM_TABLE, &table(0), &[]);
        for count in [2_u32, 8, 31, 0xffff, u32::MAX] {
            let mut body = g.mem_table();
            body[..4].copy_from_slice(&count.to_ne_bytes());
            f.refused(SET_MEM_TABLE, &body, &[g.file.as_fd()]);
        }
        assert_eq!(guest_maps(), 33, "the table is the one before");
    }),
    villain(31, "fewer and more descriptors than regions", Lives, |f, g| {
        for count in (0..=16).filter(|n| *n != 4) {
            f.refused(SET_MEM_TABLE, &table(4), &many(&g.file, count));
        }
        f.refused(ADD_MEM_REG, &region(BASE, SIZE, BASE + USER, 0), &[]);
    }),
    villain(32, "regions that overlap, or are there twice", Lives, |f, g| {
        for at in [BASE, BASE + 0xffff, BASE - 1, BASE - 0xffff] {
            let mut body = table(1);
            body[0] = 2;
            body.extend(longs(&[at, 0x1_0000, 1 << 41, 0]));
            f.refused(SET_MEM_TABLE, &body, &many(&g.file, 2));
        }
        g.send_mem_table(f);
        f.refused(ADD_MEM_REG, &region(BASE + SIZE - 1, 0x1000, 1 << 41, 0), &[g.file.as_fd()]);
        f.ack(ADD_MEM_REG, &region(BASE + SIZE, 0x1000, 1 << 41, 0), &[g.file.as_fd()]);
    }),
    villain(33, "regions of no bytes, and sums that wrap", Lives, |f, g| {
        for (guest, size, user, offset) in [
            (BASE, 0, BASE, 0),
            (u64::MAX, 1, BASE, 0),
            (u64::MAX - 0xfff, 0x1000, BASE, 0),
            (BASE, u64::MAX, BASE, 0),
            (BASE, u64::MAX - BASE + 1, 0, 0),
            (BASE, 0x1000, u64::MAX - 0xffe, 0),
            (BASE, 0x1000, BASE, u64::MAX - 0xffe),
            (0, u64::MAX, 0, 0),
        ] {
            bad_region(f, &g.file, [guest, size, user, offset]);
        }
    }),
    villain(34, "files that end inside of the region", Lives, |f, g| {
        bad_region(f, &g.file, [BASE, SIZE + 1, BASE, 0]);
        bad_region(f, &g.file, [BASE, SIZE, BASE, 1]);
        bad_region(f, &g.file, [BASE, 0x1000, BASE, SIZE]);
        bad_region(f, &memfd(0), [BASE, 0x1000, BASE, 0]);
    }),
    villain(35, "CVE-2020-10942: descriptors that are not memory", Lives, |f, _| {
        let read_only = std::fs::File::open("/proc/self/exe").unwrap();
        let (pipe, _other) = std::io::pipe().unwrap();
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/zero").unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let directory = std::fs::File::open("/").unwrap();
        let fds = [event(), read_only.into(), pipe.into(), null.into(), socket.into(), directory.into()];
        fds.iter().for_each(|fd| bad_region(f, fd, [BASE, 0x1000, BASE, 0]));
    }),
    villain(36, "a sealed file that may not be written", Lives, |f, _| {
        let file = memfd(SIZE);
        rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::WRITE).unwrap();
        bad_region(f, &file, [BASE, SIZE, BASE, 0]);
    }),
    villain(37, "odd offsets and sizes map what was asked for, and unmap it", Lives, |f, g| {
        for (size, offset) in [(1, 0), (0x1001, 0xfff), (0x234_567, 0x123_456)] {
            f.ack(ADD_MEM_REG, &region(1 << 40, size, 1 << 41, offset), &[g.file.as_fd()]);
            f.ack(REM_MEM_REG, &region(1 << 40, size, 1 << 41, offset), &[]);
        }
        assert_eq!(guest_maps(), 1);
    }),
    villain(38, "regions that are not there are removed", Lives, |f, g| {
        f.refused(REM_MEM_REG, &region(BASE, SIZE, BASE + USER, 0), &[]);
        g.send_mem_table(f);
        f.refused(REM_MEM_REG, &region(BASE, SIZE - 1, BASE + USER, 0), &[]);
        f.refused(REM_MEM_REG, &region(BASE, SIZE, BASE, 0), &[g.file.as_fd()]);
    }),
    villain(39, "10000 memory tables, under traffic", Lives, |f, g| {
        g.start(f, true);
        for n in 0..10_000 {
            g.send_mem_table(f);
            if n % 100 == 0 {
                f.settle();
                g.exchange(3, 60);
            }
        }
        f.settle();
        assert_eq!(guest_maps(), 2);
    }),
    villain(40, "features that were not offered, or lack what they need", Lives, |f, g| {
        let good = g.acked.bits() as u64;
        for bit in [4, 6, 24, 26, 31, 33, 36, 37, 42, 58, 61] {
            f.refused(SET_FEATURES, &longs(&[good | 1 << bit]), &[]);
        }
        f.refused(SET_FEATURES, &longs(&[1 << 11]), &[]); // HOST_TSO4 without CSUM
        f.refused(SET_FEATURES, &longs(&[u64::MAX]), &[]);
        f.refused(SET_PROTOCOL_FEATURES, &longs(&[PROTOCOLS | 2]), &[]);
        f.refused(SET_PROTOCOL_FEATURES, &longs(&[u64::MAX]), &[]);
    }),
    villain(41, "GET_CONFIG beyond its end, wrapping, empty, or of another length", Lives, |f, _| {
        for (offset, size, len) in [
            (0_u32, 0_u32, 0_usize),
            (0, 257, 257),
            (256, 1, 1),
            (255, 2, 2),
            (u32::MAX, 1, 1),
            (u32::MAX, u32::MAX, 8),
            (0, 8, 7),
            (0, 8, 9),
            (0, 0xffff_fff0, 16),
        ] {
            let body = [words(&[offset, size, 0]), vec![0; len]].concat();
            let reply = f.ask(GET_CONFIG, &body);
            assert_eq!(reply, words(&[offset, 0, 0]), "no bytes mean no");
        }
        let reply = f.ask(GET_CONFIG, &[words(&[0, 256, 0]), vec![0xee; 256]].concat());
        assert!(reply[12 + 28..].iter().all(|byte| *byte == 0), "nothing of the request or of this process comes back");
    }),
    villain(42, "GET_CONFIG without its head", Dropped, |f, _| {
        f.message(GET_CONFIG, 0, &[0; 11], &[]);
    }),
    villain(43, "SET_CONFIG on every field", Lives, |f, _| {
        for (offset, len) in [(0_u32, 6_usize), (6, 2), (8, 2), (10, 2), (12, 4), (0, 256), (255, 1)] {
            f.refused(SET_CONFIG, &[words(&[offset, len as u32, 0]), vec![9; len]].concat(), &[]);
        }
        f.refused(SET_CONFIG, &words(&[0, 4, 0]), &[]);
    }),
    villain(44, "kick, call and error descriptors of every kind, then traffic", Lives, |f, g| {
        g.start(f, true);
        let (reader, writer) = std::io::pipe().unwrap();
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let exe = std::fs::File::open("/proc/self/exe").unwrap();
        let directory = std::fs::File::open("/").unwrap();
        let fds: [OwnedFd; 6] = [memfd(4096), reader.into(), writer.into(), zero.into(), exe.into(), directory.into()];
        for fd in &fds {
            for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
                f.ack(request, &longs(&[0]), &[fd.as_fd()]);
                f.ack(request, &longs(&[1]), &[fd.as_fd()]);
            }
            g.send(10, 60);
            // Kicked where nobody looks, the driver is heard again with the next descriptor.
            for index in [0, 1] {
                g.send_kick(f, index);
                g.send_call(f, index);
            }
            f.settle();
            until("frames come back", || {
                g.receive(60);
                g.driver.stats().received == g.driver.stats().sent
            });
            g.exchange(20, 60);
        }
    }),
    villain(45, "a call descriptor that is full and blocks", Lives, |f, g| {
        g.start(f, true);
        let full = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        f.ack(SET_VRING_CALL, &longs(&[0]), &[full.as_fd()]);
        f.ack(SET_VRING_CALL, &longs(&[1]), &[full.as_fd()]);
        g.exchange(100, 60);
    }),
    villain(46, "descriptors where none is said to be, and none where one is", Lives, |f, g| {
        for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
            f.refused(request, &longs(&[0x100]), &[g.kicks[0].as_fd()]);
            f.refused(request, &longs(&[0]), &[]);
        }
    }),
    villain(47, "10000 kick descriptors for a running ring", Lives, |f, g| {
        g.start(f, true);
        f.settle();
        let fds = open_fds();
        for n in 0..10_000_u64 {
            f.tell(SET_VRING_KICK, &longs(&[n & 1]), &[g.kicks[(n & 1) as usize].as_fd()]);
        }
        f.settle();
        assert_eq!(open_fds(), fds);
        g.exchange(20, 60);
    }),
    villain(48, "everything before SET_OWNER and SET_FEATURES of a second negotiation", Lives, |f, g| {
        g.start(f, true);
        f.settle();
        g.exchange(10, 60);
        f.ack(RESET_DEVICE, &[], &[]);
        f.ack(SET_VRING_KICK, &longs(&[0]), &[g.kicks[0].as_fd()]);
        f.ack(SET_VRING_ENABLE, &words(&[1, 1]), &[]);
        assert_eq!(f.vring_base(1), place(g.acked, 0));
    }),
    villain(49, "rings that lie on top of one another, and on their buffers", Lives, |f, g| {
        g.send_mem_table(f);
        let at = ring(0, g.acked).desc.0 + USER;
        for index in [0_u32, 1] {
            let mut body = words(&[index, 0]);
            body.extend(longs(&[at, at, at, 0]));
            f.tell(SET_VRING_NUM, &words(&[index, 256]), &[]);
            f.ack(SET_VRING_ADDR, &body, &[]);
            f.try_ack(SET_VRING_KICK, &longs(&[index.into()]), &[g.kicks[index as usize].as_fd()]).unwrap();
            f.enable(index, true);
        }
        f.settle();
    }),
    villain(50, "the front end goes with rings running and the queue full", Cut, |f, g| {
        g.start(f, true);
        g.send(RING.into(), 1514);
    }),
    villain(51, "a flood of requests whose answers nobody reads", Cut, |f, _| {
        f.socket.set_nonblocking(true).unwrap();
        let message = header(GET_FEATURES, 1, 0);
        until("both directions are full", || {
            rustix::net::send(&f.socket, &message, rustix::net::SendFlags::NOSIGNAL) == Err(rustix::io::Errno::AGAIN)
        });
    }),
    villain(52, "sizes and bases of one format, started with the other", Lives, |f, g| {
        let packed = with_kind(g.acked.bits() as u64, KINDS[2]) | PROTOCOL;
        let split = with_kind(packed, KINDS[0]);
        g.send_mem_table(f);
        for (size, base) in [(255_u32, 0), (RING.into(), 0x8000_8000)] {
            f.ack(SET_FEATURES, &longs(&[packed]), &[]);
            f.ack(SET_VRING_NUM, &words(&[1, size]), &[]);
            f.ack(SET_VRING_BASE, &words(&[1, base]), &[]);
            f.ack(SET_VRING_ADDR, &g.addresses(1, 0), &[]);
            f.ack(SET_FEATURES, &longs(&[split]), &[]);
            f.refused(SET_VRING_KICK, &longs(&[1]), &[g.kicks[1].as_fd()]);
        }
        f.ack(SET_FEATURES, &longs(&[g.acked.bits() as u64 | PROTOCOL]), &[]);
        g.start(f, true);
        f.settle();
        g.exchange(300, 60);
    }),
];

trait SpliceIndex {
    fn splice_index(self, index: u32) -> Self;
}

impl SpliceIndex for Vec<u8> {
    fn splice_index(mut self, index: u32) -> Self {
        self[..4].copy_from_slice(&index.to_ne_bytes());
        self
    }
}

/// A session of a good front end.
fn good_session(back: &Back, want: u64) {
    let mut front = Front::new(back.connect());
    let acked = front.negotiate(want, REPLY_ACK);
    let mut guest = Guest::new(acked);
    guest.start(&front, true);
    front.settle();
    guest.exchange(50, 60);
    drop(front);
    assert_eq!(back.end().unwrap(), SessionEnd::Disconnected);
}

#[test]
fn every_villain_is_survived() {
    let _alone = alone();
    for kind in [KINDS[0], KINDS[3]] {
        survive(&Back::new(1), with_kind(u64::MAX, kind));
    }
}

fn survive(back: &Back, want: u64) {
    good_session(back, want);
    let fds = open_fds();
    for Villain { id, mechanism, outcome, act } in VILLAINS {
        println!("villain {id}: {mechanism}");
        let mut front = Front::new(back.connect());
        let acked = front.negotiate(want, PROTOCOLS);
        let mut guest = Guest::new(acked);
        act(&mut front, &mut guest);
        match outcome {
            Lives => {
                front.settle();
                drop(front);
                assert_eq!(back.end().unwrap(), SessionEnd::Disconnected, "villain {id}");
            }
            Dropped => {
                assert!(front.hangs_up(), "villain {id}");
                drop(front);
                println!("  {}", back.end().unwrap_err());
            }
            Cut => {
                drop(front);
                println!("  {:?}", back.end());
            }
        }
        drop(guest);
        assert_eq!((open_fds(), guest_maps()), (fds, 0), "villain {id} left something behind");
        good_session(back, want);
        assert_eq!((open_fds(), guest_maps()), (fds, 0), "villain {id} left something behind");
    }
}

#[test]
fn villains_are_numbered() {
    assert!(VILLAINS.iter().enumerate().all(|(n, villain)| usize::from(villain.id) == n + 1));
}
