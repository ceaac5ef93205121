//! Rules: which requirement a request has.

use crate::{
    request::RequestHead,
    value::{HeaderMatcher, PathMatcher, QueryParameterMatcher},
};

use super::requirement::Requirement;

/// A requirement of some requests. Envoy `jwt_authn.v3.RequirementRule`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The requests.
    pub matches: RuleMatch,
    /// What they must have.
    pub requirement: Requirement,
}

/// The requests of a rule: all conditions must hold. Envoy `RequirementRule.match`, without the conditions that Envoy does
/// not evaluate there.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleMatch {
    /// The path without its query.
    pub path: PathMatcher,
    /// Whether the path is compared case-sensitively; no effect on regular expressions. Default true.
    pub case_sensitive: bool,
    /// Conditions on headers.
    pub headers: Vec<HeaderMatcher>,
    /// Conditions on query parameters.
    pub query_parameters: Vec<QueryParameterMatcher>,
}

impl RuleMatch {
    /// Matches every request with this path.
    #[must_use]
    pub fn path(path: PathMatcher) -> Self {
        Self { path, case_sensitive: true, headers: Vec::new(), query_parameters: Vec::new() }
    }

    /// Whether the rule applies to `request`.
    #[must_use]
    pub fn matches(&self, request: &RequestHead<'_>) -> bool {
        self.matches_path(request)
            && self.headers.iter().all(|header| header.matches(request))
            && self.query_parameters.iter().all(|parameter| parameter.matches(request.query()))
    }

    fn matches_path(&self, request: &RequestHead<'_>) -> bool {
        let path = request.path();
        match &self.path {
            PathMatcher::Prefix(prefix) => self.begins_with(path, prefix),
            PathMatcher::Exact(exact) => path.len() == exact.len() && self.begins_with(path, exact),
            PathMatcher::PathSeparatedPrefix(prefix) => {
                self.begins_with(path, prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            PathMatcher::Regex(regex) => regex.matches(path),
            PathMatcher::Connect => *request.method == http::Method::CONNECT,
        }
    }

    fn begins_with(&self, path: &str, prefix: &str) -> bool {
        let begin = path.as_bytes().get(..prefix.len());
        begin.is_some_and(|begin| match self.case_sensitive {
            true => begin == prefix.as_bytes(),
            false => begin.eq_ignore_ascii_case(prefix.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::value::{HeaderKey, HeaderMatch, QueryParameterMatch, SafeRegex};

    fn matches(rule: &RuleMatch, target: &str) -> bool {
        let (parts, ()) = Request::builder().uri(target).body(()).unwrap().into_parts();
        rule.matches(&RequestHead::from_parts(&parts))
    }

    #[test]
    fn a_rule_applies_by_path() {
        let prefix = RuleMatch::path(PathMatcher::Prefix("/a".into()));
        assert!(
            matches(&prefix, "/a") && matches(&prefix, "/ab?c") && !matches(&prefix, "/A") && !matches(&prefix, "/")
        );
        let insensitive = RuleMatch { case_sensitive: false, ..prefix };
        assert!(matches(&insensitive, "/AB") && !matches(&insensitive, "/b"));
        let exact = RuleMatch::path(PathMatcher::Exact("/a".into()));
        assert!(matches(&exact, "/a?b") && !matches(&exact, "/a/"));
        let separated = RuleMatch::path(PathMatcher::PathSeparatedPrefix("/a".into()));
        assert!(matches(&separated, "/a/b") && matches(&separated, "/a") && !matches(&separated, "/ab"));
        let regex = RuleMatch::path(PathMatcher::Regex(SafeRegex::new("/[ab]").unwrap()));
        assert!(matches(&regex, "/b?c") && !matches(&regex, "/bb"));
        let connect = RuleMatch::path(PathMatcher::Connect);
        assert!(!matches(&connect, "/"));
    }

    #[test]
    fn all_conditions_must_hold() {
        let mut rule = RuleMatch::path(PathMatcher::Prefix("/".into()));
        rule.query_parameters =
            vec![QueryParameterMatcher { name: "q".into(), matches: QueryParameterMatch::Present(true) }];
        assert!(matches(&rule, "/?q=1") && !matches(&rule, "/"));
        rule.headers = vec![HeaderMatcher {
            key: HeaderKey::parse("x").unwrap(),
            matches: HeaderMatch::Present(true),
            invert_match: false,
            treat_missing_header_as_empty: false,
        }];
        assert!(!matches(&rule, "/?q=1"));
    }
}
