//! How fast the embedded network is: a guest in the same thread, with smoltcp as its TCP/IP stack, on real rings.
//!
//! `cargo run --release -p user-net --example throughput`
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use smoltcp::socket::tcp::State;
use support::client::Client;
use support::raw::{HOST4, HOST6, udp4};
use support::{Guest, all, plain};
use virtio_net_core::{Features, NetHeader};

const TIME: Duration = Duration::from_secs(1);

fn gbit(bytes: u64, took: Duration) -> f64 {
    bytes as f64 * 8.0 / took.as_secs_f64() / 1e9
}

/// Sends to a port for a while; what comes back is taken and dropped.
fn run(client: &mut Client, host: std::net::IpAddr, port: u16) -> (f64, f64) {
    let handle = client.connect(host, port);
    client.established(handle);
    let block = vec![0x55; 1 << 16];
    let (mut sent, mut got) = (0_u64, 0_u64);
    let begin = Instant::now();
    while begin.elapsed() < TIME {
        let socket = client.socket(handle);
        while port != 19
            && let Ok(n) = socket.send_slice(&block)
            && n > 0
        {
            sent += n as u64;
        }
        while let Ok(n) = socket.recv(|bytes| (bytes.len(), bytes.len()))
            && n > 0
        {
            got += n as u64;
        }
        client.turn();
    }
    let took = begin.elapsed();
    client.socket(handle).abort();
    client.until("reset", |c| c.socket(handle).state() == State::Closed);
    (gbit(sent, took), gbit(got, took))
}

fn udp(acked: Features) {
    let mut guest = Guest::new(acked);
    let frame = udp4((6000, 7), &[0x55; 1400]);
    let begin = Instant::now();
    let mut count = 0_u64;
    while begin.elapsed() < TIME {
        for _ in 0..32 {
            assert!(guest.post(&NetHeader::NONE, &frame));
        }
        guest.transmit();
        guest.deliver();
        while guest.receive().is_some() {
            count += 1;
        }
    }
    let took = begin.elapsed();
    let rate = count as f64 / took.as_secs_f64() / 1e6;
    println!("UDP echo, 1400 bytes: {rate:.2} M datagrams/s, {:.2} Gbit/s each way", gbit(count * 1400, took));
}

fn main() {
    for (name, acked) in [("no offload", plain()), ("all offloads", all())] {
        println!("{name}");
        let mut client = Client::new(Guest::new(acked));
        for (version, host) in [("IPv4", HOST4.into()), ("IPv6", HOST6.into())] {
            println!("  {version} discard: {:6.2} Gbit/s up", run(&mut client, host, 9).0);
            println!("  {version} digest:  {:6.2} Gbit/s up", run(&mut client, host, 4809).0);
            println!("  {version} source:  {:6.2} Gbit/s down", run(&mut client, host, 19).1);
            println!("  {version} echo:    {:6.2} Gbit/s each way", run(&mut client, host, 7).1);
        }
        udp(acked);
    }
}
