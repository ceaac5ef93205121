//! Shares of a whole: [`Percent`] for limits, [`FractionalPercent`] for sampling.

use thiserror::Error;

/// A share in whole percent, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

/// A value outside 0 to 100 was given as a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} is not in 0..=100")]
pub struct PercentOutOfRange(pub u32);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const HUNDRED: Self = Self(100);

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
    /// Never.
    pub const ZERO: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(Self::MILLION);

    const MILLION: u32 = 1_000_000;

    /// From parts per million; values above a million mean "always", as in Envoy.
    #[must_use]
    pub fn from_parts_per_million(parts: u32) -> Self {
        Self(parts.min(Self::MILLION))
    }

    /// This share of `count`, rounded down.
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

    /// Whether an event of this probability happens, given a uniformly distributed `random` number.
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
