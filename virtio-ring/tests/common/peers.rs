//! What tests of both formats begin with: a queue and its features, a sink, lists of set-ups.

use virtio_ring::{
    AnyDevice, AnyDriver, ChainFault, ChainSink, Element, Format, GuestAddr, GuestMemory, QueueConfig, QueueState,
};

use super::guest::RING;

/// A queue and what was negotiated for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setup {
    pub(crate) format: Format,
    pub(crate) size: u16,
    pub(crate) event_idx: bool,
    pub(crate) indirect: bool,
    pub(crate) in_order: bool,
}

impl Setup {
    /// A queue without features.
    pub(crate) const fn new(format: Format, size: u16) -> Self {
        Self { format, size, event_idx: false, indirect: false, in_order: false }
    }

    /// The eight combinations of features.
    pub(crate) fn with_features(format: Format, size: u16) -> impl Iterator<Item = Self> {
        (0..8).map(move |bits| Self {
            format,
            size,
            event_idx: bits & 1 != 0,
            indirect: bits & 2 != 0,
            in_order: bits & 4 != 0,
        })
    }

    pub(crate) fn config(&self) -> QueueConfig {
        let (config, _) = self.format.layout(GuestAddr(RING), self.size);
        QueueConfig { event_idx: self.event_idx, indirect: self.indirect, in_order: self.in_order, ..config }
    }

    /// The first address behind the ring.
    pub(crate) fn end(&self) -> u64 {
        self.format.layout(GuestAddr(RING), self.size).1.0
    }

    /// A driver; with the feature, it has tables of `entries` at `tables`.
    pub(crate) fn driver<M: GuestMemory>(&self, mem: &M, tables: (u64, u16)) -> AnyDriver<M::Area> {
        let driver = AnyDriver::new(mem, self.format, &self.config()).unwrap();
        if self.indirect { driver.with_indirect(mem, GuestAddr(tables.0), tables.1).unwrap() } else { driver }
    }

    pub(crate) fn device<M: GuestMemory>(&self, mem: &M, state: QueueState) -> AnyDevice<M::Area> {
        AnyDevice::new(mem, self.format, &self.config(), state).unwrap()
    }

    /// A device on a ring that was never used.
    pub(crate) fn fresh_device<M: GuestMemory>(&self, mem: &M) -> AnyDevice<M::Area> {
        self.device(mem, self.format.start())
    }
}

/// The elements of a chain.
#[derive(Default, Debug)]
pub(crate) struct List(pub(crate) Vec<Element>);

impl ChainSink for List {
    fn push(&mut self, e: Element) -> Result<(), ChainFault> {
        self.0.push(e);
        Ok(())
    }
}

/// Writable bytes of a chain.
pub(crate) fn room(elements: &[Element]) -> u32 {
    elements.iter().filter(|e| e.writable).map(|e| e.len).sum()
}
