//! Time and randomness: the only place that asks the system for either.

use time::OffsetDateTime;

/// A source of time. Tests hold it still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The system's clock.
    System,
    /// A clock that stands at one moment.
    Fixed(OffsetDateTime),
}

impl Clock {
    /// Now, in UTC.
    pub fn now(self) -> OffsetDateTime {
        match self {
            Clock::System => OffsetDateTime::now_utc(),
            Clock::Fixed(t) => t,
        }
    }
}

/// Fills a buffer from the system's random number generator.
///
/// # Panics
/// If the system has no source of randomness, in which case nothing safe can be done.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut buf = [0u8; N];
    getrandom::fill(&mut buf).expect("the system has a source of randomness");
    buf
}
