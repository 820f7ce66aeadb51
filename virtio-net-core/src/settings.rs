//! What a driver asked for by control commands.

use alloc::sync::Arc;

use net_filter::RxRules;

use crate::coalesce::Coalescing;
use crate::features::Features;
use crate::steering::Steering;

/// Everything that control commands set: what is in force. Plain data; [`NetDevice`](crate::NetDevice) shares one picture
/// of it after the other with whoever serves its queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Queue pairs that the driver uses.
    pub pairs: u16,
    /// Frames that it wants.
    pub filter: Arc<RxRules>,
    /// Receive offloads that are on: some of those that it acknowledged.
    pub offloads: Features,
    /// Hashes, and receive queues by hash.
    pub steering: Steering,
    /// Calls that are held back.
    pub coalescing: Coalescing,
}

impl Settings {
    /// What holds for a driver that acknowledged `acked` before it commands anything, in a device with `pairs` queue pairs.
    #[must_use]
    pub fn new(filter: RxRules, pairs: u16, acked: Features) -> Self {
        Self {
            // Virtio 1.4, 5.1.6.5.5.2: only the first pair until the driver asks for more.
            pairs: 1,
            filter: Arc::new(filter),
            // 5.1.6.5.8.1: all that were acknowledged are on.
            offloads: acked.intersection(Features::GUEST_OFFLOADS),
            steering: Steering::default(),
            coalescing: Coalescing::new(pairs),
        }
    }
}
