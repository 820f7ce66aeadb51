//! What a pair does with a received frame: the guest's filter, and the queue that it belongs to.

use std::sync::Arc;

use net_filter::{ReceiveFilter, RxFilterStats};
use virtio_net_core::rx::{Carried, RxFilter, Steer};
use virtio_net_core::{NetHeader, Settings};

use super::shared::Shared;

/// The rules of the moment for one pair's receive queue.
#[derive(Debug)]
pub(super) struct Gate {
    pair: u16,
    filter: ReceiveFilter,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    /// Where a frame is put together that may teach something.
    copy: Vec<u8>,
}

impl Gate {
    pub(super) fn new(pair: usize, shared: Arc<Shared>, settings: Arc<Settings>) -> Self {
        let filter = ReceiveFilter::new(Arc::clone(&settings.filter));
        Self { pair: pair as u16, filter, settings, shared, copy: Vec::new() } // at most 127
    }

    pub(super) fn adopt(&mut self, settings: Arc<Settings>) {
        self.filter.set_rules(Arc::clone(&settings.filter));
        self.settings = settings;
    }

    pub(super) const fn stats(&self) -> &RxFilterStats {
        self.filter.stats()
    }
}

impl RxFilter for Gate {
    #[inline]
    fn accepts(&mut self, head: &[u8]) -> bool {
        self.filter.accepts(head)
    }

    fn steer(&mut self, frame: &Carried<'_>) -> Steer {
        if let Some(learner) = self.shared.learner() {
            learner.see(frame, &mut self.copy);
        }
        let hash = self.settings.steering.hash(frame.head());
        match self.settings.steering.queue(hash) {
            Some(pair) if pair != self.pair => Steer::To(pair),
            _ => Steer::Here(hash),
        }
    }

    fn hand_over(&mut self, queue: u16, header: &NetHeader, frame: &Carried<'_>) -> bool {
        self.shared.hand_over(queue, header, frame)
    }
}
