//! `envoy.type.matcher.v3.MetadataMatcher`.

use mesh_core::model::{MetadataMatcher, ValueMatcher};

use super::field::{At, Result};
use super::value::{list, required, string_matcher};
use crate::proto::envoy::r#type::matcher::v3::{
    DoubleMatcher, ListMatcher, MetadataMatcher as ProtoMetadataMatcher, OrMatcher, ValueMatcher as ProtoValueMatcher,
    double_matcher, list_matcher, metadata_matcher::PathSegment, metadata_matcher::path_segment::Segment,
    value_matcher::MatchPattern,
};

/// Decodes a predicate over metadata.
pub(crate) fn metadata_matcher(at: &At<'_>, value: &ProtoMetadataMatcher) -> Result<MetadataMatcher> {
    let ProtoMetadataMatcher { filter, path, value, invert } = value;
    let path = list(at, "path", path, |at, PathSegment { segment }| match segment {
        Some(Segment::Key(key)) => Ok(key.as_str().into()),
        None => Err(at.refuse("no key is given")),
    })?;
    let at = at.field("value");
    let value = value_matcher(&at, required(&at, value.as_ref())?)?;
    Ok(MetadataMatcher::new(filter, path, value).inverted(*invert))
}

fn value_matcher(at: &At<'_>, value: &ProtoValueMatcher) -> Result<ValueMatcher> {
    let ProtoValueMatcher { match_pattern } = value;
    match match_pattern {
        None => Err(at.refuse("no pattern is given")),
        Some(MatchPattern::NullMatch(_)) => Ok(ValueMatcher::Null),
        Some(MatchPattern::DoubleMatch(DoubleMatcher { match_pattern })) => match match_pattern {
            Some(double_matcher::MatchPattern::Range(range)) => Ok(ValueMatcher::DoubleRange(range.start..range.end)),
            Some(double_matcher::MatchPattern::Exact(number)) => Ok(ValueMatcher::DoubleExact(*number)),
            None => Err(at.field("double_match").refuse("neither range nor exact is given")),
        },
        Some(MatchPattern::StringMatch(matcher)) => {
            string_matcher(&at.field("string_match"), matcher).map(ValueMatcher::String)
        }
        Some(MatchPattern::BoolMatch(wanted)) => Ok(ValueMatcher::Bool(*wanted)),
        Some(MatchPattern::PresentMatch(wanted)) => Ok(ValueMatcher::Present(*wanted)),
        Some(MatchPattern::ListMatch(matcher)) => {
            let ListMatcher { match_pattern } = &**matcher;
            let at = at.field("list_match");
            match match_pattern {
                Some(list_matcher::MatchPattern::OneOf(item)) => {
                    Ok(ValueMatcher::ListOneOf(Box::new(value_matcher(&at.field("one_of"), item)?)))
                }
                None => Err(at.refuse("one_of is missing")),
            }
        }
        Some(MatchPattern::OrMatch(OrMatcher { value_matchers })) => {
            list(&at.field("or_match"), "value_matchers", value_matchers, value_matcher).map(ValueMatcher::Or)
        }
    }
}
