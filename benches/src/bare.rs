//! Loops over cached pointers that check nothing but whether there is room: the floor under every implementation.

mod packed;
mod split;
mod words;

pub(crate) use packed::poster as packed_poster;
pub use packed::{Packed, PackedDevice, PackedDriver, PackedInOrder, PackedPoster};
pub(crate) use split::poster as split_poster;
pub use split::{Poster, Split, SplitDevice, SplitDriver, SplitInOrder};
