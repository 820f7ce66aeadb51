//! Every constant against the Linux headers.

use virtio_bindings::{virtio_config, virtio_net, virtio_ring};
use virtio_net_core::config::{CONFIG_LEN, MAX_PAIRS, MIN_MTU};
use virtio_net_core::{Features, ctrl};

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
        (ctrl::CLASS_MQ.into(), virtio_net::VIRTIO_NET_CTRL_MQ),
        (ctrl::VQ_PAIRS_SET.into(), virtio_net::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET),
        (MAX_PAIRS.into(), virtio_net::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX),
        (1, virtio_net::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN),
        (ctrl::CLASS_ANNOUNCE.into(), virtio_net::VIRTIO_NET_CTRL_ANNOUNCE),
        (ctrl::ANNOUNCE_ACK.into(), virtio_net::VIRTIO_NET_CTRL_ANNOUNCE_ACK),
        (ctrl::Ack::Ok as u32, virtio_net::VIRTIO_NET_OK),
        (ctrl::Ack::Err as u32, virtio_net::VIRTIO_NET_ERR),
        (MIN_MTU.into(), 68),
    ];
    for (ours, linux) in table {
        assert_eq!(ours, linux);
    }
    // Linux has no `supported_tunnel_types` behind it yet.
    assert_eq!(CONFIG_LEN, size_of::<virtio_net::virtio_net_config>() + 4);
}
