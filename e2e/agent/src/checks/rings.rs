//! The sizes of the rings, through the ethtool request of Linux. There is no program for it in the guest.
#![expect(unsafe_code, reason = "ioctl with a pointer to the request")]

use super::{Guest, error, sysfs};
use guest_agent::{Line, Step, Verdict};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// `ETHTOOL_GRINGPARAM` and `ETHTOOL_SRINGPARAM` of linux/ethtool.h.
const GET: u32 = 0x10;
const SET: u32 = 0x11;

/// `struct ethtool_ringparam`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RingParam {
    cmd: u32,
    rx_max: u32,
    rx_mini_max: u32,
    rx_jumbo_max: u32,
    tx_max: u32,
    rx: u32,
    rx_mini: u32,
    rx_jumbo: u32,
    tx: u32,
}

/// Both rings to the size that the step says.
pub(super) fn resize(guest: &Guest, step: &Step) -> Result<Line, String> {
    if !sysfs::negotiated(guest, "RING_RESET")? {
        let mut line = Line::new(step.name(), Verdict::Info);
        line.reason = Some("RING_RESET was not negotiated".to_owned());
        return Ok(line);
    }
    let before = request(guest, RingParam { cmd: GET, ..RingParam::default() })?;
    let size = step.parameter("size", 64);
    let size = u32::try_from(size).map_err(|_| format!("a ring has no {size} entries"))?;
    let (rx, tx) = if size == 0 { (before.rx_max, before.tx_max) } else { (size, size) };
    request(guest, RingParam { cmd: SET, rx, tx, ..before })?;
    let after = request(guest, RingParam { cmd: GET, ..RingParam::default() })?;
    let line = Line::new(step.name(), Verdict::Pass)
        .value(f64::from(after.rx), "entries")
        .detail("rx", vec![before.rx, after.rx])
        .detail("tx", vec![before.tx, after.tx])
        .detail("most", vec![before.rx_max, before.tx_max]);
    if (after.rx, after.tx) == (rx, tx) {
        return Ok(line);
    }
    Err(format!("rings of {} and {} entries, asked for {rx} and {tx}", after.rx, after.tx))
}

/// Does one ethtool request and returns what the kernel made of it.
fn request(guest: &Guest, mut param: RingParam) -> Result<RingParam, String> {
    // Any socket will do.
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(error("UDP socket"))?;
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    // The last byte stays zero.
    for (to, from) in name.iter_mut().take(libc::IFNAMSIZ.saturating_sub(1)).zip(guest.interface.bytes()) {
        *to = from.cast_signed();
    }
    let data = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut param).cast() };
    let mut ifreq = libc::ifreq { ifr_name: name, ifr_ifru: data };
    // SAFETY: the descriptor is open; for the two commands used the kernel reads and writes one `struct
    // ethtool_ringparam` at ifru_data, which is `param`, of that layout, alive and not otherwise used until the call returns.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut ifreq) };
    if done < 0 {
        let what = if param.cmd == SET { "setting the sizes of the rings" } else { "reading the sizes of the rings" };
        return Err(error(what)(std::io::Error::last_os_error()));
    }
    Ok(param)
}
