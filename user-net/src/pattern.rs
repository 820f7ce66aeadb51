//! The stream of RFC 864: lines of 72 printing characters, each line beginning one character further on.

use std::sync::LazyLock;

/// Characters of a line, without its end.
const LINE: usize = 72;
/// Printing characters: as many lines until the stream repeats.
const RING: usize = 95;
/// Bytes until the stream repeats.
pub(crate) const PERIOD: usize = (LINE + 2) * RING;

/// Many periods, so that a fill is few copies.
const TABLE: usize = PERIOD * 10;

static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let character = |n: usize| b' '.wrapping_add((n % RING) as u8); // below 95
    let line = |k: usize| (0..LINE).map(move |i| character(k.wrapping_add(i))).chain([b'\r', b'\n']);
    let period: Vec<u8> = (0..RING).flat_map(line).collect();
    period.repeat(TABLE / PERIOD)
});

/// Fills `room` with the stream from byte `at` of a period on; returns how much of it.
pub(crate) fn fill(room: &mut [u8], at: usize) -> usize {
    let from = STREAM.get(at..).unwrap_or_default();
    let n = room.len().min(from.len());
    if let (Some(to), Some(from)) = (room.get_mut(..n), from.get(..n)) {
        to.copy_from_slice(from);
    }
    n
}

/// Where a stream is that was at `at` of a period, `n` bytes on.
pub(crate) const fn advance(at: usize, n: usize) -> usize {
    at.wrapping_add(n) % PERIOD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_rfc() {
        let mut stream = vec![0; 3 * PERIOD];
        let mut at = 0;
        let mut done = 0;
        while done < stream.len() {
            let end = (done + 1000).min(stream.len());
            let n = fill(&mut stream[done..end], at);
            at = advance(at, n);
            done += n;
        }
        assert_eq!(&stream[..10], b" !\"#$%&'()");
        for (k, line) in stream.chunks(LINE + 2).enumerate() {
            let expected: Vec<u8> = (0..LINE).map(|i| b' ' + ((k + i) % RING) as u8).chain(*b"\r\n").collect();
            assert_eq!(line, expected, "line {k}");
        }
    }
}
