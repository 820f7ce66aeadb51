//! Every constant against the Linux headers.
#![allow(clippy::arithmetic_side_effects, reason = "a test")]

use virtio_bindings::{virtio_config, virtio_net, virtio_ring};
use virtio_net_core::config::{CONFIG_LEN, MAX_PAIRS, MIN_MTU};
use virtio_net_core::ctrl::{Ack, Counters, CtrlHandler, Reply, RxCounters, TxCounters};
use virtio_net_core::rx::RxStats;
use virtio_net_core::steering::{FlowHash, HashConfig, HashTypes, RssConfig, Steering, TunnelTypes};
use virtio_net_core::tx::TxStats;
use virtio_net_core::{Features, NetConfig, NetDevice, ctrl};

#[test]
fn feature_bits_are_those_of_linux() {
    let table = [
        (Features::CSUM, virtio_net::VIRTIO_NET_F_CSUM),
        (Features::GUEST_CSUM, virtio_net::VIRTIO_NET_F_GUEST_CSUM),
        (Features::CTRL_GUEST_OFFLOADS, virtio_net::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS),
        (Features::MTU, virtio_net::VIRTIO_NET_F_MTU),
        (Features::MAC, virtio_net::VIRTIO_NET_F_MAC),
        (Features::GUEST_TSO4, virtio_net::VIRTIO_NET_F_GUEST_TSO4),
        (Features::GUEST_TSO6, virtio_net::VIRTIO_NET_F_GUEST_TSO6),
        (Features::GUEST_ECN, virtio_net::VIRTIO_NET_F_GUEST_ECN),
        (Features::GUEST_UFO, virtio_net::VIRTIO_NET_F_GUEST_UFO),
        (Features::HOST_TSO4, virtio_net::VIRTIO_NET_F_HOST_TSO4),
        (Features::HOST_TSO6, virtio_net::VIRTIO_NET_F_HOST_TSO6),
        (Features::HOST_ECN, virtio_net::VIRTIO_NET_F_HOST_ECN),
        (Features::HOST_UFO, virtio_net::VIRTIO_NET_F_HOST_UFO),
        (Features::MRG_RXBUF, virtio_net::VIRTIO_NET_F_MRG_RXBUF),
        (Features::STATUS, virtio_net::VIRTIO_NET_F_STATUS),
        (Features::CTRL_VQ, virtio_net::VIRTIO_NET_F_CTRL_VQ),
        (Features::CTRL_RX, virtio_net::VIRTIO_NET_F_CTRL_RX),
        (Features::CTRL_VLAN, virtio_net::VIRTIO_NET_F_CTRL_VLAN),
        (Features::CTRL_RX_EXTRA, virtio_net::VIRTIO_NET_F_CTRL_RX_EXTRA),
        (Features::GUEST_ANNOUNCE, virtio_net::VIRTIO_NET_F_GUEST_ANNOUNCE),
        (Features::MQ, virtio_net::VIRTIO_NET_F_MQ),
        (Features::CTRL_MAC_ADDR, virtio_net::VIRTIO_NET_F_CTRL_MAC_ADDR),
        (Features::VQ_NOTF_COAL, virtio_net::VIRTIO_NET_F_VQ_NOTF_COAL),
        (Features::NOTF_COAL, virtio_net::VIRTIO_NET_F_NOTF_COAL),
        (Features::GUEST_USO4, virtio_net::VIRTIO_NET_F_GUEST_USO4),
        (Features::GUEST_USO6, virtio_net::VIRTIO_NET_F_GUEST_USO6),
        (Features::HOST_USO, virtio_net::VIRTIO_NET_F_HOST_USO),
        (Features::HASH_REPORT, virtio_net::VIRTIO_NET_F_HASH_REPORT),
        (Features::GUEST_HDRLEN, virtio_net::VIRTIO_NET_F_GUEST_HDRLEN),
        (Features::RSS, virtio_net::VIRTIO_NET_F_RSS),
        (Features::RSC_EXT, virtio_net::VIRTIO_NET_F_RSC_EXT),
        (Features::STANDBY, virtio_net::VIRTIO_NET_F_STANDBY),
        (Features::SPEED_DUPLEX, virtio_net::VIRTIO_NET_F_SPEED_DUPLEX),
        (Features::RING_INDIRECT_DESC, virtio_ring::VIRTIO_RING_F_INDIRECT_DESC),
        (Features::RING_EVENT_IDX, virtio_ring::VIRTIO_RING_F_EVENT_IDX),
        (Features::VERSION_1, virtio_config::VIRTIO_F_VERSION_1),
        (Features::RING_PACKED, virtio_config::VIRTIO_F_RING_PACKED),
        (Features::IN_ORDER, virtio_config::VIRTIO_F_IN_ORDER),
        (Features::RING_RESET, virtio_config::VIRTIO_F_RING_RESET),
    ];
    for (feature, bit) in table {
        assert_eq!(feature.bits(), 1 << bit, "{feature}");
    }
    // What the headers do not have yet: by the specification's number.
    let newer = [
        (Features::SUSPEND, 43),
        (Features::DEVICE_STATS, 50),
        (Features::HASH_TUNNEL, 51),
        (Features::RSS_CONTEXT, 64),
        (Features::GUEST_UDP_TUNNEL_GSO, 65),
        (Features::GUEST_UDP_TUNNEL_GSO_CSUM, 66),
        (Features::HOST_UDP_TUNNEL_GSO, 67),
        (Features::HOST_UDP_TUNNEL_GSO_CSUM, 68),
        (Features::OUT_NET_HEADER, 69),
        (Features::IPSEC, 70),
    ];
    for (feature, bit) in newer {
        assert_eq!(feature.bits(), 1 << bit, "{feature}");
    }
    assert_eq!(table.len() + newer.len(), Features::all().iter().count(), "no feature is missing here");
}

