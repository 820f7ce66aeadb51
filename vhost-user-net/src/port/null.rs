//! `--net null`.

use std::io;

use virtio_net_core::backend::{FrameSink, FrameSource, RxRoom, Supply, Taken, TxBurst};
use virtio_net_core::rx::RxFilter;

/// Takes every frame and gives none.
#[derive(Debug)]
pub(super) struct NullQueue;

impl FrameSink for NullQueue {
    fn submit(&mut self, burst: &TxBurst<'_>) -> Taken {
        Taken { count: burst.len(), failed: 0 }
    }
}

impl FrameSource for NullQueue {
    type Error = io::Error;

    fn receive<F: RxFilter + ?Sized>(&mut self, _room: &mut RxRoom<'_, F>) -> io::Result<Supply> {
        Ok(Supply::Dry)
    }
}
