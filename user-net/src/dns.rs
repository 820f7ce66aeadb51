//! The DNS server (RFC 1035): answers for the host's own name, and "no such name" for all others.

use crate::bytes::{be16, set};
use crate::config::UserNetConfig;

const HEADER: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
const ANY: u16 = 255;
const IN: u16 = 1;
/// Seconds that an answer may be kept.
const TTL: u32 = 60;
const FORMAT_ERROR: u8 = 1;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;
/// The name at byte 12: that of the question.
const SAME_NAME: [u8; 2] = [0xc0, 0x0c];

struct Question {
    name: String,
    kind: u16,
    class: u16,
    end: usize,
}

/// The answer to a message, or `None` if it is none that is to be answered.
pub(crate) fn answer(config: &UserNetConfig, message: &[u8]) -> Option<Vec<u8>> {
    let flags = be16(message.get(..HEADER)?, 2)?;
    if flags & 0x8000 != 0 {
        // An answer itself: two servers would go on for ever.
        return None;
    }
    let (question, code) = if flags & 0x7800 != 0 {
        (None, NOT_IMPLEMENTED)
    } else {
        match question(message) {
            Some(q) if q.class != IN => (Some(q), REFUSED),
            Some(q) if q.name.eq_ignore_ascii_case(&config.name) => (Some(q), 0),
            Some(q) => (Some(q), NO_SUCH_NAME),
            None => (None, FORMAT_ERROR),
        }
    };
    let end = question.as_ref().map_or(HEADER, |q| q.end);
    let mut out = message.get(..end)?.to_vec();
    // Response; recursion is as desired, and available: there is nobody else to ask. What is known is authoritative.
    let authority = if matches!(code, 0 | NO_SUCH_NAME) { 0x0400 } else { 0 };
    let flags = 0x8080 | (flags & 0x7900) | authority | u16::from(code);
    let mut count = 0_u16;
    if let Some(q) = question.as_ref().filter(|_| code == 0) {
        if matches!(q.kind, A | ANY) {
            record(&mut out, A, &config.ipv4.octets());
            count = count.saturating_add(1);
        }
        if matches!(q.kind, AAAA | ANY) {
            record(&mut out, AAAA, &config.ipv6.octets());
            count = count.saturating_add(1);
        }
    }
    set(&mut out, 2, &flags.to_be_bytes());
    set(&mut out, 4, &u16::from(question.is_some()).to_be_bytes());
    set(&mut out, 6, &count.to_be_bytes());
    set(&mut out, 8, &[0; 4]);
    Some(out)
}

fn record(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    out.extend_from_slice(&SAME_NAME);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    out.extend_from_slice(&TTL.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes()); // 4 or 16
    out.extend_from_slice(data);
}

/// The one question of a message. What follows it (EDNS options, mostly) is not looked at.
fn question(message: &[u8]) -> Option<Question> {
    if be16(message, 4)? != 1 {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let len = usize::from(*message.get(at)?);
        at = at.checked_add(1)?;
        if len == 0 {
            break;
        }
        // 64 and up are pointers: there is nothing before the question that they could mean.
        let end = at.checked_add(len).filter(|_| len < 64)?;
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(message.get(at..end)?.iter().map(|b| char::from(*b)));
        if name.len() > 2 * 253 {
            return None;
        }
        at = end;
    }
    Some(Question {
        name,
        kind: be16(message, at)?,
        class: be16(message, at.checked_add(2)?)?,
        end: at.checked_add(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&IN.to_be_bytes());
        out
    }

    #[test]
    fn the_own_name_has_both_addresses() {
        let config = UserNetConfig::default();
        let asked = ask("Host.Virtio.Internal", A);
        let reply = answer(&config, &asked).unwrap();
        assert_eq!(reply[..12], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(reply[12..asked.len()], asked[12..]);
        assert_eq!(reply[asked.len()..], [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 2, 2]);
        let reply = answer(&config, &ask("host.virtio.internal", AAAA)).unwrap();
        assert!(reply.ends_with(&config.ipv6.octets()));
        let both = answer(&config, &ask("host.virtio.internal", ANY)).unwrap();
        assert_eq!(both[7], 2);
        let other_type = answer(&config, &ask("host.virtio.internal", 15)).unwrap();
        assert_eq!((other_type[3] & 15, other_type[7]), (0, 0));
    }

    #[test]
    fn other_names_and_broken_messages_have_their_codes() {
        let config = UserNetConfig::default();
        assert_eq!(answer(&config, &ask("example.org", A)).unwrap()[3] & 15, NO_SUCH_NAME);
        let asked = ask("host.virtio.internal", A);
        for len in 0..asked.len() {
            let reply = answer(&config, &asked[..len]);
            assert_eq!(reply.map(|r| (r.len(), r[3] & 15)), (len >= 12).then_some((12, FORMAT_ERROR)), "{len} bytes");
        }
        let mut loops = asked.clone();
        loops[12..14].copy_from_slice(&SAME_NAME);
        assert_eq!(answer(&config, &loops).unwrap()[3] & 15, FORMAT_ERROR);
        let mut response = asked.clone();
        response[2] |= 0x80;
        assert_eq!(answer(&config, &response), None);
        let mut update = asked.clone();
        update[2] |= 0x28;
        assert_eq!(answer(&config, &update).unwrap()[3] & 15, NOT_IMPLEMENTED);
        let mut chaos = asked;
        let end = chaos.len();
        chaos[end - 1] = 3;
        assert_eq!(answer(&config, &chaos).unwrap()[3] & 15, REFUSED);
    }
}
