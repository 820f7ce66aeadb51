//! Both formats.

use virtio_ring::{Chains, DeviceRing, DriverRing, Element, Format, GuestAddr, GuestMemory, HeapMemory};

use crate::common::guest::{bytes, poke};
use crate::common::peers::Setup;

const TABLES: u64 = 0x2_0000;
const ENTRIES: u16 = 8;
/// Buffers that the device may read, and behind them those that it may write.
const READABLE: u64 = 0x4_0000;
const WRITABLE: u64 = 0x8_0000;
const SPACE: usize = 0x4_0000;

/// Traffic of chains that are read and written to the last byte. The memory is compared piece by piece: what the device may
/// read, its descriptors and the tables are never written.
#[test]
fn s2_s4_p3_the_device_writes_only_what_is_for_it_to_write() {
    for setup in [Format::Split, Format::Packed].into_iter().flat_map(|format| Setup::with_features(format, 16)) {
        let mem = HeapMemory::zeroed(GuestAddr(0), 0x10_0000).unwrap();
        let mut driver = setup.driver(&mem, (TABLES, ENTRIES));
        let mut device = setup.fresh_device(&mem);
        let mut chains = Chains::new(mem.clone(), 16);
        poke(&mem, READABLE, &vec![0x5a; SPACE]);
        let mut serial = 0;
        for round in 0..100_u64 {
            poke(&mem, WRITABLE, &vec![0; SPACE]);
            let mut posted = Vec::new();
            loop {
                let readable = (serial + round) % 4;
                let elements: Vec<Element> = (0..readable + 1 + serial % 3)
                    .map(|i| {
                        let (writable, at) = (i >= readable, 0x800 * (serial % 16) + 0x100 * i);
                        let base = if writable { WRITABLE } else { READABLE };
                        Element { addr: GuestAddr(base + at), len: 1 + (serial * 7 + i) as u32 % 200, writable }
                    })
                    .collect();
                if driver.add(&elements).is_err() {
                    break;
                }
                serial += 1;
                posted.extend(elements.into_iter().filter(|e| e.writable));
            }
            let _ = driver.flush();
            let config = setup.config();
            let table = bytes(&mem, config.desc.0, 16 * 16);
            let tables = bytes(&mem, TABLES, 0x2_0000);
            let driver_area = bytes(&mem, config.driver.0, 4 + if setup.format == Format::Split { 34 } else { 0 });
            serve(&mut chains, &mut device, round % 3 == 0);
            assert!(bytes(&mem, READABLE, SPACE).iter().all(|b| *b == 0x5a), "{setup:?}: a readable buffer");
            assert!(bytes(&mem, TABLES, 0x2_0000) == tables, "{setup:?}: a table");
            assert!(bytes(&mem, config.driver.0, driver_area.len()) == driver_area, "{setup:?}: the driver's area");
            let now = bytes(&mem, config.desc.0, 16 * 16);
            if setup.format == Format::Split {
                assert!(now == table, "{setup:?}: the descriptor table");
            } else {
                // Length, id and flags are where a used descriptor goes; the address is not.
                let addresses = |ring: &[u8]| ring.chunks(16).flat_map(|d| d[..8].to_vec()).collect::<Vec<_>>();
                assert!(addresses(&now) == addresses(&table), "{setup:?}: an address");
            }
            only_these(&mem, &posted);
            while driver.poll_used().unwrap().is_some() {}
        }
        assert!(serial > 300, "{serial}");
    }
}

/// Writes every writable byte of every chain, and reads every readable one.
fn serve<R: DeviceRing>(chains: &mut Chains<HeapMemory>, device: &mut R, one_by_one: bool) {
    while chains.fill(device).unwrap() > 0 {
        while !chains.is_empty() {
            let view = chains.view();
            let chain = &view.chains()[0];
            assert!(!chain.is_faulty());
            let read: usize = view.readable(chain).iter().map(|seg| seg.read(&mut [0; 256])).sum();
            assert_eq!(read as u32, chain.readable_len());
            let written: usize = view.writable(chain).iter().map(|seg| seg.write(&[0xa5; 256])).sum();
            let token = chains.pop().unwrap();
            device.complete(token, written as u32);
            if one_by_one {
                let _ = device.flush();
            }
        }
    }
    let _ = device.flush();
}

/// Exactly the posted bytes were written.
fn only_these<M: GuestMemory>(mem: &M, posted: &[Element]) {
    let mut wanted = vec![0; SPACE];
    for e in posted {
        let at = (e.addr.0 - WRITABLE) as usize;
        wanted[at..at + e.len as usize].fill(0xa5);
    }
    assert!(bytes(mem, WRITABLE, SPACE) == wanted, "bytes beside the posted ones");
}
