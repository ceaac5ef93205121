//! Conditions of a route.

use crate::config::{ClaimMatch, HeaderMatch, HttpMatch, StringMatch};
use crate::translate::proto::{matcher, route as envoy};
use crate::translate::string_match::{regex, string_matcher};
use envoy::header_matcher::HeaderMatchSpecifier;
use envoy::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy::route_match::PathSpecifier;

/// The conditions of a match; none means every path.
pub(super) fn route_match(matcher: Option<&HttpMatch>) -> envoy::RouteMatch {
    let Some(matcher) = matcher else {
        return envoy::RouteMatch { path_specifier: Some(any_path()), ..envoy::RouteMatch::default() };
    };
    let path = match &matcher.uri {
        Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(prefix.clone()),
        Some(StringMatch::Regex(expression)) => PathSpecifier::SafeRegex(regex(expression)),
        Some(StringMatch::Present) | None => match &matcher.path_separated_prefix {
            Some(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.clone()),
            None => any_path(),
        },
    };
    let pseudo = [(":method", &matcher.method), (":authority", &matcher.authority), (":scheme", &matcher.scheme)];
    let pseudo = pseudo.into_iter().filter_map(|(name, value)| Some(header(name, value.as_ref()?, false)));
    let headers = matcher.headers.iter().map(|HeaderMatch { name, value, invert }| header(name, value, *invert));
    envoy::RouteMatch {
        path_specifier: Some(path),
        case_sensitive: Some(!matcher.ignore_uri_case),
        headers: headers.chain(pseudo).collect(),
        dynamic_metadata: matcher.claims.iter().map(claim).collect(),
        query_parameters: matcher.query_params.iter().map(|(name, value)| query_parameter(name, value)).collect(),
        ..envoy::RouteMatch::default()
    }
}

fn any_path() -> PathSpecifier {
    PathSpecifier::Prefix("/".to_owned())
}

fn header(name: &str, value: &StringMatch, invert: bool) -> envoy::HeaderMatcher {
    let pattern = string_matcher(value);
    envoy::HeaderMatcher {
        name: name.to_owned(),
        invert_match: invert,
        // A header that is not there does not have the value either.
        treat_missing_header_as_empty: invert && pattern.is_some(),
        header_match_specifier: Some(match pattern {
            Some(pattern) => HeaderMatchSpecifier::StringMatch(pattern),
            None => HeaderMatchSpecifier::PresentMatch(true),
        }),
    }
}

/// A condition on the payload that `jwt_authn` has set. A claim that is a list has an item with the value.
fn claim(claim: &ClaimMatch) -> matcher::MetadataMatcher {
    use matcher::{metadata_matcher::PathSegment, value_matcher::MatchPattern};
    let key = |key: &str| PathSegment {
        segment: Some(matcher::metadata_matcher::path_segment::Segment::Key(key.to_owned())),
    };
    let value = |pattern| matcher::ValueMatcher { match_pattern: Some(pattern) };
    let pattern = match string_matcher(&claim.value) {
        None => value(MatchPattern::PresentMatch(true)),
        Some(text) => {
            let text = value(MatchPattern::StringMatch(text));
            let one_of = matcher::list_matcher::MatchPattern::OneOf(Box::new(text.clone()));
            let list = value(MatchPattern::ListMatch(Box::new(matcher::ListMatcher { match_pattern: Some(one_of) })));
            value(MatchPattern::OrMatch(matcher::OrMatcher { value_matchers: vec![text, list] }))
        }
    };
    matcher::MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".to_owned(),
        path: ["payload"].into_iter().chain(claim.path.iter().map(String::as_str)).map(key).collect(),
        value: Some(pattern),
        invert: claim.invert,
    }
}

fn query_parameter(name: &str, value: &StringMatch) -> envoy::QueryParameterMatcher {
    envoy::QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(match string_matcher(value) {
            Some(pattern) => QueryParameterMatchSpecifier::StringMatch(pattern),
            None => QueryParameterMatchSpecifier::PresentMatch(true),
        }),
    }
}

/// Whether a route matches every request, so that no route behind it is reached.
pub(super) fn is_catch_all(route: &envoy::Route) -> bool {
    route.r#match.as_ref().is_some_and(|matcher| {
        let any_path = match &matcher.path_specifier {
            Some(PathSpecifier::Prefix(prefix)) => prefix == "/" || prefix.is_empty(),
            Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
            _ => false,
        };
        any_path
            && matcher.headers.is_empty()
            && matcher.dynamic_metadata.is_empty()
            && matcher.query_parameters.is_empty()
    })
}