#[test]
fn header_values_are_those_of_linux() {
    use virtio_net_core::{DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM};
    let table = [
        (NEEDS_CSUM, virtio_net::VIRTIO_NET_HDR_F_NEEDS_CSUM),
        (DATA_VALID, virtio_net::VIRTIO_NET_HDR_F_DATA_VALID),
        (GSO_NONE, virtio_net::VIRTIO_NET_HDR_GSO_NONE),
        (GSO_TCPV4, virtio_net::VIRTIO_NET_HDR_GSO_TCPV4),
        (GSO_UDP, virtio_net::VIRTIO_NET_HDR_GSO_UDP),
        (GSO_TCPV6, virtio_net::VIRTIO_NET_HDR_GSO_TCPV6),
        (GSO_UDP_L4, virtio_net::VIRTIO_NET_HDR_GSO_UDP_L4),
        (GSO_ECN, virtio_net::VIRTIO_NET_HDR_GSO_ECN),
    ];
    for (ours, linux) in table {
        assert_eq!(u32::from(ours), linux);
    }
    let lengths = [
        (Features::empty(), size_of::<virtio_net::virtio_net_hdr>()),
        (Features::VERSION_1, size_of::<virtio_net::virtio_net_hdr_mrg_rxbuf>()),
        (Features::HASH_REPORT, size_of::<virtio_net::virtio_net_hdr_v1_hash>()),
    ];
    for (acked, len) in lengths {
        assert_eq!(acked.header_len(), len, "{acked}");
    }
}

