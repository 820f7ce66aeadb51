//! RFC 864: lines of 72 printing characters out of 95, each line beginning one character further on.

use sha2::{Digest, Sha256};

/// Bytes of a line, with its CR and LF.
pub const LINE_LEN: usize = 74;
/// Bytes until the pattern repeats.
pub const PERIOD: usize = 95 * LINE_LEN;

/// The endless stream, from any byte of it on.
#[derive(Clone)]
pub struct Pattern {
    /// Two periods, so that a block of up to one period is a plain slice wherever it begins.
    table: Vec<u8>,
    at: usize,
}

impl Default for Pattern {
    fn default() -> Self {
        let line = |n: usize| (0..72).map(move |i| char_of(n.wrapping_add(i))).chain([b'\r', b'\n']);
        Self { table: (0..190).flat_map(line).collect(), at: 0 }
    }
}

/// Printing character `n` of the ring of 95; number 0 is the space.
fn char_of(n: usize) -> u8 {
    u8::try_from(n % 95).unwrap_or(0).wrapping_add(b' ')
}

impl Pattern {
    /// The next bytes of the stream: up to `limit`, at most one period.
    pub fn block(&self, limit: usize) -> &[u8] {
        let end = self.at.saturating_add(limit.min(PERIOD));
        self.table.get(self.at..end).unwrap_or(&[])
    }

    /// Moves on by `n` bytes.
    pub fn skip(&mut self, n: usize) {
        self.at = self.at.wrapping_add(n % PERIOD) % PERIOD;
    }

    /// SHA-256 of the stream's next `len` bytes, in lower-case hexadecimal.
    pub fn sha256(&self, len: u64) -> String {
        let mut at = self.clone();
        let mut left = len;
        let mut hash = Sha256::new();
        while left > 0 {
            let block = at.block(usize::try_from(left).unwrap_or(PERIOD));
            let n = block.len();
            hash.update(block);
            at.skip(n);
            left = left.saturating_sub(n as u64);
        }
        hex(&hash.finalize())
    }
}

/// A finished hash in lower-case hexadecimal.
pub fn sha256_hex(hash: Sha256) -> String {
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for b in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{b:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_those_of_the_rfc() {
        let p = Pattern::default();
        let block = p.block(2 * LINE_LEN);
        assert!(block.starts_with(b" !\"#$%&'()*+,-./0123456789:;<=>?@"));
        assert_eq!(&block[70..76], b"fg\r\n!\"");
        assert_eq!(p.block(usize::MAX).len(), PERIOD);
    }

    #[test]
    fn blocks_of_any_size_make_the_same_stream() {
        let mut p = Pattern::default();
        let mut odd = Vec::new();
        while odd.len() < 3 * PERIOD {
            let n = p.block(997).len();
            odd.extend_from_slice(p.block(997));
            p.skip(n);
        }
        let start = Pattern::default();
        assert_eq!(&odd[..PERIOD], start.block(PERIOD));
        assert_eq!(&odd[PERIOD..2 * PERIOD], start.block(PERIOD));
        let mut hash = Sha256::new();
        hash.update(&odd[..20_000]);
        assert_eq!(sha256_hex(hash), start.sha256(20_000));
    }
}
