//! Frames that the tests give a guest: each has its number in a mark, and is long enough for the guest to show its hash.

#![allow(clippy::indexing_slicing, reason = "tests")]

use e2e::agent::frame::mark;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub(crate) type Mac = [u8; 6];
/// Tags of a frame, the outer one first, each of a protocol and a VLAN.
pub(crate) type Tags = [([u8; 2], u16)];

/// Where frames for the guest come from.
pub(crate) const SENDER: Mac = [2, 0, 0, 0, 0, 0xfe];
pub(crate) const BROADCAST: Mac = [0xff; 6];
/// A length that shows all that the guest knows of a frame.
const LEN: usize = 600;
/// IEEE 802, for local experiments: no stack answers it.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// An Ethernet frame with this number and these tags.
pub(crate) fn plain(to: Mac, tags: &Tags, number: u32) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|(protocol, id)| [&protocol[..], &id.to_be_bytes()].concat()).collect();
    let mut frame = [&to[..], &SENDER, &tags, &EXPERIMENT, &mark(number)].concat();
    frame.resize(LEN, 0x5a);
    frame
}

/// A flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// 6 or 17.
    pub(crate) protocol: u8,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

impl Flow {
    /// A frame of this flow to `mac` with this number. Checksums are left out: nobody in the guest has these addresses.
    pub(crate) fn frame(&self, mac: Mac, number: u32) -> Vec<u8> {
        let ports = [self.from.port().to_be_bytes(), self.to.port().to_be_bytes()].concat();
        let transport = match self.protocol {
            TCP => [&ports[..], &[0; 8], &[0x50, 2, 0xff, 0xff], &[0; 4], &mark(number)].concat(),
            _ => [&ports[..], &((LEN - 14 - 20) as u16).to_be_bytes(), &[0; 2], &mark(number)].concat(),
        };
        let (kind, network) = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ([8, 0], self.ipv4(from, to)),
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let len = ((LEN - 14 - 40) as u16).to_be_bytes();
                let head = [0x60, 0, 0, 0, len[0], len[1], self.protocol, 64];
                ([0x86, 0xdd], [&head[..], &from.octets(), &to.octets()].concat())
            }
            _ => unreachable!("a flow of two versions"),
        };
        let mut frame = [&mac[..], &SENDER, &kind, &network, &transport].concat();
        frame.resize(LEN, 0x5a);
        frame
    }

    fn ipv4(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let len = ((LEN - 14) as u16).to_be_bytes();
        let fields = [0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, self.protocol, 0, 0];
        let mut head = [&fields[..], &from.octets(), &to.octets()].concat();
        let sum: u32 = head.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        head
    }

    /// What the hash of the flow is over: addresses, and ports if they count (virtio 1.4, 5.1.6.4.3.2).
    pub(crate) fn hashed(&self, ports: bool) -> Vec<u8> {
        let address = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mut bytes = [address(self.from.ip()), address(self.to.ip())].concat();
        if ports {
            bytes.extend(self.from.port().to_be_bytes());
            bytes.extend(self.to.port().to_be_bytes());
        }
        bytes
    }
}

/// The Toeplitz hash as its definition has it, bit by bit: the key's 32 bits from each set bit's place on, added without
/// carry.
pub(crate) fn toeplitz(key: &[u8], data: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| bytes.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0);
    let window = |at: usize| (at..at + 32).fold(0_u32, |word, at| word << 1 | u32::from(bit(key, at)));
    (0..data.len() * 8).filter(|at| bit(data, *at)).fold(0, |hash, at| hash ^ window(at))
}