#[test]
fn config_and_control_values_are_those_of_linux() {
    let table = [
        (ctrl::CLASS_RX, virtio_net::VIRTIO_NET_CTRL_RX),
        (ctrl::RX_PROMISC, virtio_net::VIRTIO_NET_CTRL_RX_PROMISC),
        (ctrl::RX_ALLMULTI, virtio_net::VIRTIO_NET_CTRL_RX_ALLMULTI),
        (ctrl::RX_ALLUNI, virtio_net::VIRTIO_NET_CTRL_RX_ALLUNI),
        (ctrl::RX_NOMULTI, virtio_net::VIRTIO_NET_CTRL_RX_NOMULTI),
        (ctrl::RX_NOUNI, virtio_net::VIRTIO_NET_CTRL_RX_NOUNI),
        (ctrl::RX_NOBCAST, virtio_net::VIRTIO_NET_CTRL_RX_NOBCAST),
        (ctrl::CLASS_MAC, virtio_net::VIRTIO_NET_CTRL_MAC),
        (ctrl::MAC_TABLE_SET, virtio_net::VIRTIO_NET_CTRL_MAC_TABLE_SET),
        (ctrl::MAC_ADDR_SET, virtio_net::VIRTIO_NET_CTRL_MAC_ADDR_SET),
        (ctrl::CLASS_VLAN, virtio_net::VIRTIO_NET_CTRL_VLAN),
        (ctrl::VLAN_ADD, virtio_net::VIRTIO_NET_CTRL_VLAN_ADD),
        (ctrl::VLAN_DEL, virtio_net::VIRTIO_NET_CTRL_VLAN_DEL),
        (ctrl::CLASS_ANNOUNCE, virtio_net::VIRTIO_NET_CTRL_ANNOUNCE),
        (ctrl::ANNOUNCE_ACK, virtio_net::VIRTIO_NET_CTRL_ANNOUNCE_ACK),
        (ctrl::CLASS_MQ, virtio_net::VIRTIO_NET_CTRL_MQ),
        (ctrl::VQ_PAIRS_SET, virtio_net::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET),
        (ctrl::RSS_CONFIG, virtio_net::VIRTIO_NET_CTRL_MQ_RSS_CONFIG),
        (ctrl::HASH_CONFIG, virtio_net::VIRTIO_NET_CTRL_MQ_HASH_CONFIG),
        (ctrl::CLASS_GUEST_OFFLOADS, virtio_net::VIRTIO_NET_CTRL_GUEST_OFFLOADS),
        (ctrl::GUEST_OFFLOADS_SET, virtio_net::VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET),
        (ctrl::CLASS_NOTF_COAL, virtio_net::VIRTIO_NET_CTRL_NOTF_COAL),
        (ctrl::NOTF_COAL_TX_SET, virtio_net::VIRTIO_NET_CTRL_NOTF_COAL_TX_SET),
        (ctrl::NOTF_COAL_RX_SET, virtio_net::VIRTIO_NET_CTRL_NOTF_COAL_RX_SET),
        (ctrl::NOTF_COAL_VQ_SET, virtio_net::VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET),
        (ctrl::NOTF_COAL_VQ_GET, virtio_net::VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET),
        (ctrl::CLASS_STATS, virtio_net::VIRTIO_NET_CTRL_STATS),
        (ctrl::STATS_QUERY, virtio_net::VIRTIO_NET_CTRL_STATS_QUERY),
        (ctrl::STATS_GET, virtio_net::VIRTIO_NET_CTRL_STATS_GET),
        (Ack::Ok as u8, virtio_net::VIRTIO_NET_OK),
        (Ack::Err as u8, virtio_net::VIRTIO_NET_ERR),
        // What the headers do not have yet: by the specification's number.
        (ctrl::CLASS_HASH_TUNNEL, 7),
        (ctrl::HASH_TUNNEL_SET, 0),
        (ctrl::CLASS_RSS_CTX, 9),
        (ctrl::RSS_CTX_CAP_GET, 0),
        (ctrl::RSS_CTX_ADD, 1),
        (ctrl::RSS_CTX_MOD, 2),
        (ctrl::RSS_CTX_DEL, 3),
    ];
    for (ours, linux) in table {
        assert_eq!(u32::from(ours), linux);
    }
    assert_eq!(u32::from(MAX_PAIRS), virtio_net::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX);
    assert_eq!(MIN_MTU, 68);
    // Linux has no `supported_tunnel_types` behind it yet.
    assert_eq!(CONFIG_LEN, size_of::<virtio_net::virtio_net_config>() + 4);
}

/// A frame of TCP or UDP over IPv4, or over IPv6 without or with an extension header.
fn frame(v6: bool, extended: bool, protocol: u8) -> Vec<u8> {
    let mut frame = vec![2; 12];
    match (v6, extended) {
        (false, _) => frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]),
        (true, false) => frame.extend([&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, protocol, 64][..], &[0x20; 32]].concat()),
        (true, true) => frame.extend(
            [&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 0, 64][..], &[0x20; 32], &[protocol, 0, 1, 4, 0, 0, 0, 0]].concat(),
        ),
    }
    frame.extend([0, 80, 0x12, 0x34, 0, 8, 0, 0]);
    frame
}

/// Type, its bit, its report, and a frame that is hashed so.
macro_rules! hashes {
    ($($ours:ident, $bit:ident, $report:ident, $frame:expr;)*) => {
        [$((HashTypes::$ours, virtio_net::$bit, virtio_net::$report, $frame)),*]
    };
}

