//! Messages of vhost-user, whatever they say: hostile ones as well.

use super::outcome::{Check, Stop, at, want};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{ErrorKind, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Requests, by their number in the protocol.
pub(super) mod request {
    pub(in super::super) const GET_FEATURES: u32 = 1;
    pub(in super::super) const SET_FEATURES: u32 = 2;
    pub(in super::super) const SET_OWNER: u32 = 3;
    pub(in super::super) const SET_MEM_TABLE: u32 = 5;
    pub(in super::super) const SET_VRING_NUM: u32 = 8;
    pub(in super::super) const SET_VRING_ADDR: u32 = 9;
    pub(in super::super) const SET_VRING_BASE: u32 = 10;
    pub(in super::super) const GET_VRING_BASE: u32 = 11;
    pub(in super::super) const SET_VRING_KICK: u32 = 12;
    pub(in super::super) const SET_VRING_CALL: u32 = 13;
    pub(in super::super) const GET_PROTOCOL_FEATURES: u32 = 15;
    pub(in super::super) const SET_PROTOCOL_FEATURES: u32 = 16;
    pub(in super::super) const SET_VRING_ENABLE: u32 = 18;
    pub(in super::super) const GET_CONFIG: u32 = 24;
    pub(in super::super) const RESET_DEVICE: u32 = 34;
    pub(in super::super) const SET_STATUS: u32 = 39;
    pub(in super::super) const GET_STATUS: u32 = 40;
}

/// Protocol features.
pub(super) mod protocol {
    pub(in super::super) const MQ: u64 = 1;
    pub(in super::super) const REPLY_ACK: u64 = 1 << 3;
    pub(in super::super) const CONFIG: u64 = 1 << 9;
    pub(in super::super) const RESET: u64 = 1 << 13;
    pub(in super::super) const STATUS: u64 = 1 << 16;
}

const VERSION: u32 = 1;
const REPLY: u32 = 4;
/// Asks for an answer to a request that has none of its own.
pub(super) const NEED_REPLY: u32 = 8;
/// Longer than any answer.
const LONGEST: usize = 4096;

/// What became of a request that has no answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Carried out, or at least nothing else was said.
    Done,
    /// Refused with this number.
    Refused(u64),
    /// The device side closed the connection.
    HungUp,
}

/// A connection.
pub(super) struct Wire {
    stream: UnixStream,
    /// Requests are answered with success or failure.
    pub(super) acknowledged: bool,
}

/// 32-bit words as a payload.
pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

/// 64-bit words as a payload.
pub(super) fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

impl Wire {
    /// Nothing waits for the device side longer than `patience`.
    pub(super) fn connect(socket: &Path, patience: Duration) -> Check<Self> {
        let stream = UnixStream::connect(socket).map_err(at("connecting"))?;
        let limited = stream.set_read_timeout(Some(patience)).and_then(|()| stream.set_write_timeout(Some(patience)));
        limited.map_err(at("connecting"))?;
        Ok(Self { stream, acknowledged: false })
    }

    /// Bytes as they are. False if the device side hung up.
    pub(super) fn raw(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Check<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        use rustix::io::Errno;
        match sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(false),
            Err(Errno::AGAIN) => Err(Stop::Fail("the device side does not read its messages".to_owned())),
            Err(e) => Err(at("sendmsg")(e)),
        }
    }

    /// A message with these flags beside the version.
    pub(super) fn message(&self, request: u32, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Check<bool> {
        let mut bytes = words(&[request, VERSION | flags, body.len() as u32]);
        bytes.extend_from_slice(body);
        self.raw(&bytes, fds)
    }

    /// The answer to this request; `None` if the device side hung up.
    pub(super) fn reply(&mut self, request: u32) -> Check<Option<Vec<u8>>> {
        let mut header = [0; 12];
        if !self.fill(&mut header, request)? {
            return Ok(None);
        }
        let [number, flags, size] = [0, 4, 8].map(|i| {
            let word = header.get(i..).and_then(|h| h.first_chunk());
            word.map_or(0, |w| u32::from_ne_bytes(*w))
        });
        want!(
            number == request && flags & 7 == VERSION | REPLY,
            "answer {number} with flags {flags:#x} to request {request}"
        );
        let size = size as usize;
        want!(size <= LONGEST, "an answer of {size} bytes to request {request}");
        let mut body = vec![0; size];
        Ok(self.fill(&mut body, request)?.then_some(body))
    }

    fn fill(&mut self, to: &mut [u8], request: u32) -> Check<bool> {
        match self.stream.read_exact(to) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Stop::Fail(format!("no answer to request {request} in time")))
            }
            Err(_) => Ok(false),
        }
    }

    /// A request with an answer of its own; `None` if the device side hung up.
    pub(super) fn try_ask(&mut self, request: u32, body: &[u8]) -> Check<Option<Vec<u8>>> {
        if self.message(request, 0, body, &[])? { self.reply(request) } else { Ok(None) }
    }

    /// A request with an answer of its own.
    pub(super) fn ask(&mut self, request: u32, body: &[u8]) -> Check<Vec<u8>> {
        let hung_up = || Stop::Fail(format!("the device side hung up at request {request}"));
        self.try_ask(request, body)?.ok_or_else(hung_up)
    }

    /// A request that is answered with a number.
    pub(super) fn number(&mut self, request: u32) -> Check<u64> {
        let reply = self.ask(request, &[])?;
        let number = reply.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
        number.ok_or_else(|| Stop::Fail(format!("{} bytes in answer to request {request}, expected 8", reply.len())))
    }

    /// A request that has no answer of its own. If it is not acknowledged either, the next one that is answered shows that
    /// the connection is still there.
    pub(super) fn try_tell(&mut self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Check<Answer> {
        let flags = if self.acknowledged { NEED_REPLY } else { 0 };
        if !self.message(request, flags, body, fds)? {
            return Ok(Answer::HungUp);
        }
        let reply = if self.acknowledged { self.reply(request)? } else { self.try_ask(request::GET_FEATURES, &[])? };
        Ok(match reply {
            None => Answer::HungUp,
            Some(_) if !self.acknowledged => Answer::Done,
            Some(reply) => match reply.first_chunk().map_or(u64::MAX, |bytes| u64::from_ne_bytes(*bytes)) {
                0 => Answer::Done,
                code => Answer::Refused(code),
            },
        })
    }

    /// The same, and it must be carried out.
    pub(super) fn tell(&mut self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Check {
        match self.try_tell(request, body, fds)? {
            Answer::Done => Ok(()),
            other => Err(Stop::Fail(format!("request {request} with {body:02x?}: {other:?}"))),
        }
    }
}
