//! Header changes and header matchers.

use mesh_core::model::{
    AppendAction, HeaderMatch, HeaderMatcher, HeaderMutation, HeaderMutations, StringMatcher, StringPattern,
};

use super::field::{At, Result, fields};
use super::value::{enumeration, format, header_key, header_name, list, regex, required, string_matcher};
use crate::proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction};
use crate::proto::envoy::config::route::v3::{
    HeaderMatcher as ProtoHeaderMatcher, header_matcher::HeaderMatchSpecifier,
};
use crate::proto::envoy::r#type::v3::Int64Range;

/// The `request_headers_to_add` and `request_headers_to_remove` of a message.
pub(crate) fn request_mutations(at: &At<'_>, add: &[HeaderValueOption], remove: &[String]) -> Result<HeaderMutations> {
    Ok(HeaderMutations {
        add: list(at, "request_headers_to_add", add, mutation)?,
        remove: list(at, "request_headers_to_remove", remove, |at, name| header_name(at, name))?,
    })
}

/// The `response_headers_to_add` and `response_headers_to_remove` of a message.
pub(crate) fn response_mutations(at: &At<'_>, add: &[HeaderValueOption], remove: &[String]) -> Result<HeaderMutations> {
    Ok(HeaderMutations {
        add: list(at, "response_headers_to_add", add, mutation)?,
        remove: list(at, "response_headers_to_remove", remove, |at, name| header_name(at, name))?,
    })
}

/// A header to write.
pub(crate) fn mutation(at: &At<'_>, option: &HeaderValueOption) -> Result<HeaderMutation> {
    let HeaderValueOption { header, append, append_action, keep_empty_value } = option;
    let header_at = at.field("header");
    let header = required(&header_at, header.as_ref())?;
    fields! {
        HeaderValue = header, header_at;
        use { key, value }
        ignore {}
        refuse { raw_value }
    }
    let append_action = match append {
        Some(true) => AppendAction::AppendIfExistsOrAdd,
        Some(false) => AppendAction::OverwriteIfExistsOrAdd,
        None => match enumeration(&at.field("append_action"), *append_action)? {
            HeaderAppendAction::AppendIfExistsOrAdd => AppendAction::AppendIfExistsOrAdd,
            HeaderAppendAction::AddIfAbsent => AppendAction::AddIfAbsent,
            HeaderAppendAction::OverwriteIfExistsOrAdd => AppendAction::OverwriteIfExistsOrAdd,
            HeaderAppendAction::OverwriteIfExists => AppendAction::OverwriteIfExists,
        },
    };
    Ok(HeaderMutation {
        name: header_name(&header_at.field("key"), key)?,
        value: format(&header_at.field("value"), value)?,
        append_action,
        keep_empty_value: *keep_empty_value,
    })
}

/// Decodes a header matcher.
pub(crate) fn matcher(at: &At<'_>, value: &ProtoHeaderMatcher) -> Result<HeaderMatcher> {
    let ProtoHeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = value;
    let key = header_key(&at.field("name"), name)?;
    let literal = |pattern| Ok(HeaderMatch::String(StringMatcher::new(pattern, false)));
    let matches = match header_match_specifier {
        None => Ok(HeaderMatch::Present(true)),
        Some(HeaderMatchSpecifier::PresentMatch(present)) => Ok(HeaderMatch::Present(*present)),
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
            string_matcher(&at.field("string_match"), matcher).map(HeaderMatch::String)
        }
        Some(HeaderMatchSpecifier::ExactMatch(text)) => literal(StringPattern::Exact(text.as_str().into())),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => literal(StringPattern::Prefix(text.as_str().into())),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => literal(StringPattern::Suffix(text.as_str().into())),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => literal(StringPattern::Contains(text.as_str().into())),
        Some(HeaderMatchSpecifier::SafeRegexMatch(expression)) => {
            literal(StringPattern::Regex(regex(&at.field("safe_regex_match"), expression)?))
        }
        Some(HeaderMatchSpecifier::RangeMatch(range)) => range_match(&at.field("range_match"), *range),
    }?;
    Ok(HeaderMatcher {
        key,
        matches,
        invert_match: *invert_match,
        treat_missing_header_as_empty: *treat_missing_header_as_empty,
    })
}

fn range_match(at: &At<'_>, range: Int64Range) -> Result<HeaderMatch> {
    let Int64Range { start, end } = range;
    if start >= end {
        return Err(at.refuse(format_args!("{start}..{end} is empty")));
    }
    Ok(HeaderMatch::Range { start, end })
}
