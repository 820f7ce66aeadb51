//! Messages on the socket: whole, with their descriptors, whatever way the front end cut them up.
//!
//! The payloads are the structures of the `vhost` crate. Its request handler is not used: it closes the connection on
//! requests that it does not know (`SET_STATUS` among them), leaves their payload in the stream, takes the low byte of
//! a ring index as the index, and cannot be stopped while it waits for the rest of a message.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg,
};
use vhost::vhost_user::message::{MAX_MSG_SIZE, VhostUserMsgValidator};

use crate::error::{Refusal, SessionError};
use crate::stop::{Stop, wait_for};

/// Bytes of a header: request, flags, size of the payload.
const HEADER_LEN: usize = 12;
/// `flags`: the low two bits are the version, which is 1.
const VERSION_MASK: u32 = 3;
const VERSION: u32 = 1;
/// `flags`: this is a reply.
const REPLY: u32 = 1 << 2;
/// `flags`: a reply is wanted although the request has none.
const NEED_REPLY: u32 = 1 << 3;
/// Most descriptors that the system passes at a time (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

/// One request.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its number, known or not.
    pub(crate) request: u32,
    /// A reply is wanted although the request has none.
    pub(crate) need_reply: bool,
    /// The payload.
    pub(crate) body: Vec<u8>,
    /// The descriptors that came with it.
    pub(crate) fds: Vec<OwnedFd>,
    /// More descriptors were sent than this process could receive.
    pub(crate) truncated: bool,
}

impl Message {
    /// The payload as one structure of exactly its size.
    pub(crate) fn payload<T: VhostUserMsgValidator + Default>(&self) -> Result<T, Refusal> {
        let (front, rest) = self.front::<T>()?;
        if rest.is_empty() { Ok(front) } else { Err(self.size_error(size_of::<T>())) }
    }

    /// The structure that the payload begins with, and what follows it.
    pub(crate) fn front<T: VhostUserMsgValidator + Default>(&self) -> Result<(T, &[u8]), Refusal> {
        split(&self.body).ok_or_else(|| self.size_error(size_of::<T>()))
    }

    pub(crate) fn size_error(&self, expected: usize) -> Refusal {
        Refusal::Size { found: self.body.len(), expected }
    }

    /// Exactly one descriptor.
    pub(crate) fn one_fd(&mut self) -> Result<OwnedFd, Refusal> {
        match self.fds.pop() {
            Some(fd) if self.fds.is_empty() => Ok(fd),
            popped => {
                let found = self.fds.len().saturating_add(popped.iter().count());
                Err(Refusal::Descriptors { found, expected: 1 })
            }
        }
    }
}

/// The structure at the front of `bytes`, and what follows it.
pub(crate) fn split<T: VhostUserMsgValidator + Default>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (front, rest) = bytes.split_at_checked(size_of::<T>())?;
    let mut value = T::default();
    value.as_mut_slice().copy_from_slice(front);
    Some((value, rest))
}

/// What came from the front end.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message),
    /// It hung up between two messages.
    Disconnected,
    /// A stop was requested.
    Stopped,
}

/// The front end's connection.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: UnixStream,
    stop: Stop,
}

/// How far a buffer was filled.
enum Filled {
    Whole,
    /// The peer hung up after so many bytes.
    Cut(usize),
    Stopped,
}

impl Channel {
    pub(crate) fn new(socket: UnixStream, stop: Stop) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, stop })
    }

    /// The next request.
    pub(crate) fn receive(&mut self) -> Result<Received, SessionError> {
        let mut header = [0_u8; HEADER_LEN];
        let mut message =
            Message { request: 0, need_reply: false, body: Vec::new(), fds: Vec::new(), truncated: false };
        match self.fill(&mut header, &mut message)? {
            Filled::Whole => {}
            Filled::Cut(0) => return Ok(Received::Disconnected),
            Filled::Cut(found) => return Err(SessionError::Cut { found, expected: HEADER_LEN }),
            Filled::Stopped => return Ok(Received::Stopped),
        }
        let [r0, r1, r2, r3, f0, f1, f2, f3, s0, s1, s2, s3] = header;
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        message.request = u32::from_ne_bytes([r0, r1, r2, r3]);
        message.need_reply = flags & NEED_REPLY != 0;
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(SessionError::Flags { request: message.request, flags });
        }
        let size = u32::from_ne_bytes([s0, s1, s2, s3]);
        let expected = usize::try_from(size).unwrap_or(usize::MAX);
        if expected > MAX_MSG_SIZE {
            return Err(SessionError::TooLong { request: message.request, size });
        }
        let mut body = vec![0; expected];
        match self.fill(&mut body, &mut message)? {
            Filled::Whole => {}
            Filled::Cut(found) => return Err(SessionError::Cut { found, expected }),
            Filled::Stopped => return Ok(Received::Stopped),
        }
        message.body = body;
        Ok(Received::Message(message))
    }

    /// Receives until `to` is full; collects descriptors on the way.
    fn fill(&mut self, to: &mut [u8], message: &mut Message) -> Result<Filled, SessionError> {
        let mut done = 0_usize;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let received = recvmsg(&self.socket, &mut [IoSliceMut::new(rest)], &mut control, flags);
            let received = match received {
                Ok(received) => received,
                Err(rustix::io::Errno::AGAIN) => {
                    if !wait_for(self.socket.as_fd(), PollFlags::IN, &self.stop)? {
                        return Ok(Filled::Stopped);
                    }
                    continue;
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::CONNRESET) => return Ok(Filled::Cut(done)),
                Err(e) => return Err(SessionError::Socket(e.into())),
            };
            for part in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = part {
                    message.fds.extend(fds);
                }
            }
            message.truncated |= received.flags.contains(ReturnFlags::CTRUNC);
            if received.bytes == 0 {
                return Ok(Filled::Cut(done));
            }
            done = done.saturating_add(received.bytes);
        }
        Ok(Filled::Whole)
    }

    /// Sends the reply to `request`. False if a stop was requested before the front end took it.
    pub(crate) fn reply(&mut self, request: u32, body: &[u8]) -> Result<bool, SessionError> {
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX); // replies have a few hundred bytes
        let mut bytes = Vec::with_capacity(HEADER_LEN.saturating_add(body.len()));
        for word in [request, VERSION | REPLY, size] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(body);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.socket, &[IoSlice::new(rest)], &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if !wait_for(self.socket.as_fd(), PollFlags::OUT, &self.stop)? {
                        return Ok(false);
                    }
                }
                // The front end is gone; the next receive says so.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Ok(true),
                Err(e) => return Err(SessionError::Socket(e.into())),
            }
        }
        Ok(true)
    }
}
