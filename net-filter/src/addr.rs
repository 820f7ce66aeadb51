//! MAC addresses.

use core::fmt;
use core::str::FromStr;

use crate::ADDR_MASK;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

/// A text that is not a MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MacParseError {
    /// Not six groups.
    #[error("MAC address has {groups} groups, expected 6 separated by ':' or '-'")]
    Groups {
        /// Groups found; counting stops at 7.
        groups: usize,
    },
    /// A group that is not two hexadecimal digits.
    #[error("group {group} of the MAC address is not two hexadecimal digits")]
    Digits {
        /// Which group, from 1.
        group: usize,
    },
}

impl MacAddr {
    /// `00:00:00:00:00:00`, nobody's address.
    pub const ZERO: Self = Self([0; 6]);
    /// `ff:ff:ff:ff:ff:ff`, everybody's address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for `00:00:00:00:00:00`.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.to_word() == 0
    }

    /// True for `ff:ff:ff:ff:ff:ff`.
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        self.to_word() == ADDR_MASK
    }

    /// True for a group address, the broadcast address among them.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// True for an address that one station can have: neither zero nor a group's.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && !self.is_zero()
    }

    /// True for an address that no manufacturer assigned.
    #[must_use]
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 == 2
    }

    /// The six bytes in the low bits of a word, first byte lowest.
    #[must_use]
    #[inline]
    pub(crate) const fn to_word(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// The address whose bytes are in the low bits of a word.
    #[must_use]
    pub(crate) const fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, ..] = word.to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacParseError;

    /// Takes six groups of two hexadecimal digits with `:` between them, or with `-`.
    fn from_str(text: &str) -> Result<Self, MacParseError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let groups = text.split(separator).take(7).count();
        if groups != 6 {
            return Err(MacParseError::Groups { groups });
        }
        let mut addr = Self::ZERO;
        for ((i, group), byte) in text.split(separator).enumerate().zip(&mut addr.0) {
            // `from_str_radix` alone would take a sign.
            let digits = group.len() == 2 && group.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = u8::from_str_radix(group, 16)
                .ok()
                .filter(|_| digits)
                .ok_or(MacParseError::Digits { group: i.saturating_add(1) })?;
        }
        Ok(addr)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::string::ToString;

    use super::*;

    #[test]
    fn addresses_are_classified() {
        // text, zero, broadcast, multicast, unicast, local
        let table = [
            ("00:00:00:00:00:00", true, false, false, false, false),
            ("ff:ff:ff:ff:ff:ff", false, true, true, false, true),
            ("01:00:5e:00:00:01", false, false, true, false, false),
            ("33:33:00:00:00:fb", false, false, true, false, true),
            ("52:54:00:12:34:56", false, false, false, true, true),
            ("00:00:00:00:00:01", false, false, false, true, false),
            ("fe:ff:ff:ff:ff:ff", false, false, false, true, true),
        ];
        for (text, zero, broadcast, multicast, unicast, local) in table {
            let mac: MacAddr = text.parse().unwrap();
            assert_eq!(mac.to_string(), text);
            assert_eq!(
                (mac.is_zero(), mac.is_broadcast(), mac.is_multicast(), mac.is_unicast(), mac.is_local()),
                (zero, broadcast, multicast, unicast, local),
                "{text}"
            );
        }
    }

    #[test]
    fn bad_texts_are_named() {
        let table = [
            ("", MacParseError::Groups { groups: 1 }),
            ("52:54:00:12:34", MacParseError::Groups { groups: 5 }),
            ("52:54:00:12:34:56:78", MacParseError::Groups { groups: 7 }),
            ("52:54:00:12:34:56:78:9a:bc", MacParseError::Groups { groups: 7 }),
            ("52:54:00:12:34:5", MacParseError::Digits { group: 6 }),
            ("+2:54:00:12:34:56", MacParseError::Digits { group: 1 }),
            ("52:54:00:123:34:56", MacParseError::Digits { group: 4 }),
            ("52:5g:00:12:34:56", MacParseError::Digits { group: 2 }),
            ("52-54-00-12-34:56", MacParseError::Groups { groups: 5 }),
            ("52:54:00:12:34:5\u{e9}", MacParseError::Digits { group: 6 }),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<MacAddr>(), Err(error), "{text:?}");
        }
        assert_eq!("52-54-00-AB-cd-56".parse(), Ok(MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0x56])));
    }

    proptest! {
        #[test]
        fn printed_addresses_parse_back(bytes: [u8; 6]) {
            let mac = MacAddr(bytes);
            prop_assert_eq!(mac.to_string().parse::<MacAddr>(), Ok(mac));
            prop_assert_eq!(mac.is_multicast(), bytes[0] % 2 == 1);
            prop_assert_eq!(mac.is_zero(), bytes == [0; 6]);
            prop_assert_eq!(mac.is_broadcast(), bytes == [0xff; 6]);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            if let Ok(mac) = text.parse::<MacAddr>() {
                prop_assert_eq!(mac.to_string(), text.to_lowercase().replace('-', ":"));
            }
        }
    }
}