#[test]
fn n66_n68_hash_types_and_reports_are_those_of_linux() {
    let [icmp, tcp, udp] = [1, 6, 17];
    let table = hashes! {
        IPV4, VIRTIO_NET_RSS_HASH_TYPE_IPv4, VIRTIO_NET_HASH_REPORT_IPv4, frame(false, false, icmp);
        TCPV4, VIRTIO_NET_RSS_HASH_TYPE_TCPv4, VIRTIO_NET_HASH_REPORT_TCPv4, frame(false, false, tcp);
        UDPV4, VIRTIO_NET_RSS_HASH_TYPE_UDPv4, VIRTIO_NET_HASH_REPORT_UDPv4, frame(false, false, udp);
        IPV6, VIRTIO_NET_RSS_HASH_TYPE_IPv6, VIRTIO_NET_HASH_REPORT_IPv6, frame(true, false, icmp);
        TCPV6, VIRTIO_NET_RSS_HASH_TYPE_TCPv6, VIRTIO_NET_HASH_REPORT_TCPv6, frame(true, false, tcp);
        UDPV6, VIRTIO_NET_RSS_HASH_TYPE_UDPv6, VIRTIO_NET_HASH_REPORT_UDPv6, frame(true, false, udp);
        IP_EX, VIRTIO_NET_RSS_HASH_TYPE_IP_EX, VIRTIO_NET_HASH_REPORT_IPv6_EX, frame(true, true, icmp);
        TCP_EX, VIRTIO_NET_RSS_HASH_TYPE_TCP_EX, VIRTIO_NET_HASH_REPORT_TCPv6_EX, frame(true, true, tcp);
        UDP_EX, VIRTIO_NET_RSS_HASH_TYPE_UDP_EX, VIRTIO_NET_HASH_REPORT_UDPv6_EX, frame(true, true, udp);
    };
    for (types, bits, report, frame) in &table {
        assert_eq!(types.bits(), *bits, "{types:?}");
        let mut steering = Steering::default();
        assert_eq!(u32::from(steering.hash(frame).report), virtio_net::VIRTIO_NET_HASH_REPORT_NONE);
        for all in [*types, HashTypes::all()] {
            steering.set_hash(HashConfig { types: all, key: vec![0x5a; 40] });
            assert_eq!(u32::from(steering.hash(frame).report), *report, "{types:?}");
        }
    }
    assert_eq!(table.len(), HashTypes::all().iter().count());
    // Linux has no kinds of tunnel yet: by the specification's numbers.
    let kinds = [
        TunnelTypes::GRE_2784,
        TunnelTypes::GRE_2890,
        TunnelTypes::GRE_7676,
        TunnelTypes::GRE_UDP,
        TunnelTypes::VXLAN,
        TunnelTypes::VXLAN_GPE,
        TunnelTypes::GENEVE,
        TunnelTypes::IPIP,
        TunnelTypes::NVGRE,
    ];
    assert_eq!(kinds.map(|kind| kind.bits()), std::array::from_fn(|bit| 1 << bit));
    assert_eq!(FlowHash::default().report, 0);
}

#[test]
fn n66_an_rss_configuration_is_laid_out_as_in_linux() {
    let config = RssConfig {
        types: HashTypes::UDP_EX,
        unclassified: 2,
        table: vec![0x0303],
        max_tx_vq: 0x0404,
        key: vec![7, 8],
    };
    let bytes = config.to_bytes();
    let at = |offset: usize, len: usize| bytes[offset..offset + len].to_vec();
    use std::mem::offset_of;
    type Linux = virtio_net::virtio_net_rss_config;
    assert_eq!(at(offset_of!(Linux, hash_types), 4), [0, 1, 0, 0]);
    assert_eq!(at(offset_of!(Linux, indirection_table_mask), 2), [0, 0]);
    assert_eq!(at(offset_of!(Linux, unclassified_queue), 2), [2, 0]);
    assert_eq!(at(offset_of!(Linux, indirection_table), 2), [3, 3]);
    assert_eq!(at(offset_of!(Linux, max_tx_vq), 2), [4, 4]);
    assert_eq!(at(offset_of!(Linux, hash_key_length), 1), [2]);
    assert_eq!(bytes[offset_of!(Linux, hash_key_data)..], [7, 8]);
}

/// Counters that all differ.
struct Counted;

impl Counters for Counted {
    fn rx(&self, _pair: u16) -> RxCounters {
        let pump = RxStats {
            frames: 1000,
            bytes: 2,
            dropped: 3,
            no_room: 4,
            data_valid: 5,
            needs_csum: 6,
            gso_frames: 7,
            gso_bytes: 8,
            ..RxStats::default()
        };
        RxCounters { notifications: 9, interrupts: 10, pump }
    }

    fn tx(&self, _pair: u16) -> TxCounters {
        let pump = TxStats {
            frames: 2000,
            bytes: 12,
            failed: 13,
            bad_frames: 14,
            needs_csum: 15,
            gso_frames: 16,
            gso_bytes: 17,
            ..TxStats::default()
        };
        TxCounters { notifications: 18, interrupts: 19, pump }
    }
}

