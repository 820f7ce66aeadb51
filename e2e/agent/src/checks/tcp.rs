//! TCP: echo, throughput and files.

use super::{Guest, error};
use guest_agent::{Line, Pattern, Step, outcome, port, sha256_hex};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const BLOCK: usize = 65_536;
/// A peer that neither takes nor gives for this long is given up.
const STALL: Duration = Duration::from_secs(10);

fn connect(guest: &Guest, step: &Step, port: u16) -> Result<TcpStream, String> {
    let peer = guest.service(step, port);
    let stream =
        TcpStream::connect_timeout(&peer, Duration::from_secs(5)).map_err(error(&format!("connect to {peer}")))?;
    stream.set_read_timeout(Some(STALL)).map_err(error("read time limit"))?;
    stream.set_write_timeout(Some(STALL)).map_err(error("write time limit"))?;
    Ok(stream)
}

/// Sends for a while, then waits until the other side has taken everything and closed.
pub(super) fn up(guest: &Guest, step: &Step) -> Result<Line, String> {
    let mut stream = connect(guest, step, port::DISCARD)?;
    let (limit, block) = (step.seconds(), vec![0x55; BLOCK]);
    let begin = Instant::now();
    let mut sent = 0u64;
    while begin.elapsed() < limit {
        let n = stream.write(&block).map_err(error(&format!("after {sent} bytes")))?;
        sent = sent.saturating_add(n as u64);
    }
    stream.shutdown(Shutdown::Write).map_err(error("half-close"))?;
    let extra = stream.read(&mut [0; 16]).map_err(error("waiting for the close of the other side"))?;
    if extra != 0 {
        return Err(format!("the discard service sent {extra} bytes"));
    }
    Ok(outcome::stream(step, sent, begin.elapsed()))
}

/// Receives for a while.
pub(super) fn down(guest: &Guest, step: &Step) -> Result<Line, String> {
    let mut stream = connect(guest, step, port::SOURCE)?;
    let (limit, mut block) = (step.seconds(), vec![0; BLOCK]);
    let begin = Instant::now();
    let mut received = 0u64;
    while begin.elapsed() < limit {
        let n = stream.read(&mut block).map_err(error(&format!("after {received} bytes")))?;
        if n == 0 {
            return Err(format!("the source closed after {received} bytes"));
        }
        received = received.saturating_add(n as u64);
    }
    Ok(outcome::stream(step, received, begin.elapsed()))
}

/// There and back, with two threads so that both directions are busy at once.
pub(super) fn echo(guest: &Guest, step: &Step) -> Result<Line, String> {
    let total = step.bytes();
    let mut stream = connect(guest, step, port::ECHO)?;
    let mut sender = stream.try_clone().map_err(error("second handle"))?;
    let begin = Instant::now();
    let writer = std::thread::spawn(move || {
        send_pattern(&mut sender, total)?;
        sender.shutdown(Shutdown::Write).map_err(error("half-close"))
    });
    let got = receive_hash(&mut stream, total)?;
    writer.join().map_err(|_| "the sending thread ended early".to_owned())??;
    let took = begin.elapsed();
    outcome::matches_pattern(&got, total)?;
    Ok(outcome::stream(step, total, took))
}

/// A file to the host; the host's hash of it must be ours.
pub(super) fn file_up(guest: &Guest, step: &Step) -> Result<Line, String> {
    let total = step.bytes();
    let mut stream = connect(guest, step, port::DIGEST)?;
    let begin = Instant::now();
    send_pattern(&mut stream, total)?;
    stream.shutdown(Shutdown::Write).map_err(error("half-close"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(error("answer"))?;
    outcome::file(step, total, begin.elapsed(), answer.trim_end())
}

/// A file from the host: the first bytes of its source.
pub(super) fn file_down(guest: &Guest, step: &Step) -> Result<Line, String> {
    let total = step.bytes();
    let mut stream = connect(guest, step, port::SOURCE)?;
    let begin = Instant::now();
    let got = receive_hash(&mut stream, total)?;
    outcome::file(step, total, begin.elapsed(), &got)
}

fn send_pattern(stream: &mut TcpStream, total: u64) -> Result<(), String> {
    let mut pattern = Pattern::default();
    let mut left = total;
    while left > 0 {
        let block = pattern.block(usize::try_from(left).unwrap_or(BLOCK));
        let n = stream.write(block).map_err(|e| format!("{left} of {total} bytes not sent: {e}"))?;
        pattern.skip(n);
        left = left.saturating_sub(n as u64);
    }
    Ok(())
}

fn receive_hash(stream: &mut TcpStream, total: u64) -> Result<String, String> {
    let (mut hash, mut block, mut left) = (Sha256::new(), vec![0; BLOCK], total);
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let room = block.get_mut(..room).unwrap_or_default();
        let n = stream.read(room).map_err(|e| format!("{left} of {total} bytes did not come: {e}"))?;
        if n == 0 {
            return Err(format!("closed with {left} of {total} bytes to come"));
        }
        hash.update(room.get(..n).unwrap_or_default());
        left = left.saturating_sub(n as u64);
    }
    Ok(sha256_hex(hash))
}
