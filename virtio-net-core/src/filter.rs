//! The filters of [`net_filter`] at the pumps.

use net_filter::{ReceiveFilter, SpoofCheck};

use crate::rx::RxFilter;
use crate::tx::TxFilter;

impl RxFilter for ReceiveFilter {
    #[inline]
    fn accepts(&mut self, head: &[u8]) -> bool {
        Self::accepts(self, head)
    }
}

impl TxFilter for SpoofCheck {
    #[inline]
    fn permits(&mut self, head: &[u8]) -> bool {
        Self::permits(self, head)
    }

    fn permits_checksum(&mut self, head: &[u8], start: u16, offset: u16) -> bool {
        Self::permits_checksum(self, head, start, offset)
    }
}