/// Number, bit and size of each kind of counters, and where in it each of them is.
macro_rules! kinds {
    ($($queue:literal, $ours:ident, $bit:ident, $reply:ident, $layout:ident { $($field:ident: $value:literal),* };)*) => {
        [$((
            $queue,
            ctrl::$ours,
            u64::from(virtio_net::$bit),
            virtio_net::$reply,
            size_of::<virtio_net::$layout>(),
            vec![$((std::mem::offset_of!(virtio_net::$layout, $field), $value)),*],
        )),*]
    };
}

#[test]
fn n84_counters_are_laid_out_as_in_linux() {
    let mut device =
        NetDevice::new(&NetConfig::new([2, 0, 0, 0, 0, 1].into()), Features::SUPPORTED, Features::BACK_END).unwrap();
    let acked = Features::VERSION_1
        | Features::CTRL_VQ
        | Features::DEVICE_STATS
        | Features::CSUM
        | Features::GUEST_CSUM
        | Features::HOST_TSO4
        | Features::GUEST_TSO4;
    device.acknowledge(acked).unwrap();
    device.begin_commands();
    let table = kinds! {
        2_u16, STATS_CVQ, VIRTIO_NET_STATS_TYPE_CVQ, VIRTIO_NET_STATS_TYPE_REPLY_CVQ,
            virtio_net_stats_cvq { command_num: 1, ok_num: 1 };
        0, STATS_RX_BASIC, VIRTIO_NET_STATS_TYPE_RX_BASIC, VIRTIO_NET_STATS_TYPE_REPLY_RX_BASIC,
            virtio_net_stats_rx_basic {
                rx_notifications: 9, rx_packets: 1000, rx_bytes: 2, rx_interrupts: 10, rx_drops: 7, rx_drop_overruns: 4
            };
        0, STATS_RX_CSUM, VIRTIO_NET_STATS_TYPE_RX_CSUM, VIRTIO_NET_STATS_TYPE_REPLY_RX_CSUM,
            virtio_net_stats_rx_csum { rx_csum_valid: 5, rx_needs_csum: 6, rx_csum_none: 989, rx_csum_bad: 0 };
        0, STATS_RX_GSO, VIRTIO_NET_STATS_TYPE_RX_GSO, VIRTIO_NET_STATS_TYPE_REPLY_RX_GSO,
            virtio_net_stats_rx_gso {
                rx_gso_packets: 7, rx_gso_bytes: 8, rx_gso_packets_coalesced: 0, rx_gso_bytes_coalesced: 0
            };
        1, STATS_TX_BASIC, VIRTIO_NET_STATS_TYPE_TX_BASIC, VIRTIO_NET_STATS_TYPE_REPLY_TX_BASIC,
            virtio_net_stats_tx_basic {
                tx_notifications: 18, tx_packets: 2000, tx_bytes: 12, tx_interrupts: 19, tx_drops: 27,
                tx_drop_malformed: 14
            };
        1, STATS_TX_CSUM, VIRTIO_NET_STATS_TYPE_TX_CSUM, VIRTIO_NET_STATS_TYPE_REPLY_TX_CSUM,
            virtio_net_stats_tx_csum { tx_csum_none: 1985, tx_needs_csum: 15 };
        1, STATS_TX_GSO, VIRTIO_NET_STATS_TYPE_TX_GSO, VIRTIO_NET_STATS_TYPE_REPLY_TX_GSO,
            virtio_net_stats_tx_gso {
                tx_gso_packets: 16, tx_gso_bytes: 17, tx_gso_segments: 0, tx_gso_segments_bytes: 0,
                tx_gso_packets_noseg: 16, tx_gso_bytes_noseg: 17
            };
    };
    for (queue, ours, bit, number, size, fields) in table {
        assert_eq!(ours, bit);
        assert_eq!(ours, 1 << number);
        let mut data = [0; 16];
        data[..2].copy_from_slice(&queue.to_le_bytes());
        data[8..].copy_from_slice(&ours.to_le_bytes());
        assert_eq!(data.len(), size_of::<virtio_net::virtio_net_ctrl_queue_stats>());
        let mut reply = Reply::new(4096);
        let ack = device.commands(&Counted).handle(ctrl::CLASS_STATS, ctrl::STATS_GET, &data, &mut reply);
        let bytes = reply.as_bytes();
        assert_eq!((ack, bytes.len()), (Ack::Ok, size), "type {number}");
        assert_eq!(u32::from(bytes[0]), number);
        assert_eq!(u16::from_le_bytes([bytes[2], bytes[3]]), queue);
        assert_eq!(usize::from(u16::from_le_bytes([bytes[6], bytes[7]])), size);
        assert_eq!(fields.len(), (size - 8) / 8);
        for (at, value) in fields {
            let field = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            assert_eq!(field, value, "type {number} at {at}");
        }
    }
}
