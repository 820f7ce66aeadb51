//! A memory that hands out less than it was asked for: every area is measured before it is used.
#![expect(unsafe_code, reason = "implements the seam")]

use crate::{Access, AnyDevice, AnyDriver, Fault, Format, GuestAddr, GuestMemory, GuestSlice, HeapMemory, RingError};

/// Areas at `at` lack their last word.
struct Short {
    inner: HeapMemory,
    at: GuestAddr,
}

// SAFETY: everything is `inner`'s.
unsafe impl GuestMemory for Short {
    type Area = <HeapMemory as GuestMemory>::Area;

    fn translate(&self, addr: GuestAddr, len: usize, access: Access) -> Result<GuestSlice<'_>, Fault> {
        self.inner.translate(addr, len, access)
    }

    fn ring_area(&self, addr: GuestAddr, len: usize) -> Result<Self::Area, Fault> {
        self.inner.ring_area(addr, if addr == self.at { len - 2 } else { len })
    }
}

#[test]
fn areas_that_are_too_short_are_found() {
    const TABLES: GuestAddr = GuestAddr(0x2000);
    for format in [Format::Split, Format::Packed] {
        let (config, _) = format.layout(GuestAddr(0x1000), 4);
        let short = |at| Short { inner: HeapMemory::zeroed(GuestAddr(0), 0x1_0000).unwrap(), at };
        for at in [config.desc, config.driver, config.device] {
            let mem = short(at);
            let driver = AnyDriver::new(&mem, format, &config).err();
            assert!(matches!(driver, Some(RingError::AreaTooShort { .. })), "{format:?}, {at}: {driver:?}");
            let device = AnyDevice::new(&mem, format, &config, format.start()).err();
            assert_eq!(device, driver);
        }
        let mem = short(TABLES);
        let driver = AnyDriver::new(&mem, format, &config).unwrap().with_indirect(&mem, TABLES, 3);
        assert_eq!(driver.err(), Some(RingError::AreaTooShort { len: 4 * 3 * 16 - 2, expected: 4 * 3 * 16 }));
        let driver = AnyDriver::new(&mem, format, &config).unwrap().with_indirect(&mem, GuestAddr(0x3000), 3);
        assert!(driver.is_ok());
    }
}
