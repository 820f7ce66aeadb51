use super::*;
use guest_agent::{HOST_NAME, HOST4, PERIOD, Pattern, dns};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};

fn services() -> Services {
    Services::start(Place::Here).unwrap()
}

fn tcp(services: &Services, number: u16) -> TcpStream {
    // Over IPv4, though the listener is an IPv6 one: both must work on one port.
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, services.tcp(number).unwrap().port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn udp(services: &Services, number: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, services.udp(number).unwrap().port())).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn ask(socket: &UdpSocket, request: &[u8]) -> Vec<u8> {
    let mut reply = vec![0; 65_536];
    socket.send(request).unwrap();
    let n = socket.recv(&mut reply).unwrap();
    reply.truncate(n);
    reply
}

#[test]
fn echo_gives_back_what_came() {
    let s = services();
    let mut stream = tcp(&s, port::ECHO);
    stream.write_all(b"to and fro").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "to and fro");
    assert_eq!(ask(&udp(&s, port::ECHO), b""), b"");
    assert_eq!(ask(&udp(&s, port::ECHO), &[7; 60_000]), [7; 60_000]);
}

#[test]
fn discard_closes_after_the_other_side() {
    let s = services();
    let mut stream = tcp(&s, port::DISCARD);
    stream.write_all(&[1; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn source_is_the_pattern_from_its_first_byte_and_across_blocks() {
    let s = services();
    let mut got = vec![0; 300_000];
    tcp(&s, port::SOURCE).read_exact(&mut got).unwrap();
    let period = Pattern::default();
    for (i, part) in got.chunks(PERIOD).enumerate() {
        assert_eq!(part, period.block(part.len()), "period {i}");
    }
}

#[test]
fn digest_of_a_known_text() {
    let s = services();
    let mut stream = tcp(&s, port::DIGEST);
    stream.write_all(b"abc").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    // FIPS 180-2, appendix B.1.
    assert_eq!(answer, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n");
}

#[test]
fn counter_counts_each_source_by_itself_and_starts_anew() {
    let s = services();
    let (a, b) = (udp(&s, port::DIGEST), udp(&s, port::DIGEST));
    for n in 1..=5 {
        a.send(&vec![0; n * 100]).unwrap();
    }
    b.send(&[0; 7]).unwrap();
    assert_eq!(ask(&a, b"REPORT"), b"5 1500\n");
    assert_eq!(ask(&a, b"REPORT please"), b"0 0\n");
    assert_eq!(ask(&b, b"REPORT"), b"1 7\n");
}

#[test]
fn source_sends_numbered_datagrams() {
    let s = services();
    let socket = udp(&s, port::SOURCE);
    socket.send(b"SEND 20 1400\n").unwrap();
    let mut block = [0; 2000];
    for number in 0..20u32 {
        assert_eq!(socket.recv(&mut block).unwrap(), 1400);
        assert_eq!(block[..4], number.to_be_bytes());
    }
}

#[test]
fn dns_knows_the_host() {
    let s = services();
    let reply = ask(&udp(&s, port::DNS), &dns::question(9, HOST_NAME, dns::A));
    assert_eq!(dns::first_address(&reply, 9), Some(IpAddr::V4(HOST4)));
}

#[test]
fn dropping_ends_threads_and_connections() {
    let s = services();
    let mut stream = tcp(&s, port::SOURCE);
    stream.read_exact(&mut [0; 10]).unwrap();
    let at = s.tcp(port::ECHO).unwrap().port();
    drop(s);
    assert!(std::io::copy(&mut stream, &mut std::io::sink()).is_ok() || stream.peek(&mut [0]).is_err());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, at)).is_err());
}
