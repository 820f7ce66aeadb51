//! TCP: echo, throughput and files.

use crate::inprocess::stack::Stack;
use guest_agent::{Line, Pattern, Step, outcome, port, sha256_hex};
use sha2::{Digest, Sha256};
use smoltcp::iface::SocketHandle;
use std::time::Instant;

const BLOCK: usize = 65_536;

/// Sends for a while, then waits until the other side has taken everything and closed.
pub(super) fn up(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let handle = stack.connect(stack.service(step, port::DISCARD))?;
    let block = vec![0x55; BLOCK];
    let (begin, limit) = (Instant::now(), step.seconds());
    let mut sent = 0_u64;
    stack.until("sending", |stack| {
        let socket = stack.tcp(handle);
        while socket.can_send() {
            let n = socket.send_slice(&block).map_err(|e| format!("after {sent} bytes: {e}"))?;
            sent = sent.saturating_add(n as u64);
        }
        open_or(socket.may_send(), sent)?;
        Ok((begin.elapsed() >= limit).then_some(()))
    })?;
    stack.tcp(handle).close();
    stack
        .until("waiting for the close of the other side", |stack| Ok((!stack.tcp(handle).may_recv()).then_some(())))?;
    Ok(outcome::stream(step, sent, begin.elapsed()))
}

/// Receives for a while.
pub(super) fn down(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let handle = stack.connect(stack.service(step, port::SOURCE))?;
    let (begin, limit) = (Instant::now(), step.seconds());
    let mut received = 0_u64;
    stack.until("receiving", |stack| {
        drain(stack, handle, |data| received = received.saturating_add(data.len() as u64));
        open_or(stack.tcp(handle).may_recv(), received)?;
        Ok((begin.elapsed() >= limit).then_some(()))
    })?;
    let line = outcome::stream(step, received, begin.elapsed());
    stack.tcp(handle).abort();
    stack.until("reset", |stack| Ok((!stack.tcp(handle).is_open()).then_some(())))?;
    Ok(line)
}

/// There and back, both directions at once.
pub(super) fn echo(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let total = step.bytes();
    let handle = stack.connect(stack.service(step, port::ECHO))?;
    let begin = Instant::now();
    let (mut out, mut hash, mut got) = (Outgoing::new(total), Sha256::new(), 0_u64);
    stack.until("echo", |stack| {
        out.fill(stack, handle)?;
        drain(stack, handle, |data| {
            hash.update(data);
            got = got.saturating_add(data.len() as u64);
        });
        if got < total {
            open_or(stack.tcp(handle).may_recv(), got)?;
        }
        Ok((got >= total).then_some(()))
    })?;
    let took = begin.elapsed();
    outcome::matches_pattern(&sha256_hex(hash), total)?;
    Ok(outcome::stream(step, total, took))
}

/// A file to the host; the host's hash of it must be ours.
pub(super) fn file_up(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let total = step.bytes();
    let handle = stack.connect(stack.service(step, port::DIGEST))?;
    let begin = Instant::now();
    let mut out = Outgoing::new(total);
    stack.until("sending the file", |stack| Ok(out.fill(stack, handle)?.then_some(())))?;
    let mut answer = Vec::new();
    stack.until("the host's hash", |stack| {
        drain(stack, handle, |data| answer.extend_from_slice(data));
        Ok((!stack.tcp(handle).may_recv()).then_some(()))
    })?;
    outcome::file(step, total, begin.elapsed(), String::from_utf8_lossy(&answer).trim_end())
}

/// A file from the host: the first bytes of its source.
pub(super) fn file_down(stack: &mut Stack, step: &Step) -> Result<Line, String> {
    let total = step.bytes();
    let handle = stack.connect(stack.service(step, port::SOURCE))?;
    let begin = Instant::now();
    let (mut hash, mut left) = (Sha256::new(), total);
    stack.until("receiving the file", |stack| {
        drain(stack, handle, |data| {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            hash.update(data.get(..wanted).unwrap_or_default());
            left = left.saturating_sub(wanted as u64);
        });
        if left > 0 {
            open_or(stack.tcp(handle).may_recv(), total.saturating_sub(left))?;
        }
        Ok((left == 0).then_some(()))
    })?;
    let took = begin.elapsed();
    stack.tcp(handle).abort();
    stack.until("reset", |stack| Ok((!stack.tcp(handle).is_open()).then_some(())))?;
    outcome::file(step, total, took, &sha256_hex(hash))
}

fn open_or(open: bool, bytes: u64) -> Result<(), String> {
    if open { Ok(()) } else { Err(format!("the other side closed after {bytes} bytes")) }
}

/// Everything that has come.
fn drain(stack: &mut Stack, handle: SocketHandle, mut take: impl FnMut(&[u8])) {
    let socket = stack.tcp(handle);
    while socket.can_recv() {
        let taken = socket.recv(|data| {
            take(data);
            (data.len(), ())
        });
        if taken.is_err() {
            break;
        }
    }
}

/// The pattern on its way out.
struct Outgoing {
    pattern: Pattern,
    left: u64,
    closed: bool,
}

impl Outgoing {
    fn new(total: u64) -> Self {
        Self { pattern: Pattern::default(), left: total, closed: false }
    }

    /// As much as there is room for; after the last byte, the half-close. True when all of it is in the socket.
    fn fill(&mut self, stack: &mut Stack, handle: SocketHandle) -> Result<bool, String> {
        let socket = stack.tcp(handle);
        while self.left > 0 && socket.can_send() {
            let block = self.pattern.block(usize::try_from(self.left).unwrap_or(BLOCK));
            let n = socket.send_slice(block).map_err(|e| format!("{} bytes not sent: {e}", self.left))?;
            self.pattern.skip(n);
            self.left = self.left.saturating_sub(n as u64);
        }
        if self.left > 0 && !socket.may_send() {
            return Err(format!("the other side closed, {} bytes not sent", self.left));
        }
        if self.left == 0 && !std::mem::replace(&mut self.closed, true) {
            socket.close();
        }
        Ok(self.left == 0)
    }
}
