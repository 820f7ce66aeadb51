//! How a case ends.

/// Why a case is not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The device side did something else than the rule asks: what was seen.
    Fail(String),
    /// The rule cannot be seen here: why.
    NotApplicable(String),
}

/// What a case, or a step of one, comes to.
pub(super) type Check<T = ()> = Result<T, Stop>;

/// For `map_err`: what was done when it went wrong.
pub(super) fn at<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Stop {
    move |error| Stop::Fail(format!("{what}: {error}"))
}

/// The case fails with this message unless the condition holds.
macro_rules! want {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::conformance::outcome::Stop::Fail(format!($($words)+)));
        }
    };
}

/// The case does not apply, for this reason, unless the condition holds.
macro_rules! need {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::conformance::outcome::Stop::NotApplicable(format!($($words)+)));
        }
    };
}

pub(super) use {need, want};
