//! As much DNS (RFC 1035) as one question for one name needs, both ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Query types of an IPv4 and an IPv6 address.
pub const A: u16 = 1;
/// See [`A`].
pub const AAAA: u16 = 28;
const IN: u16 = 1;
const POINTER_TO_QUESTION: u16 = 0xc00c;
const HEADER: usize = 12;

/// A question for an address of `name`.
pub fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [id, 0x0100, 1, 0, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or(63));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    out
}

/// Answers `question` if it asks for `name`: with those of `addresses` that have the type asked for, or with
/// "no such name" for any other name. `None` for what is not one plain question.
pub fn answer(question: &[u8], name: &str, addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let (asked, kind, end) = read_question(question)?;
    let known = asked.eq_ignore_ascii_case(name);
    let found: Vec<Vec<u8>> = addresses.iter().filter(|_| known).filter_map(|a| octets(*a, kind)).collect();
    let mut out = question.get(..2)?.to_vec();
    // Response, authoritative; code 3 is "no such name".
    let flags: u16 = if known { 0x8580 } else { 0x8583 };
    for word in [flags, 1, u16::try_from(found.len()).ok()?, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(question.get(HEADER..end)?);
    for data in found {
        for word in [POINTER_TO_QUESTION, kind, IN, 0, 60, u16::try_from(data.len()).ok()?] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&data);
    }
    Some(out)
}

/// The first address in the answer to question `id`; `None` if it holds none, or is for another question.
pub fn first_address(answer: &[u8], id: u16) -> Option<IpAddr> {
    let count = word(answer, 6)?;
    if word(answer, 0)? != id || count == 0 {
        return None;
    }
    let (_, _, mut at) = read_question(answer)?;
    for _ in 0..count {
        at = skip_name(answer, at)?;
        let kind = word(answer, at)?;
        let len = usize::from(word(answer, at.checked_add(8)?)?);
        let start = at.checked_add(10)?;
        at = start.checked_add(len)?;
        let data = answer.get(start..at)?;
        match kind {
            A => return Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            AAAA => return Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
    }
    None
}

fn octets(address: IpAddr, kind: u16) -> Option<Vec<u8>> {
    match (address, kind) {
        (IpAddr::V4(a), A) => Some(a.octets().to_vec()),
        (IpAddr::V6(a), AAAA) => Some(a.octets().to_vec()),
        _ => None,
    }
}

fn word(data: &[u8], at: usize) -> Option<u16> {
    let pair = data.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

/// Name, type and end of the one question in a message.
fn read_question(data: &[u8]) -> Option<(String, u16, usize)> {
    if word(data, 4)? != 1 {
        return None;
    }
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let len = usize::from(*data.get(at)?);
        at = at.checked_add(1)?;
        if len == 0 {
            break;
        }
        // 64 and up are pointers; a question has none.
        let end = at.checked_add(len).filter(|_| len < 64)?;
        labels.push(String::from_utf8_lossy(data.get(at..end)?).into_owned());
        at = end;
    }
    let kind = word(data, at)?;
    Some((labels.join("."), kind, at.checked_add(4)?))
}

/// The byte after the name at `at`, which may end in a pointer.
fn skip_name(data: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let len = usize::from(*data.get(at)?);
        match len {
            0 => return at.checked_add(1),
            192.. => return at.checked_add(2),
            _ => at = at.checked_add(len)?.checked_add(1)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HOST_NAME, HOST4, HOST6};

    const HOST: [IpAddr; 2] = [IpAddr::V4(HOST4), IpAddr::V6(HOST6)];

    #[test]
    fn question_and_answer_agree() {
        for (kind, want) in [(A, HOST[0]), (AAAA, HOST[1])] {
            let reply = answer(&question(77, HOST_NAME, kind), HOST_NAME, &HOST).unwrap();
            assert_eq!(first_address(&reply, 77), Some(want));
            assert_eq!(first_address(&reply, 78), None, "another question's answer");
        }
        let other = answer(&question(5, "example.org", A), HOST_NAME, &HOST).unwrap();
        assert_eq!((other[3] & 15, first_address(&other, 5)), (3, None));
    }

    #[test]
    fn cut_and_odd_messages_are_refused() {
        let reply = answer(&question(77, HOST_NAME, AAAA), HOST_NAME, &HOST).unwrap();
        for n in 0..reply.len() {
            assert_eq!(first_address(&reply[..n], 77), None, "cut at {n}");
        }
        let asked = question(1, HOST_NAME, A);
        for n in 0..asked.len() - 2 {
            assert_eq!(answer(&asked[..n], HOST_NAME, &HOST), None, "cut at {n}");
        }
        let mut pointer = asked;
        pointer[HEADER] = 0xc0;
        assert_eq!(answer(&pointer, HOST_NAME, &HOST), None);
    }
}
