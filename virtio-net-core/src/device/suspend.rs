//! Suspending and resuming (virtio 1.4, 2.1.2 and the clause on device suspend), and what changes the config space of a device that runs.

use super::NetDevice;
use crate::features::Features;
use crate::state::NetState;

/// Whether the device is suspended, and what waits for the end of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Suspension {
    suspended: bool,
    /// The link that is to be shown.
    link: Option<bool>,
    /// The driver is to be asked to announce itself.
    announce: bool,
}

impl Suspension {
    pub(super) const fn of(state: &NetState) -> Self {
        Self { suspended: state.suspended, link: state.link_later, announce: state.announce_later }
    }
}

impl NetDevice {
    /// What waits for the end of the suspension: the link, and whether to announce.
    pub(crate) const fn later(&self) -> (Option<bool>, bool) {
        (self.suspension.link, self.suspension.announce)
    }

    /// Suspends it: from now on the config space does not change. The queues are the caller's: what is under way is to be
    /// finished and notified before this, and nothing after it.
    ///
    /// False, and nothing done: the driver did not acknowledge the feature.
    pub fn suspend(&mut self) -> bool {
        // Not `suspended |= can`: rustc 1.95 makes a store of 1 of it in some builds, whatever `can` is.
        if !self.acked.contains(Features::SUSPEND) {
            return false;
        }
        self.suspension.suspended = true;
        true
    }

    /// True if it is suspended.
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        self.suspension.suspended
    }

    /// Ends the suspension. True if the driver is to get a configuration change notification for what was to change
    /// meanwhile.
    pub fn resume(&mut self) -> bool {
        let waiting = core::mem::take(&mut self.suspension);
        let link = waiting.link.is_some_and(|up| self.config.set_link(up));
        let announce = waiting.announce && self.config.announce();
        link || announce
    }

    /// Sets the link up or down. True if the driver is to get a configuration change notification; a suspended device shows
    /// it later.
    pub fn set_link(&mut self, up: bool) -> bool {
        if self.suspension.suspended {
            self.suspension.link = Some(up);
            return false;
        }
        self.config.set_link(up)
    }

    /// Asks the driver to announce itself, if that was offered. True if it is to get a configuration change notification; a
    /// suspended device asks later.
    pub fn announce(&mut self) -> bool {
        if self.suspension.suspended {
            self.suspension.announce = true;
            return false;
        }
        self.config.announce()
    }
}
