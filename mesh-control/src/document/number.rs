//! Numbers, in the forms that protobuf's JSON mapping accepts.
//!
//! The type of a field decides, not the notation: an integer may be a number or a string, with a fraction of zeros or an
//! exponent, as long as its value is whole (`60`, `60.0`, `6e1`, `"60"`). A string must be a number by JSON's
//! grammar: without `+`, leading zeros or spaces. Source: <https://protobuf.dev/programming-guides/json/> and protobuf's
//! conformance tests (`Int32Field*`).

use super::Context;
use super::yaml::{Node, Value};

/// Number of digits that always fit into an `i128`.
const MAX_DIGITS: usize = 38;

impl Context<'_> {
    /// Reads an integer between the bounds.
    pub(crate) fn integer(&self, node: &Node, minimum: i128, maximum: i128) -> Option<i128> {
        let Some(value) = integer_value(&node.value) else {
            self.mismatch(node, "an integer");
            return None;
        };
        if (minimum..=maximum).contains(&value) {
            return Some(value);
        }
        self.out_of_range(node, minimum, maximum);
        None
    }

    /// Reads an integer between the bounds that is written as one, as Kubernetes' API requires.
    pub(crate) fn plain_integer(&self, node: &Node, minimum: i128, maximum: i128) -> Option<i128> {
        if !matches!(node.value, Value::Integer(_)) {
            self.mismatch(node, "an integer");
            return None;
        }
        self.integer(node, minimum, maximum)
    }

    /// Reads a number, integer or not, between the bounds.
    pub(crate) fn number(&self, node: &Node, minimum: f64, maximum: f64) -> Option<f64> {
        let Some(value) = number_value(&node.value) else {
            self.mismatch(node, "a number");
            return None;
        };
        if (minimum..=maximum).contains(&value) {
            return Some(value);
        }
        self.out_of_range(node, minimum, maximum);
        None
    }

    fn out_of_range<N: std::fmt::Display>(&self, node: &Node, minimum: N, maximum: N) {
        let value = match &node.value {
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}"),
            Value::String(text) => format!("{text:?}"),
            other => other.describe(),
        };
        let message = format!("{value} is out of range: must be between {minimum} and {maximum}");
        self.invalid(node.mark, message, format!("expected {minimum} to {maximum}"));
    }
}

/// The integer that a value stands for, the nearest `i128` if it is none; `None` if the value is not an integer.
pub(super) fn integer_value(value: &Value) -> Option<i128> {
    match value {
        Value::Integer(value) => Some(*value),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it has no fraction, and what is too large is out of range"
        )]
        Value::Float(value) => (value.fract() == 0.0).then_some(*value as i128),
        Value::String(text) => Decimal::parse(text)?.to_integer(),
        _ => None,
    }
}

fn number_value(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "a double holds the nearest number, as in protobuf")]
        Value::Integer(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        Value::String(text) => Decimal::parse(text).and_then(|_| text.parse().ok()),
        _ => None,
    }
}

/// A number of JSON's grammar: its digits without the zeros around them, times ten to the exponent.
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if !is_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_end_matches('0');
        let shift = i64::try_from(all.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let digits = significant.trim_start_matches('0').to_owned();
        Some(Self { is_negative, digits, exponent: i64::from(exponent) + shift })
    }

    /// The value if it is whole, or the nearest that fits.
    fn to_integer(&self) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let zeros = usize::try_from(self.exponent).ok()?;
        let magnitude = if self.digits.len().saturating_add(zeros) > MAX_DIGITS {
            i128::MAX
        } else {
            self.digits.parse::<i128>().ok()? * 10_i128.pow(u32::try_from(zeros).ok()?)
        };
        Some(if self.is_negative { -magnitude } else { magnitude })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if is_digits(digits) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_may_be_written_in_every_way_of_protobuf_json() {
        for (value, expected) in [
            (Value::Integer(60), Some(60)),
            (Value::Float(60.0), Some(60)),
            (Value::Float(-0.0), Some(0)),
            (Value::Float(1e300), Some(i128::MAX)),
            (Value::Float(60.5), None),
            (Value::Float(f64::NAN), None),
            (Value::Float(f64::INFINITY), None),
            (Value::Bool(true), None),
            (Value::Null, None),
        ] {
            assert_eq!(integer_value(&value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_string_is_an_integer_if_it_is_a_whole_number_of_json() {
        for (text, expected) in [
            ("60", Some(60)),
            ("-60", Some(-60)),
            ("0", Some(0)),
            ("-0", Some(0)),
            ("60.0", Some(60)),
            ("6e1", Some(60)),
            ("6.0E+1", Some(60)),
            ("0.6e2", Some(60)),
            ("6000e-2", Some(60)),
            ("0e99", Some(0)),
            ("123456789012345678", Some(123_456_789_012_345_678)),
            ("1e38", Some(i128::MAX)),
            ("-1e2000000000", Some(-i128::MAX)),
            ("60.5", None),
            ("6e-1", None),
            ("60.00000000000000000000001", None),
            ("", None),
            ("-", None),
            ("+60", None),
            ("060", None),
            ("-01", None),
            (" 60", None),
            ("60 ", None),
            ("60.", None),
            (".6e2", None),
            ("6e", None),
            ("6e+-1", None),
            ("1e99999999999", None),
            ("0x3c", None),
            ("6_0", None),
            ("60s", None),
            ("NaN", None),
        ] {
            assert_eq!(integer_value(&Value::String(text.into())), expected, "{text:?}");
        }
    }

    #[test]
    fn a_double_may_be_a_string_too() {
        for (text, expected) in [("12.5", Some(12.5)), ("1e1", Some(10.0)), ("12,5", None), ("inf", None), ("", None)] {
            assert_eq!(number_value(&Value::String(text.into())), expected, "{text:?}");
        }
    }
}
