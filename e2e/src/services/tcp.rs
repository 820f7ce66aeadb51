//! The TCP services: a thread for each connection.

use super::GLANCE;
use guest_agent::{PERIOD, Pattern, port, sha256_hex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const BLOCK: usize = 256 * 1024;

/// Accepts until told to stop, then waits for the connections to end.
pub(super) fn serve(number: u16, listener: &TcpListener, stop: &Arc<AtomicBool>) {
    let glance = Timespec::try_from(GLANCE).ok();
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], glance.as_ref());
        let Ok((stream, _)) = listener.accept() else { continue };
        connections.retain(|c| !c.is_finished());
        let stop = Arc::clone(stop);
        connections.push(std::thread::spawn(move || {
            // A peer that resets its connection is its own business; the guest's check will say so.
            let _ = connection(number, stream, &stop);
        }));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

fn connection(number: u16, stream: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(GLANCE))?;
    stream.set_write_timeout(Some(GLANCE))?;
    stream.set_nodelay(true)?;
    let mut peer = Patient { stream, stop };
    match number {
        port::ECHO => each_block(&mut peer, |peer, data| peer.send(data)),
        port::DISCARD => each_block(&mut peer, |_, _| Ok(())),
        port::DIGEST => {
            let mut hash = Sha256::new();
            each_block(&mut peer, |_, data| {
                hash.update(data);
                Ok(())
            })?;
            peer.send(format!("{}\n", sha256_hex(hash)).as_bytes())
        }
        _ => source(&mut peer),
    }
}

fn each_block(
    peer: &mut Patient<'_>,
    mut act: impl FnMut(&mut Patient<'_>, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        let n = peer.receive(&mut block)?;
        if n == 0 {
            return Ok(());
        }
        act(peer, block.get(..n).unwrap_or_default())?;
    }
}

/// Sends several periods at a time: the stream repeats, so the block is always the same.
fn source(peer: &mut Patient<'_>) -> io::Result<()> {
    let block = Pattern::default().block(PERIOD).repeat(BLOCK.div_ceil(PERIOD));
    loop {
        peer.send(&block)?;
    }
}

/// A stream whose waits end when the services do.
struct Patient<'a> {
    stream: TcpStream,
    stop: &'a AtomicBool,
}

impl Patient<'_> {
    fn receive(&mut self, block: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(block) {
                Err(e) => self.again(e)?,
                done => return done,
            }
        }
    }

    fn send(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match self.stream.write(data) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => data = data.get(n..).unwrap_or_default(),
                Err(e) => self.again(e)?,
            }
        }
        Ok(())
    }

    /// Whether a wait that came to nothing is to go on.
    fn again(&self, e: io::Error) -> io::Result<()> {
        let waited =
            matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted);
        if waited && !self.stop.load(Ordering::Relaxed) { Ok(()) } else { Err(e) }
    }
}
