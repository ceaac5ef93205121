//! Numbers of things in messages: `1 cluster`, `14 clusters`.

use std::fmt;
use std::time::Duration;

/// A number of things. `Display` writes the number and the noun in the form that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    number: u64,
    noun: &'a str,
}

/// `number` of what `noun` names in the singular. The plural is regular: `cluster`, `route`, `match`, `policy`. Of several
/// words, the last one counts.
pub fn counted(number: impl TryInto<u64>, noun: &str) -> Counted<'_> {
    Counted { number: number.try_into().unwrap_or(u64::MAX), noun }
}

/// A duration in the largest unit that it fills once, rounded down: `59 seconds`, `1 minute`, `3 days`.
#[must_use]
pub fn age(duration: Duration) -> Counted<'static> {
    let seconds = duration.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (size, noun) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    counted(seconds / size, noun)
}

/// The regular plural of a noun in the singular.
#[must_use]
pub fn plural(noun: &str) -> String {
    let is_sibilant = ["s", "x", "ch", "sh"].iter().any(|ending| noun.ends_with(ending));
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if is_sibilant => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, noun } = self;
        if *number == 1 { write!(f, "1 {noun}") } else { write!(f, "{number} {}", plural(noun)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_any_other_number_is_plural() {
        for (number, noun, expected) in [
            (0, "cluster", "0 clusters"),
            (1, "cluster", "1 cluster"),
            (2, "match", "2 matches"),
            (1, "policy", "1 policy"),
            (3, "policy", "3 policies"),
            (4, "gateway", "4 gateways"),
            (5, "xDS class", "5 xDS classes"),
        ] {
            assert_eq!(counted(number, noun).to_string(), expected);
        }
    }

    #[test]
    fn ages_have_the_largest_unit_that_fits() {
        for (seconds, expected) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (3_599, "59 minutes"),
            (7_200, "2 hours"),
            (90_000, "1 day"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)).to_string(), expected);
        }
    }
}
