//! Calls that are held back, as the driver commanded.

use virtio_net_core::coalesce::{CoalesceParams, Coalescer};
use virtio_net_core::rx::RxPump;
use virtio_net_core::tx::TxPump;
use virtio_ring::{DeviceRing, GuestMemory, Notify};

use super::line::{Line, Ring};

/// A pump whose calls can be held back.
pub(super) trait Calls {
    fn hold_calls(&mut self, on: bool);
    fn call<R: DeviceRing>(&mut self, ring: &mut R) -> Notify;
}

impl<M: GuestMemory> Calls for RxPump<M> {
    fn hold_calls(&mut self, on: bool) {
        Self::hold_calls(self, on);
    }

    fn call<R: DeviceRing>(&mut self, ring: &mut R) -> Notify {
        Self::call(self, ring)
    }
}

impl<M: GuestMemory> Calls for TxPump<M> {
    fn hold_calls(&mut self, on: bool) {
        Self::hold_calls(self, on);
    }

    fn call<R: DeviceRing>(&mut self, ring: &mut R) -> Notify {
        Self::call(self, ring)
    }
}

/// The calls of one ring.
#[derive(Debug, Default)]
pub(super) struct Held(Coalescer);

impl Held {
    /// Goes by other parameters; makes the call that is due by them.
    pub(super) fn set(&mut self, params: CoalesceParams, now: u64, line: &mut Line, pump: &mut impl Calls) {
        // What a disabled ring discards is called for at once.
        pump.hold_calls(params.is_on() && line.enabled);
        if self.0.set(params, now) {
            self.call(line, pump);
        }
    }

    /// True if calls are held back at all.
    #[inline]
    pub(super) const fn is_on(&self) -> bool {
        self.0.is_on()
    }

    /// So many packets went through the ring; makes the call that is due.
    pub(super) fn note(&mut self, packets: u64, now: u64, line: &mut Line, pump: &mut impl Calls) {
        let due = if packets > 0 { self.0.note(packets, now) } else { self.0.is_due(now) };
        if due {
            self.call(line, pump);
        }
    }

    /// True if a call is held back that is due by now.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.0.is_due(now)
    }

    /// The ring is broken: nothing is called for any more.
    pub(super) const fn forget(&mut self) {
        self.0.called();
    }

    /// Makes the call that is held back, due or not: the ring is left.
    pub(super) fn release(&mut self, line: &mut Line, pump: &mut impl Calls) {
        if self.0.is_waiting() {
            self.call(line, pump);
        }
    }

    /// When a call is due, in nanoseconds of the pair's clock.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.0.deadline()
    }

    fn call(&mut self, line: &mut Line, pump: &mut impl Calls) {
        self.0.called();
        if line.is_sound() && line.enabled {
            let notify = match &mut line.ring {
                Ring::Split(ring) => pump.call(ring),
                Ring::Packed(ring) => pump.call(ring),
            };
            line.notify(notify);
        }
    }
}
