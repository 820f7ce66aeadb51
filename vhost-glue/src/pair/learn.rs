//! The address that a guest gets by DHCP, learnt from the frames that it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use net_filter::{Lease, MacAddr, learn, may_teach};
use virtio_net_core::rx::Carried;

/// Learns one guest's address, for all its queue pairs.
#[derive(Debug)]
pub(crate) struct Learner {
    own: MacAddr,
    lease: Arc<Lease>,
    epoch: Instant,
    /// Nanoseconds after `epoch` at which the lease ends; `u64::MAX`: there is none, or it does not end.
    ends: AtomicU64,
}

impl Learner {
    pub(crate) fn new(own: MacAddr, lease: Arc<Lease>) -> Self {
        Self { own, lease, epoch: Instant::now(), ends: AtomicU64::new(u64::MAX) }
    }

    /// Looks at a frame that the guest is given; `copy` is a place for it.
    pub(super) fn see(&self, frame: &Carried<'_>, copy: &mut Vec<u8>) {
        if !may_teach(frame.head()) {
            return;
        }
        frame.copy_to(copy);
        if let Some(ack) = learn(copy, self.own) {
            let end = |seconds: u32| self.epoch.elapsed().saturating_add(Duration::from_secs(seconds.into()));
            let ends = ack.seconds.and_then(|seconds| u64::try_from(end(seconds).as_nanos()).ok());
            self.ends.store(ends.unwrap_or(u64::MAX), Ordering::Relaxed);
            self.lease.set(Some(ack.address));
            tracing::info!("the guest's address is {} by DHCP", ack.address);
        }
    }

    /// Forgets the address when its lease has ended. To be called now and then.
    #[inline]
    pub(super) fn expire(&self) {
        let ends = self.ends.load(Ordering::Relaxed);
        if ends != u64::MAX && self.epoch.elapsed() >= Duration::from_nanos(ends) {
            self.lease.set(None);
            self.ends.store(u64::MAX, Ordering::Relaxed);
        }
    }
}
