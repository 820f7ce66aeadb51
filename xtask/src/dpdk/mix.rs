//! A file with frames of several lengths, for the front end to read over and over.

use super::{MAC, plan};

/// Frames in it, in equal shares and without a pattern.
const FRAMES: usize = 1023;

/// Frames of the mix in the classic pcap format, from the front end's port to itself.
pub(super) fn frames() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1]);
    let mac: Vec<u8> = MAC.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let mut lengths: Vec<u16> = plan::MIX.into_iter().cycle().take(FRAMES).collect();
    let mut random = 1_u32;
    for i in 0..lengths.len() {
        // Numerical Recipes' generator; its upper bits are the random ones.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let other = u64::from(random).wrapping_mul(i.saturating_add(1) as u64) >> 32;
        lengths.swap(i, usize::try_from(other).unwrap_or(i));
    }
    for len in lengths {
        file.extend(words(&[0, 0, len.into(), len.into()]));
        // IEEE 802, for experiments.
        let mut frame = [&mac[..], &mac, &[0x88, 0xb5]].concat();
        frame.resize(len.into(), 0);
        file.extend(frame);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal() {
        let file = frames();
        let mut rest = &file[24..];
        let mut counts = [0; 3];
        while let Some((head, behind)) = rest.split_first_chunk::<16>() {
            let len = u32::from_le_bytes(head[8..12].try_into().unwrap());
            let place = plan::MIX.iter().position(|l| u32::from(*l) == len).unwrap();
            counts[place] += 1;
            let (frame, behind) = behind.split_at(len as usize);
            assert_eq!(frame[..6], frame[6..12], "to itself");
            rest = behind;
        }
        assert_eq!((rest.len(), counts), (0, [FRAMES / 3; 3]));
    }
}
