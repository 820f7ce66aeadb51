//! Frames that the host makes and the guest finds again: somewhere in its payload each has a mark and a number.

use serde::{Deserialize, Serialize};

const MARK: &[u8; 8] = b"vnetmark";

/// Such a frame, as it arrived in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// Its number.
    pub number: u32,
    /// Its bytes, less a VLAN tag that the kernel took out.
    pub len: u32,
    /// The queue that it came by. `None` if the driver did not say, or the frame is too short to show it.
    pub queue: Option<u32>,
    /// The hash that the device gave it; 0 if it gave none. `None` if the frame is too short to show it: 512 bytes are
    /// enough.
    pub hash: Option<u32>,
    /// The tag that the kernel took out.
    pub tag: Option<u16>,
    /// Its address is not one of the guest's own.
    pub other: bool,
}

/// The mark with this number.
pub fn mark(number: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (front, back) = bytes.split_at_mut(MARK.len());
    front.copy_from_slice(MARK);
    back.copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of a frame that has a mark in it.
pub fn number(frame: &[u8]) -> Option<u32> {
    let at = frame.windows(MARK.len()).position(|window| window == MARK)?;
    let (_, tail) = frame.get(at..)?.split_at_checked(MARK.len())?;
    tail.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Bytes as two digits each.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Back from [`to_hex`]; `None` if it is something else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    digits?.chunks(2).map(|pair| <[u8; 2]>::try_from(pair).ok().map(|[a, b]| a.wrapping_shl(4) | b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_wherever_they_are() {
        let frame = [&[0xff; 14][..], b"vnet", &mark(0x0102_0304), &[0; 30]].concat();
        assert_eq!(number(&frame), Some(0x0102_0304));
        assert_eq!(number(&frame[..29]), None, "cut in the number");
        assert_eq!(number(b""), None);
    }

    #[test]
    fn digits_and_back() {
        assert_eq!(to_hex(&[0, 0xab, 0x10]), "00ab10");
        assert_eq!(from_hex("00ab10"), Some(vec![0, 0xab, 0x10]));
        assert_eq!((from_hex("0"), from_hex("0g"), from_hex("")), (None, None, Some(vec![])));
    }
}
