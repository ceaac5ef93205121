//! Evaluation of route conditions other than the path, which the path index evaluates.

use http::{HeaderMap, HeaderValue};

use crate::{
    grpc,
    model::{
        HeaderKey, HeaderMatch, HeaderMatcher, Metadata, PathMatcher, QueryParameterMatch, QueryParameterMatcher,
        RouteMatch,
    },
    request::{RequestHead, query_parameter},
};

impl HeaderMatcher {
    /// Whether the request's header matches.
    ///
    /// Repeated lines are tested one by one, and one match suffices. A missing header matches no value, not even if the
    /// matcher is inverted, unless `treat_missing_header_as_empty` is set.
    #[must_use]
    pub fn matches(&self, request: &RequestHead<'_>) -> bool {
        self.matches_lines(request.values(&self.key))
    }

    /// Whether the response's header matches. Pseudo-headers are missing in responses.
    #[must_use]
    pub fn matches_response(&self, headers: &HeaderMap) -> bool {
        let field = match &self.key {
            HeaderKey::Field(name) => Some(name),
            HeaderKey::Method | HeaderKey::Authority | HeaderKey::Path | HeaderKey::Scheme => None,
        };
        self.matches_lines(field.into_iter().flat_map(|name| headers.get_all(name)).map(HeaderValue::as_bytes))
    }

    fn matches_lines<'l>(&self, lines: impl Iterator<Item = &'l [u8]>) -> bool {
        let mut lines = lines.peekable();
        let missing = lines.peek().is_none();
        let hit = match &self.matches {
            HeaderMatch::Present(wanted) => (!missing || self.treat_missing_header_as_empty) == *wanted,
            value if missing && self.treat_missing_header_as_empty => value_hits(value, b""),
            _ if missing => return false,
            value => lines.any(|line| value_hits(value, line)),
        };
        hit != self.invert_match
    }
}

/// A line that is not UTF-8 matches no value.
fn value_hits(matches: &HeaderMatch, line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return false };
    match matches {
        HeaderMatch::Present(wanted) => *wanted,
        HeaderMatch::String(matcher) => matcher.matches(line),
        HeaderMatch::Range { start, end } => line.parse().is_ok_and(|number| (*start..*end).contains(&number)),
    }
}

impl QueryParameterMatcher {
    /// Whether the query matches. Only the first parameter with the name is tested.
    #[must_use]
    pub fn matches(&self, query: Option<&str>) -> bool {
        let value = query.and_then(|query| query_parameter(query, &self.name));
        match &self.matches {
            QueryParameterMatch::Present(wanted) => value.is_some() == *wanted,
            QueryParameterMatch::String(matcher) => value.is_some_and(|value| matcher.matches(value)),
        }
    }
}

/// Whether the route has conditions that the path index does not evaluate, so that [`holds`] must be called.
pub(super) fn is_conditional(route: &RouteMatch) -> bool {
    let RouteMatch { path, case_sensitive: _, headers, query_parameters, grpc, runtime_fraction, dynamic_metadata } =
        route;
    let by_path = !matches!(path, PathMatcher::Regex(_)) && headers.is_empty() && query_parameters.is_empty();
    !by_path || *grpc || runtime_fraction.is_some() || !dynamic_metadata.is_empty()
}

/// Whether all conditions hold that the path index does not evaluate: those on other parts of the request, and regular
/// expressions. The cheapest are tested first; the order has no effect on the result.
pub(super) fn holds(route: &RouteMatch, request: &RequestHead<'_>, metadata: Option<&Metadata>, random: u64) -> bool {
    route.runtime_fraction.is_none_or(|share| share.hits(random))
        && (!route.grpc || grpc::is_grpc_request(request.headers))
        && route.headers.iter().all(|header| header.matches(request))
        && route.dynamic_metadata.iter().all(|matcher| matcher.matches(metadata))
        && (route.query_parameters.is_empty() || {
            let query = request.query();
            route.query_parameters.iter().all(|parameter| parameter.matches(query))
        })
        && match &route.path {
            PathMatcher::Regex(regex) => regex.matches(request.path()),
            PathMatcher::Prefix(_)
            | PathMatcher::Exact(_)
            | PathMatcher::PathSeparatedPrefix(_)
            | PathMatcher::Connect => true,
        }
}
