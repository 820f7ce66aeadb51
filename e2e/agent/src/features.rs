//! Names of feature bits (virtio 1.3, 5.1.3 and 6), written from the text of the standard and not from the
//! crates under test, so that a wrong number there shows.

/// Bits and names that the network device and the reserved range use.
const NAMES: &[(usize, &str)] = &[
    (0, "CSUM"),
    (1, "GUEST_CSUM"),
    (2, "CTRL_GUEST_OFFLOADS"),
    (3, "MTU"),
    (5, "MAC"),
    (6, "GSO"),
    (7, "GUEST_TSO4"),
    (8, "GUEST_TSO6"),
    (9, "GUEST_ECN"),
    (10, "GUEST_UFO"),
    (11, "HOST_TSO4"),
    (12, "HOST_TSO6"),
    (13, "HOST_ECN"),
    (14, "HOST_UFO"),
    (15, "MRG_RXBUF"),
    (16, "STATUS"),
    (17, "CTRL_VQ"),
    (18, "CTRL_RX"),
    (19, "CTRL_VLAN"),
    (20, "CTRL_RX_EXTRA"),
    (21, "GUEST_ANNOUNCE"),
    (22, "MQ"),
    (23, "CTRL_MAC_ADDR"),
    (24, "NOTIFY_ON_EMPTY"),
    (27, "ANY_LAYOUT"),
    (28, "INDIRECT_DESC"),
    (29, "EVENT_IDX"),
    (30, "VHOST_PROTOCOL_FEATURES"),
    (32, "VERSION_1"),
    (33, "ACCESS_PLATFORM"),
    (34, "RING_PACKED"),
    (35, "IN_ORDER"),
    (36, "ORDER_PLATFORM"),
    (37, "SR_IOV"),
    (38, "NOTIFICATION_DATA"),
    (39, "NOTIF_CONFIG_DATA"),
    (40, "RING_RESET"),
    (41, "ADMIN_VQ"),
    (51, "DEVICE_STATS"),
    (52, "VQ_NOTF_COAL"),
    (53, "NOTF_COAL"),
    (54, "GUEST_USO4"),
    (55, "GUEST_USO6"),
    (56, "HOST_USO"),
    (57, "HASH_REPORT"),
    (59, "GUEST_HDRLEN"),
    (60, "RSS"),
    (61, "RSC_EXT"),
    (62, "STANDBY"),
    (63, "SPEED_DUPLEX"),
    (64, "RSS_CONTEXT"),
    (65, "GUEST_UDP_TUNNEL_GSO"),
    (66, "GUEST_UDP_TUNNEL_GSO_CSUM"),
    (67, "HOST_UDP_TUNNEL_GSO"),
    (68, "HOST_UDP_TUNNEL_GSO_CSUM"),
];

/// Names of the bits in the kernel's text form: `0` and `1`, bit 0 first.
pub fn feature_names(bits: &str) -> Vec<String> {
    let name = |bit: usize| match NAMES.iter().find(|(b, _)| *b == bit) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("BIT_{bit}"),
    };
    bits.trim().bytes().enumerate().filter(|(_, b)| *b == b'1').map(|(bit, _)| name(bit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_named_from_the_left() {
        assert_eq!(feature_names("1000010000000001\n"), ["CSUM", "MAC", "MRG_RXBUF"]);
        assert_eq!(feature_names(&format!("{}11", "0".repeat(31))), ["BIT_31", "VERSION_1"]);
        assert!(feature_names("").is_empty());
    }
}
