//! The forms of rules in [`crate::proto::rules`].

/// The rules of a message.
#[derive(Debug)]
pub(crate) struct MessageRules {
    /// The full name of the message.
    pub(crate) message: &'static str,
    /// The oneofs of which one field must be set.
    pub(crate) required_oneofs: &'static [&'static str],
    /// The rules of fields, by the number of the field.
    pub(crate) fields: &'static [(u32, &'static [Rule])],
}

/// A rule of a field, named as in `validate.proto`. Numbers are those of any numeric type; those of a duration are seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// A message that must be set.
    Required,
    /// A message whose own rules do not count.
    Skip,
    /// An empty value is valid whatever the other rules say.
    IgnoreEmpty,
    /// A boolean that must be true.
    ConstTrue,
    /// A known value of an enum.
    DefinedOnly,
    /// A number that must be none of these.
    NumberNotIn(&'static [f64]),
    /// A number that must be less.
    Lt(f64),
    /// A number that must be at most this.
    Lte(f64),
    /// A number that must be greater.
    Gt(f64),
    /// A number that must be at least this.
    Gte(f64),
    /// Minimum length of a string in characters, or of bytes.
    MinLen(usize),
    /// Maximum length of a string in characters, or of bytes.
    MaxLen(usize),
    /// Maximum length of a string in bytes.
    MaxBytes(usize),
    /// A string that must match a regular expression.
    Pattern(&'static str),
    /// A string that must begin with this.
    Prefix(&'static str),
    /// A string that must end with this.
    Suffix(&'static str),
    /// A string that must be one of these.
    OneOf(&'static [&'static str]),
    /// The name of a header, or of a pseudo-header.
    HeaderName,
    /// The value of a header.
    HeaderValue,
    /// A string without the characters that end a header: line feed, carriage return and NUL.
    HeaderText,
    /// Minimum number of elements.
    MinItems(usize),
    /// Maximum number of elements.
    MaxItems(usize),
    /// No two elements may be equal.
    Unique,
    /// Rules of each element.
    Items(&'static [Self]),
    /// Minimum number of entries of a map.
    MinPairs(usize),
    /// Rules of each key of a map.
    Keys(&'static [Self]),
}
