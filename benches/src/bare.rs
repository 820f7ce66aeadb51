//! Loops over cached pointers that check nothing but whether there is room: the floor under every implementation.

/// A floor as a layout of the lab.
macro_rules! layout {
    ($(#[$doc:meta])* $layout:ident = $name:literal, $idea:literal, $driver:ty, $device:ty, as $like:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $layout;

        impl Layout for $layout {
            const NAME: &'static str = $name;
            const IDEA: &'static str = $idea;
            type Driver = $driver;
            type Device = $device;

            fn open(setup: &Setup<'_>) -> Result<(Self::Driver, Self::Device), Box<dyn Error>> {
                if setup.sleeps {
                    return Err("bare loops only poll".into());
                }
                Ok((<$driver>::new(setup.arena), <$device>::new(setup.arena)))
            }

            fn poster(setup: &Setup<'_>) -> Option<lab::Poster> {
                poster(setup)
            }

            fn picture(size: u16) -> Picture {
                Picture { layout: Self::NAME.into(), idea: Self::IDEA.into(), ..<$like>::picture(size) }
            }
        }
    };
}

mod packed;
mod split;
mod words;

pub(crate) use packed::poster as packed_poster;
pub use packed::{Packed, PackedDevice, PackedDriver, PackedInOrder, PackedPoster};
pub(crate) use split::poster as split_poster;
pub use split::{Poster, Split, SplitDevice, SplitDriver, SplitInOrder};
