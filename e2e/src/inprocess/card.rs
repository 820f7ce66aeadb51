//! The network card: our driver on two rings, split or packed, between the device side and the TCP/IP stack's frame queues.

use crate::front::link::{Config, Link, RX, TX};
use crate::front::memory::{BASE, Mapping, Memory};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use user_net::offload::{admit, finish, large_segments, towards_host};
use user_net::phy::{FrameQueue, LargeSegments, QueueDevice};
use virtio_net_core::Features;
use virtio_net_core::driver::{BufferPlan, DriverStats, NetDriver};
use virtio_ring::{AnyDriver, Format, MappedArea, Notify, QueueConfig, QueueState};

const RING: u16 = 256;
const TX_BUFFERS: u16 = 128;
/// An Ethernet header and the longest IP packet.
const LONGEST: usize = 14 + 65_535;
/// IP and TCP headers without options, of the longer kind.
const HEADERS: u16 = 60;

/// What is acknowledged if it is offered. No indirect descriptors: every buffer is one element.
const WANTED: Features = Features::VERSION_1
    .union(Features::RING_EVENT_IDX)
    .union(Features::IN_ORDER)
    .union(Features::MAC)
    .union(Features::STATUS)
    .union(Features::MTU)
    .union(Features::MRG_RXBUF)
    .union(Features::CSUM)
    .union(Features::HOST_TSO4)
    .union(Features::HOST_TSO6)
    .union(Features::GUEST_CSUM)
    .union(Features::GUEST_TSO4)
    .union(Features::GUEST_TSO6);

/// See the module.
pub(super) struct Card {
    link: Link,
    config: Config,
    driver: NetDriver<AnyDriver<MappedArea<Arc<Mapping>>>, Memory>,
    /// What the device side takes, in terms of a receiver.
    towards: Features,
    dropped: u64,
}

impl Card {
    /// Connects to the device side and starts both rings: packed ones if they are offered and `packed` says so.
    pub(super) fn plug(socket: &Path, packed: bool) -> Result<Self, String> {
        let wanted = if packed { WANTED.union(Features::RING_PACKED) } else { WANTED };
        let mut link = Link::connect(socket, wanted, true)?;
        let config = link.config.ok_or("the device side was not asked for its config space")?;
        let acked = link.acked;
        let format = format(acked);
        let (event_idx, in_order) = (acked.contains(Features::RING_EVENT_IDX), acked.contains(Features::IN_ORDER));
        let (rx, end) = format.layout(BASE, RING);
        let (tx, end) = format.layout(end, RING);
        let [rx, tx] = [rx, tx].map(|queue| QueueConfig { event_idx, in_order, ..queue });
        let plan = BufferPlan { base: end, rx: RING, tx: TX_BUFFERS, tx_frame: LONGEST };
        let rings = usize::try_from(end.0.saturating_sub(BASE.0)).map_err(|e| e.to_string())?;
        let len = NetDriver::<AnyDriver<MappedArea<()>>, Memory>::memory_len(&plan, acked);
        let len = rings.saturating_add(len).next_multiple_of(1 << 21);
        let mapping = Mapping::new(len).map_err(|e| format!("guest memory: {e}"))?;
        let memory = Mapping::memory(&mapping).map_err(|e| e.to_string())?;
        let ring = |queue| AnyDriver::new(&memory, format, queue).map_err(|e| e.to_string());
        let (rx_ring, tx_ring) = (ring(&rx)?, ring(&tx)?);
        let driver = NetDriver::new(memory.clone(), rx_ring, tx_ring, &plan, acked).map_err(|e| e.to_string())?;
        link.start(&mapping, [&rx, &tx], format.start())?;
        let mut card = Self { link, config, driver, towards: towards_host(acked), dropped: 0 };
        card.notify()?;
        Ok(card)
    }

    /// Features that both sides agreed on.
    pub(super) fn acked(&self) -> Features {
        self.link.acked
    }

