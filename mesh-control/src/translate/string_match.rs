//! Comparisons of strings.

use super::proto::matcher as envoy_matcher;
use crate::config::StringMatch;

/// Envoy's expressions match the whole value, as Istio's do.
pub(super) fn regex(expression: &str) -> envoy_matcher::RegexMatcher {
    envoy_matcher::RegexMatcher { regex: expression.to_owned(), ..envoy_matcher::RegexMatcher::default() }
}

/// `None` if any value will do.
pub(super) fn string_matcher(value: &StringMatch) -> Option<envoy_matcher::StringMatcher> {
    use envoy_matcher::string_matcher::MatchPattern;
    let pattern = match value {
        StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringMatch::Regex(expression) => MatchPattern::SafeRegex(regex(expression)),
        StringMatch::Present => return None,
    };
    Some(envoy_matcher::StringMatcher { match_pattern: Some(pattern), ..envoy_matcher::StringMatcher::default() })
}
