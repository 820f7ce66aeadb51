//! The address that a guest gets by DHCP, learnt from the frames that it is given.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use net_filter::{Lease, MacAddr, learn, may_teach};
use virtio_net_core::rx::Carried;

/// Learns one guest's address, for all its queue pairs and from session to session.
#[derive(Debug)]
pub(crate) struct Learner {
    own: MacAddr,
    lease: Arc<Lease>,
    /// When the lease ends; `None`: there is none, or it does not end. The lease changes under this lock.
    ends: Mutex<Option<Instant>>,
    /// There is such a moment.
    ends_some_day: AtomicBool,
}

impl Learner {
    pub(crate) const fn new(own: MacAddr, lease: Arc<Lease>) -> Self {
        Self { own, lease, ends: Mutex::new(None), ends_some_day: AtomicBool::new(false) }
    }

    /// Looks at a frame that the guest is given; `copy` is a place for it.
    pub(super) fn see(&self, frame: &Carried<'_>, copy: &mut Vec<u8>) {
        if !may_teach(frame.head()) {
            return;
        }
        frame.copy_to(copy);
        if let Some(ack) = learn(copy, self.own) {
            let end = |seconds: u32| Instant::now().checked_add(Duration::from_secs(seconds.into()));
            let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            *ends = ack.seconds.and_then(end);
            self.ends_some_day.store(ends.is_some(), Ordering::Relaxed);
            if self.lease.get() != Some(ack.address) {
                tracing::info!("the guest's address is {} by DHCP", ack.address);
            }
            self.lease.set(Some(ack.address));
        }
    }

    /// Forgets the address when its lease has ended. To be called now and then.
    #[inline]
    pub(super) fn expire(&self) {
        if self.ends_some_day.load(Ordering::Relaxed) {
            self.expire_now();
        }
    }

    fn expire_now(&self) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.is_some_and(|ends| ends <= Instant::now()) {
            *ends = None;
            self.ends_some_day.store(false, Ordering::Relaxed);
            self.lease.set(None);
        }
    }
}