    /// What the config space said.
    pub(super) fn config(&self) -> Config {
        self.config
    }

    /// The MTU of the config space, or that of Ethernet.
    pub(super) fn mtu(&self) -> u16 {
        if self.acked().contains(Features::MTU) { self.config().mtu } else { 1500 }
    }

    /// Counters of the driver, and frames that the stack could not take.
    pub(super) fn stats(&self) -> (DriverStats, u64) {
        (*self.driver.stats(), self.dropped)
    }

    /// Which large segments the stack may make.
    pub(super) fn large(&self) -> LargeSegments {
        large_segments(self.towards)
    }

    /// Moves frames both ways. True if there were any.
    pub(super) fn exchange(&mut self, device: &mut QueueDevice) -> Result<bool, String> {
        let sent = self.send(&mut device.tx)?;
        let received = self.receive(&mut device.rx)?;
        self.notify()?;
        Ok(sent || received)
    }

    fn send(&mut self, queue: &mut FrameQueue) -> Result<bool, String> {
        let mss = self.mtu().saturating_sub(HEADERS);
        let mut some = false;
        while let Some(mut frame) = queue.pop() {
            finish(&mut frame, self.towards, mss);
            if !self.driver.send(&frame.header, frame.bytes()).map_err(|e| e.to_string())? {
                queue.push_front(frame);
                break;
            }
            queue.recycle(frame);
            some = true;
        }
        Ok(some)
    }

    fn receive(&mut self, queue: &mut FrameQueue) -> Result<bool, String> {
        let mut some = false;
        while queue.has_room() {
            let Some((header, bytes)) = self.driver.receive().map_err(|e| e.to_string())? else { break };
            let mut frame = queue.take();
            frame.set_len(bytes.len());
            frame.bytes_mut().copy_from_slice(bytes);
            frame.header = header;
            match admit(&mut frame) {
                Ok(_) => queue.push(frame),
                Err(_) => {
                    self.dropped = self.dropped.wrapping_add(1);
                    queue.recycle(frame);
                }
            }
            some = true;
        }
        Ok(some)
    }

    fn notify(&mut self) -> Result<(), String> {
        let (rx, tx) = self.driver.flush();
        for (ring, notify) in [(RX, rx), (TX, tx)] {
            if notify == Notify::Needed {
                self.link.kick(ring)?;
            }
        }
        Ok(())
    }

    /// Sleeps until a frame comes, at most this long; or, if frames are `waiting` to go out, until there is room.
    pub(super) fn wait(&mut self, limit: Duration, waiting: bool) -> Result<(), String> {
        if self.driver.arm_rx() && (!waiting || self.driver.arm_tx()) {
            self.link.wait(limit)?;
        }
        self.driver.disarm();
        Ok(())
    }

    /// Stops the rings in good order. The device must have got as far as there were frames, but for those still in
    /// the ring.
    pub(super) fn unplug(mut self) -> Result<(), String> {
        let [_, at] = self.link.stop()?;
        let (at, mask) = chains(format(self.acked()), at);
        let sent = self.driver.stats().sent;
        if sent.wrapping_sub(at) & mask > TX_BUFFERS.into() {
            return Err(format!("the transmit ring stopped at {at}, expected at most {TX_BUFFERS} before {sent}"));
        }
        Ok(())
    }
}

fn format(acked: Features) -> Format {
    if acked.contains(Features::RING_PACKED) { Format::Packed } else { Format::Split }
}

/// Chains before this state, and the bits of that number that a state holds. Every chain is one descriptor.
fn chains(format: Format, QueueState(state): QueueState) -> (u64, u64) {
    const MASK: u64 = 2 * RING as u64 - 1;
    let place = u64::from(state & 0x7fff);
    match format {
        Format::Split => (state.into(), 0xffff),
        // The wrap counter is 1 on even laps.
        Format::Packed if state & 0x8000 != 0 => (place, MASK),
        Format::Packed => (place.saturating_add(RING.into()), MASK),
    }
}
