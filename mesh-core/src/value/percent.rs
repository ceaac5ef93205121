//! Percentages: [`Percent`] for limits, [`FractionalPercent`] for sampling.

use thiserror::Error;

/// A whole percentage, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

/// A percentage is greater than 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} is not in 0..=100")]
pub struct PercentOutOfRange(pub u32);

impl Percent {
    /// 0 percent.
    pub const ZERO: Self = Self(0);
    /// 100 percent.
    pub const HUNDRED: Self = Self(100);

    /// Creates a percentage.
    ///
    /// # Errors
    /// If `value` is above 100.
    pub fn new(value: u32) -> Result<Self, PercentOutOfRange> {
        match u8::try_from(value) {
            Ok(percent) if percent <= 100 => Ok(Self(percent)),
            _ => Err(PercentOutOfRange(value)),
        }
    }

    /// The number, 0 to 100.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

/// A probability in parts per million, 0 to 1 000 000. Envoy `type.v3.FractionalPercent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FractionalPercent(u32);

impl FractionalPercent {
    /// Probability 0.
    pub const ZERO: Self = Self(0);
    /// Probability 1.
    pub const ALWAYS: Self = Self(Self::MILLION);

    const MILLION: u32 = 1_000_000;

    /// Creates a probability from parts per million. Values above a million count as a million, as in Envoy.
    #[must_use]
    pub fn from_parts_per_million(parts: u32) -> Self {
        Self(parts.min(Self::MILLION))
    }

    /// This fraction of `count`, rounded down.
    #[must_use]
    pub fn of(self, count: u64) -> u64 {
        let share = u128::from(count) * u128::from(self.0) / u128::from(Self::MILLION);
        // At most `count`.
        u64::try_from(share).unwrap_or(count)
    }

    /// Parts per million, 0 to 1 000 000.
    #[must_use]
    pub fn parts_per_million(self) -> u32 {
        self.0
    }

    /// Whether an event of this probability occurs, given a uniformly distributed `random` number.
    #[must_use]
    pub fn hits(self, random: u64) -> bool {
        random % u64::from(Self::MILLION) < u64::from(self.0)
    }
}

impl From<Percent> for FractionalPercent {
    fn from(percent: Percent) -> Self {
        Self(u32::from(percent.get()) * (Self::MILLION / 100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_refuses_more_than_a_hundred() {
        assert_eq!(Percent::new(100), Ok(Percent::HUNDRED));
        assert_eq!(Percent::new(101), Err(PercentOutOfRange(101)));
        assert_eq!(Percent::new(1_000).unwrap_err().to_string(), "1000 is not in 0..=100");
    }

    #[test]
    fn a_fraction_hits_exactly_its_share_of_the_range() {
        let share = FractionalPercent::from_parts_per_million(250_000);
        let hits = (0..1_000_000).filter(|&random| share.hits(random)).count();
        assert_eq!(hits, 250_000);
        assert_eq!((share.of(1_001), share.of(3), share.of(u64::MAX)), (250, 0, u64::MAX / 4));
        assert_eq!(FractionalPercent::from(Percent::new(25).unwrap()), share);
        assert!(!FractionalPercent::ZERO.hits(0));
        assert!(FractionalPercent::ALWAYS.hits(u64::MAX));
    }
}
