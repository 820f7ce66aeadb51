//! The picture adds up.

use crate::lab::Layout;
use crate::lab::report::Picture;

const SIZE: u16 = 256;

pub(super) fn check<L: Layout>() -> Result<(), String> {
    let (picture, double) = (L::picture(SIZE), L::picture(2 * SIZE));
    if picture.layout != L::NAME || picture.idea != L::IDEA {
        return Err(format!("the picture is that of {}: {}", picture.layout, picture.idea));
    }
    adds_up(&picture, &double).map_err(|e| format!("picture: {e}"))
}

/// `double` is of a ring of twice the size.
fn adds_up(picture: &Picture, double: &Picture) -> Result<(), String> {
    if picture.idea.is_empty() || picture.count.is_empty() || picture.areas.is_empty() {
        return Err("idea, count and areas have to be there".to_owned());
    }
    let (one, many) = (picture.transfers_burst_1, picture.transfers_burst_32);
    if !(many > 0.0 && one >= many && one.is_finite()) {
        return Err(format!("{one} transfers a buffer with bursts of 1, {many} with bursts of 32"));
    }
    if picture.areas.len() != double.areas.len() {
        return Err("a ring of twice the size has other areas".to_owned());
    }
    for (area, larger) in picture.areas.iter().zip(&double.areas) {
        let entries = (f64::from(SIZE) / area.per_line).ceil() as usize;
        // Either at least an entry for each buffer, with some to spare perhaps, or the same for every size.
        let for_each = (entries..=2 * entries + 2).contains(&area.lines) && larger.lines > area.lines;
        if area.lines == 0 || !(for_each || area.lines == larger.lines) {
            let (name, lines, per_line) = (&area.area, area.lines, area.per_line);
            return Err(format!("{name}: {lines} lines of {per_line} entries for {SIZE} buffers"));
        }
    }
    Ok(())
}
