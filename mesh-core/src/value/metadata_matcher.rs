//! Predicates over metadata. Envoy `type.matcher.v3.MetadataMatcher`.

use std::ops::Range;

use super::{Metadata, MetadataValue, StringMatcher};

/// A predicate over a value of metadata.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetadataMatcher {
    /// The namespace, which is the name of a filter.
    pub filter: Box<str>,
    /// The keys from the namespace to the value.
    pub path: Vec<Box<str>>,
    /// The predicate.
    pub value: ValueMatcher,
    /// Invert the result. Default false.
    pub invert: bool,
}

/// A predicate over a value. Envoy `type.matcher.v3.ValueMatcher`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ValueMatcher {
    /// It is null.
    Null,
    /// It is a number in the range, whose end is excluded.
    DoubleRange(Range<f64>),
    /// It is this number.
    DoubleExact(f64),
    /// It is a string that matches.
    String(StringMatcher),
    /// It is this boolean.
    Bool(bool),
    /// It is there (`true`) or not (`false`).
    Present(bool),
    /// It is a list, of which an item matches.
    ListOneOf(Box<Self>),
    /// One of the predicates holds.
    Or(Vec<Self>),
}

impl MetadataMatcher {
    /// A predicate over the value at `path` in the namespace of `filter`.
    #[must_use]
    pub fn new(filter: &str, path: Vec<Box<str>>, value: ValueMatcher) -> Self {
        Self { filter: filter.into(), path, value, invert: false }
    }

    /// Inverts the result.
    #[must_use]
    pub fn inverted(mut self, invert: bool) -> Self {
        self.invert = invert;
        self
    }

    /// Whether the predicate holds. A value that is missing matches no predicate except [`ValueMatcher::Present`].
    #[must_use]
    pub fn matches(&self, metadata: Option<&Metadata>) -> bool {
        let value = metadata.and_then(|metadata| metadata.get(&self.filter, &self.path));
        self.value.matches(value) != self.invert
    }
}

impl ValueMatcher {
    fn matches(&self, value: Option<&MetadataValue>) -> bool {
        match (self, value) {
            (Self::Present(wanted), value) => value.is_some() == *wanted,
            (Self::Or(of), value) => of.iter().any(|one| one.matches(value)),
            (Self::Null, Some(MetadataValue::Null)) => true,
            (Self::DoubleRange(range), Some(MetadataValue::Number(number))) => range.contains(number),
            #[expect(clippy::float_cmp, reason = "the same number is meant, as in Envoy")]
            (Self::DoubleExact(exact), Some(MetadataValue::Number(number))) => number == exact,
            (Self::String(matcher), Some(MetadataValue::String(text))) => matcher.matches(text),
            (Self::Bool(wanted), Some(MetadataValue::Bool(value))) => value == wanted,
            (Self::ListOneOf(item), Some(MetadataValue::List(items))) => {
                items.iter().any(|value| item.matches(Some(value)))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_compared_without_conversion() {
        let text = |text: &str| MetadataValue::String(text.into());
        let claims = [
            ("s".into(), text("1")),
            ("n".into(), MetadataValue::Number(1.0)),
            ("b".into(), MetadataValue::Bool(true)),
            ("z".into(), MetadataValue::Null),
            ("l".into(), MetadataValue::List(vec![text("a"), MetadataValue::Number(2.0)])),
        ];
        let metadata = Metadata { filter_metadata: [("f".into(), MetadataValue::Object(claims.into()))].into() };
        let is = |text: &str| ValueMatcher::String(StringMatcher::exact(text));
        let one_of = |item| ValueMatcher::ListOneOf(Box::new(item));
        for (key, value, expected) in [
            ("s", is("1"), true),
            ("n", is("1"), false),
            ("n", ValueMatcher::DoubleExact(1.0), true),
            ("n", ValueMatcher::DoubleRange(0.0..1.0), false),
            ("s", ValueMatcher::DoubleExact(1.0), false),
            ("b", ValueMatcher::Bool(true), true),
            ("b", is("true"), false),
            ("z", ValueMatcher::Null, true),
            ("x", ValueMatcher::Null, false),
            ("x", ValueMatcher::Present(false), true),
            ("z", ValueMatcher::Present(true), true),
            ("l", one_of(is("a")), true),
            ("l", one_of(is("2")), false),
            ("s", one_of(is("1")), false),
            ("l", is("a"), false),
            ("l", ValueMatcher::Or(vec![is("a"), one_of(is("a"))]), true),
        ] {
            for invert in [false, true] {
                let matcher =
                    MetadataMatcher { filter: "f".into(), path: vec![key.into()], value: value.clone(), invert };
                assert_eq!(matcher.matches(Some(&metadata)), expected != invert, "{key} {value:?}");
            }
        }
        let matcher = MetadataMatcher { filter: "g".into(), path: vec![], value: is("1"), invert: true };
        assert!(matcher.matches(Some(&metadata)) && matcher.matches(None));
    }
}
