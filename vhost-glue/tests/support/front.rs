//! A front end that can say anything, in any order, with any descriptors.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::DEADLINE;

pub const GET_FEATURES: u32 = 1;
pub const SET_FEATURES: u32 = 2;
pub const SET_OWNER: u32 = 3;
pub const SET_MEM_TABLE: u32 = 5;
pub const SET_VRING_NUM: u32 = 8;
pub const SET_VRING_ADDR: u32 = 9;
pub const SET_VRING_BASE: u32 = 10;
pub const GET_VRING_BASE: u32 = 11;
pub const SET_VRING_KICK: u32 = 12;
pub const SET_VRING_CALL: u32 = 13;
pub const SET_VRING_ERR: u32 = 14;
pub const GET_PROTOCOL_FEATURES: u32 = 15;
pub const SET_PROTOCOL_FEATURES: u32 = 16;
pub const GET_QUEUE_NUM: u32 = 17;
pub const SET_VRING_ENABLE: u32 = 18;
pub const SET_BACKEND_REQ_FD: u32 = 21;
pub const GET_CONFIG: u32 = 24;
pub const SET_CONFIG: u32 = 25;
pub const RESET_DEVICE: u32 = 34;
pub const GET_MAX_MEM_SLOTS: u32 = 36;
pub const ADD_MEM_REG: u32 = 37;
pub const REM_MEM_REG: u32 = 38;
pub const SET_STATUS: u32 = 39;
pub const GET_STATUS: u32 = 40;

pub const MQ: u64 = 1;
pub const REPLY_ACK: u64 = 1 << 3;
pub const BACKEND_REQ: u64 = 1 << 5;
pub const CONFIG: u64 = 1 << 9;
pub const RESET: u64 = 1 << 13;
pub const MEM_SLOTS: u64 = 1 << 15;
pub const STATUS: u64 = 1 << 16;
/// The feature bit that belongs to the protocol.
pub const PROTOCOL: u64 = 1 << 30;

pub const NEED_REPLY: u32 = 8;

/// 32-bit words as a payload.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

/// 64-bit words as a payload.
pub fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

pub struct Front {
    pub socket: UnixStream,
}

impl Front {
    pub fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket }
    }

    /// Bytes as they are. False if the back end hung up.
    pub fn raw(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        match sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                assert_eq!(sent, bytes.len());
                true
            }
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => false,
            Err(e) => panic!("cannot send: {e}"),
        }
    }

    /// A message with these flags besides the version.
    pub fn message(&self, request: u32, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let mut bytes = words(&[request, 1 | flags, body.len() as u32]);
        bytes.extend_from_slice(body);
        self.raw(&bytes, fds)
    }

    /// A message that has no answer.
    pub fn tell(&self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        assert!(self.message(request, 0, body, fds), "the back end hung up");
    }

    /// The next reply, or `None` if the back end hung up.
    pub fn reply(&mut self) -> Option<(u32, u32, Vec<u8>)> {
        let mut header = [0; 12];
        match self.socket.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no reply in time"),
            Err(_) => return None,
        }
        let word = |i: usize| u32::from_ne_bytes(header[i * 4..i * 4 + 4].try_into().unwrap());
        let mut body = vec![0; word(2) as usize];
        self.socket.read_exact(&mut body).unwrap();
        Some((word(0), word(1), body))
    }

    /// A request with a reply of its own.
    pub fn ask(&mut self, request: u32, body: &[u8]) -> Vec<u8> {
        assert!(self.message(request, 0, body, &[]));
        let (number, flags, reply) = self.reply().expect("a reply");
        assert_eq!((number, flags), (request, 5), "reply flags are the version and the reply bit, nothing else");
        reply
    }

    pub fn number(&mut self, request: u32) -> u64 {
        u64::from_ne_bytes(self.ask(request, &[]).try_into().unwrap())
    }

    /// A request with an acknowledgement: 0 for success. `None` if the back end hung up.
    pub fn try_ack(&mut self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Option<u64> {
        if !self.message(request, NEED_REPLY, body, fds) {
            return None;
        }
        let (number, flags, reply) = self.reply()?;
        assert_eq!((number, flags), (request, 5));
        Some(u64::from_ne_bytes(reply.try_into().unwrap()))
    }

    pub fn ack(&mut self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        assert_eq!(self.try_ack(request, body, fds), Some(0), "request {request} is acknowledged");
    }

    pub fn refused(&mut self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        let code = self.try_ack(request, body, fds);
        assert!(code.is_some_and(|c| c != 0), "request {request} with {body:x?} is refused, but got {code:?}");
    }

    /// Owner, features, protocol features; acknowledges everything offered that is in `want`.
    pub fn negotiate(&mut self, want: u64, protocol: u64) -> u64 {
        self.tell(SET_OWNER, &[], &[]);
        let acked = self.number(GET_FEATURES) & want;
        if protocol != 0 {
            let offered = self.number(GET_PROTOCOL_FEATURES);
            assert_eq!(offered & protocol, protocol);
            self.tell(SET_PROTOCOL_FEATURES, &longs(&[protocol]), &[]);
        }
        self.tell(SET_FEATURES, &longs(&[acked]), &[]);
        acked
    }

    /// Everything before this has been carried out.
    pub fn settle(&mut self) {
        self.number(GET_FEATURES);
    }

    pub fn vring_base(&mut self, index: u32) -> u32 {
        let reply = self.ask(GET_VRING_BASE, &words(&[index, 0]));
        assert_eq!(reply[..4], index.to_ne_bytes());
        u32::from_ne_bytes(reply[4..].try_into().unwrap())
    }

    pub fn enable(&self, index: u32, on: bool) {
        self.tell(SET_VRING_ENABLE, &words(&[index, on.into()]), &[]);
    }

    /// True if the back end hangs up.
    pub fn hangs_up(&mut self) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        loop {
            match self.socket.read(&mut [0; 4096]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return e.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}
