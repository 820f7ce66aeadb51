//! The connection to the device side: vhost-user messages by rust-vmm's front end, kicks and calls.

use super::memory::Mapping;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VringConfigData};
use virtio_net_core::Features;
use virtio_ring::{QueueConfig, QueueState};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// `VHOST_USER_F_PROTOCOL_FEATURES`.
const PROTOCOL_BIT: u64 = 1 << 30;
/// MAC address, status, queue pairs, MTU.
const CONFIG_LEN: usize = 12;
/// Wait for an answer at most this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Numbers of the rings.
pub(crate) const RX: usize = 0;
pub(crate) const TX: usize = 1;

/// The two descriptors of a ring.
#[derive(Debug)]
struct Events {
    kick: EventFd,
    call: EventFd,
}

impl Events {
    fn new() -> Result<Self, String> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|e| format!("eventfd: {e}"));
        Ok(Self { kick: event()?, call: event()? })
    }
}

/// What the config space said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) mac: [u8; 6],
    pub(crate) status: u16,
    pub(crate) mtu: u16,
}

/// A device of one queue pair, negotiated with and, after [`Link::start`], running.
pub(crate) struct Link {
    front: Frontend,
    rings: [Events; 2],
    /// Made when it is first waited for: most of a thousand front ends of one process never are.
    calls: Option<Epoll>,
    pub(crate) acked: Features,
    /// `None` if it was not to be asked for.
    pub(crate) config: Option<Config>,
}

impl Link {
    /// Connects and negotiates: of `wanted`, what is offered. The config space is read if `configured`; DPDK's back end, for
    /// one, has none.
    pub(crate) fn connect(socket: &Path, wanted: Features, configured: bool) -> Result<Self, String> {
        let fail = |what: &'static str| move |e: vhost::Error| format!("{what}: {e}");
        let stream = UnixStream::connect(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
        // A device side that hangs must not take this thread with it.
        let limited = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        limited.map_err(|e| format!("{}: {e}", socket.display()))?;
        let mut front = Frontend::from_stream(stream, 2);
        front.set_owner().map_err(fail("SET_OWNER"))?;
        let offered = front.get_features().map_err(fail("GET_FEATURES"))?;
        let can = front.get_protocol_features().map_err(fail("GET_PROTOCOL_FEATURES"))?;
        let mut need = VhostUserProtocolFeatures::REPLY_ACK;
        need.set(VhostUserProtocolFeatures::CONFIG, configured);
        if !can.contains(need) {
            return Err(format!("the device side lacks protocol features {:?}", need.difference(can)));
        }
        front.set_protocol_features(need).map_err(fail("SET_PROTOCOL_FEATURES"))?;
        // From now on every request is answered, so that a refusal is not found out later by silence.
        front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let acked = Features::from_bits_truncate(offered.into()) & wanted;
        let config = if configured { Some(read_config(&mut front)?) } else { None };
        front.set_features(acked.bits() as u64 | PROTOCOL_BIT).map_err(fail("SET_FEATURES"))?;
        let rings = [Events::new()?, Events::new()?];
        Ok(Self { front, rings, calls: None, acked, config })
    }

    /// Hands over memory and rings, and starts them from `state` on.
    pub(crate) fn start(
        &mut self,
        mapping: &Mapping,
        queues: [&QueueConfig; 2],
        state: QueueState,
    ) -> Result<(), String> {
        let fail = |what: &'static str| move |e: vhost::Error| format!("{what}: {e}");
        self.front.set_mem_table(&[mapping.describe()]).map_err(fail("SET_MEM_TABLE"))?;
        for (index, (queue, events)) in queues.into_iter().zip(&self.rings).enumerate() {
            let addresses = VringConfigData {
                queue_max_size: queue.size,
                queue_size: queue.size,
                flags: 0,
                desc_table_addr: mapping.user(queue.desc),
                used_ring_addr: mapping.user(queue.device),
                avail_ring_addr: mapping.user(queue.driver),
                log_addr: None,
            };
            self.front.set_vring_num(index, queue.size).map_err(fail("SET_VRING_NUM"))?;
            // The crate has 16 bits for it: those of the split ring, and of the available half of a packed one.
            self.front.set_vring_base(index, state.0 as u16).map_err(fail("SET_VRING_BASE"))?;
            self.front.set_vring_addr(index, &addresses).map_err(fail("SET_VRING_ADDR"))?;
            self.front.set_vring_call(index, &events.call).map_err(fail("SET_VRING_CALL"))?;
            self.front.set_vring_kick(index, &events.kick).map_err(fail("SET_VRING_KICK"))?;
            self.front.set_vring_enable(index, true).map_err(fail("SET_VRING_ENABLE"))?;
        }
        Ok(())
    }

    /// Stops the rings in good order; where each stood.
    pub(crate) fn stop(&mut self) -> Result<[QueueState; 2], String> {
        let mut bases = [QueueState::default(); 2];
        for (index, base) in bases.iter_mut().enumerate() {
            let done = self.front.set_vring_enable(index, false).and_then(|()| self.front.get_vring_base(index));
            let state = done.map_err(|e| format!("stopping ring {index}: {e}"))?;
            *base = QueueState(state);
        }
        Ok(bases)
    }

    /// Tells the device side that there are new buffers in this ring.
    pub(crate) fn kick(&self, ring: usize) -> Result<(), String> {
        let events = self.rings.get(ring);
        events.map_or(Ok(()), |e| e.kick.write(1)).map_err(|e| format!("kick of ring {ring}: {e}"))
    }

    /// Sleeps until a ring is called, at most this long.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<(), String> {
        // Whole milliseconds, rounded up: a stack that is woken early would only wait again.
        let limit = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let calls = match self.calls.take() {
            Some(calls) => calls,
            None => watch(&self.rings).map_err(|e| format!("epoll: {e}"))?,
        };
        let woken = self.calls.insert(calls).wait(limit, &mut [EpollEvent::default(); 2]);
        match woken {
            Ok(0) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(format!("epoll: {e}")),
        }
        for ring in &self.rings {
            // Nothing to read in the one that was not called.
            let _ = ring.call.read();
        }
        Ok(())
    }
}

/// The calls of both rings in one place.
fn watch(rings: &[Events; 2]) -> std::io::Result<Epoll> {
    let calls = Epoll::new()?;
    for ring in rings {
        calls.ctl(ControlOperation::Add, ring.call.as_raw_fd(), EpollEvent::new(EventSet::IN, 0))?;
    }
    Ok(calls)
}

fn read_config(front: &mut Frontend) -> Result<Config, String> {
    let read = front.get_config(0, CONFIG_LEN as u32, VhostUserConfigFlags::empty(), &[0; CONFIG_LEN]);
    let (_, bytes) = read.map_err(|e| format!("GET_CONFIG: {e}"))?;
    let [a, b, c, d, e, f, s0, s1, _, _, m0, m1] = *bytes.as_slice() else {
        return Err(format!("GET_CONFIG gave {} bytes, expected {CONFIG_LEN}", bytes.len()));
    };
    let (status, mtu) = (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([m0, m1]));
    Ok(Config { mac: [a, b, c, d, e, f], status, mtu })
}
