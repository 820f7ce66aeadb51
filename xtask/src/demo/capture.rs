//! Cuts the frames of a pcapng file down to their headers: the throughput checks alone move gigabytes.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

/// Enhanced packet block: type, length, interface, time, captured length, original length, data, options, length.
const PACKET: u32 = 6;
/// From the block's begin to the data.
const HEAD: usize = 28;

/// Keeps at most `most` bytes of each frame, and its original length. Gives the number of frames.
///
/// # Errors
/// The file cannot be read or written, or is no pcapng file of little-endian blocks.
pub(crate) fn shorten(path: &Path, most: usize) -> io::Result<u64> {
    let short = path.with_extension("short");
    let mut output = BufWriter::new(File::create(&short)?);
    let frames = copy(&mut BufReader::with_capacity(1 << 20, File::open(path)?), &mut output, most)?;
    output.flush()?;
    fs::rename(&short, path)?;
    Ok(frames)
}

fn copy(input: &mut impl Read, output: &mut impl Write, most: usize) -> io::Result<u64> {
    let (mut frames, mut block) = (0_u64, Vec::new());
    while read_block(input, &mut block)? {
        if word(&block, 0)? == PACKET {
            cut(&mut block, most)?;
            frames = frames.saturating_add(1);
        }
        output.write_all(&block)?;
    }
    Ok(frames)
}

/// False at the end.
fn read_block(input: &mut impl Read, block: &mut Vec<u8>) -> io::Result<bool> {
    block.clear();
    input.by_ref().take(8).read_to_end(block)?;
    if block.is_empty() {
        return Ok(false);
    }
    let len = word(block, 4)?;
    if len < 12 || !len.is_multiple_of(4) {
        return Err(bad("length of a block"));
    }
    let rest = u64::from(len).saturating_sub(8);
    if input.by_ref().take(rest).read_to_end(block)? as u64 != rest {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(true)
}

/// Takes bytes out of the middle and makes both lengths of the block say so.
fn cut(block: &mut Vec<u8>, most: usize) -> io::Result<()> {
    let captured = word(block, 20)? as usize;
    if captured <= most {
        return Ok(());
    }
    let most = most.next_multiple_of(4);
    let from = HEAD.saturating_add(most);
    let to = HEAD.saturating_add(captured.next_multiple_of(4));
    if to > block.len() || from > to {
        return Err(bad("length of a frame"));
    }
    block.drain(from..to);
    let len = u32::try_from(block.len()).map_err(|_| bad("length of a block"))?.to_le_bytes();
    let end = block.len().saturating_sub(4);
    for (at, value) in [(4, len), (20, (most as u32).to_le_bytes()), (end, len)] {
        let place = block.get_mut(at..).and_then(<[u8]>::first_chunk_mut).ok_or_else(|| bad("block"))?;
        *place = value;
    }
    Ok(())
}

fn word(block: &[u8], at: usize) -> io::Result<u32> {
    let bytes = block.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(|| bad("block"))?;
    Ok(u32::from_le_bytes(*bytes))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("capture: bad {what}"))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;

    fn packet(frame: &[u8], options: &[u8]) -> Vec<u8> {
        let padding = frame.len().next_multiple_of(4) - frame.len();
        let len = (32 + frame.len() + padding + options.len()) as u32;
        let words = [PACKET, len, 0, 0, 0, frame.len() as u32, frame.len() as u32];
        let mut block: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        block.extend([frame, &vec![0; padding], options, &len.to_le_bytes()].concat());
        block
    }

    #[test]
    fn long_frames_are_cut_and_the_rest_is_kept() {
        let other = [7_u32, 12, 12].map(u32::to_le_bytes).concat();
        let options = [1_u8, 2, 3, 4];
        let short = packet(b"short", &options);
        let mut long = packet(&[9; 1001], &options);
        let mut output = Vec::new();
        let file = [&other[..], &short, &long].concat();
        assert_eq!(copy(&mut &file[..], &mut output, 8).unwrap(), 2);
        let mut want = packet(&[9; 8], &options);
        want[24..28].copy_from_slice(&1001_u32.to_le_bytes());
        assert_eq!(output, [&other[..], &short, &want].concat());
        long.truncate(40);
        assert!(copy(&mut &long[..], &mut Vec::new(), 8).is_err());
    }
}
