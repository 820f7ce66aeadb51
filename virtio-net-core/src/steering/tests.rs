use super::*;
use proptest::prelude::*;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

mod configs;
mod flows;
mod tunnels;

/// Microsoft's key.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

/// What hashes by these types and that key.
fn steering(types: HashTypes, tunnels: TunnelTypes) -> Steering {
    let mut steering = Steering::default();
    steering.set_hash(HashConfig { types, key: KEY.to_vec() });
    steering.set_tunnels(tunnels);
    steering
}

/// Bit by bit, as the paper has it.
fn slow(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], n: usize| bytes.get(n / 8).is_some_and(|b| b & (0x80 >> (n % 8)) != 0);
    let mut hash = 0;
    for n in (0..input.len() * 8).filter(|n| bit(input, *n)) {
        hash ^= (0..32).fold(0, |word, i| word << 1 | u32::from(bit(key, n + i)));
    }
    hash
}

/// Microsoft, "Verifying the RSS hash calculation".
#[test]
fn n66_published_hashes() {
    let v4 = [
        ([66, 9, 149, 187], 2794, [161, 142, 100, 80], 1766, 0x323e_8fc2, 0x51cc_c178),
        ([199, 92, 111, 2], 14230, [65, 69, 140, 83], 4739, 0xd718_262a, 0xc626_b0ea),
        ([24, 19, 198, 95], 12898, [12, 22, 207, 184], 38024, 0xd2d0_a5de, 0x5c2b_394a),
        ([38, 27, 205, 30], 48228, [209, 142, 163, 6], 2217, 0x8298_9176, 0xafc7_327f),
        ([153, 39, 163, 191], 44251, [202, 188, 127, 2], 1303, 0x5d18_09c5, 0x10e8_28a2),
    ];
    let hash = Toeplitz::new(&KEY);
    for (from, from_port, to, to_port, addresses, with_ports) in v4 {
        let (from_port, to_port): (u16, u16) = (from_port, to_port);
        let input = [&from[..], &to, &from_port.to_be_bytes(), &to_port.to_be_bytes()].concat();
        assert_eq!((hash.hash(&input[..8]), hash.hash(&input)), (addresses, with_ports));
    }
    let (from, to): (std::net::Ipv6Addr, std::net::Ipv6Addr) =
        ("3ffe:2501:200:1fff::7".parse().unwrap(), "3ffe:2501:200:3::1".parse().unwrap());
    let input = [&from.octets()[..], &to.octets(), &2794_u16.to_be_bytes(), &1766_u16.to_be_bytes()].concat();
    assert_eq!((hash.hash(&input[..32]), hash.hash(&input)), (0x2cc1_8cd5, 0x4020_7d3d));
}

proptest! {
    #[test]
    fn n66_hashes_agree_with_the_definition(key in prop::collection::vec(any::<u8>(), 0..41), input in prop::collection::vec(any::<u8>(), 0..37)) {
        prop_assert_eq!(Toeplitz::new(&key).hash(&input), slow(&key, &input));
    }
}

#[test]
fn n66_what_is_behind_the_longest_key_and_the_longest_input_does_not_count() {
    let long = [&KEY[..], &[0xff; 20]].concat();
    assert_eq!(Toeplitz::new(&long), Toeplitz::new(&KEY));
    assert_eq!(Toeplitz::new(&long).key(), KEY);
    let input: Vec<u8> = (0..60).collect();
    assert_eq!(Toeplitz::new(&KEY).hash(&input), slow(&KEY, &input[..36]));
    assert_eq!(Toeplitz::default().hash(&input), 0);
}
