//! Index of the routes of a virtual host by path.

use http::Method;

use super::{
    literal_prefix::literal_prefix,
    matcher,
    trie::{Lowercase, Plain, Trie},
};
use crate::{
    model::{PathMatcher, Route},
    request::RequestHead,
};

/// The routes of a virtual host by path.
///
/// A route is kept by the bytes that its path must begin with. One walk along the request's path visits every route that
/// can match, and few others. It visits them by length, not in configured order, so the search keeps the lowest matching
/// route number and skips higher ones. The result is the first match in configured order, without collecting candidates.
#[derive(Debug)]
pub(super) struct PathIndex {
    case_sensitive: Trie<Candidate>,
    case_insensitive: Trie<Candidate>,
    connect: Box<[u32]>,
}

/// Small enough to be stored in a node of the trie.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    route: u32,
    rest: Rest,
    /// Whether the route has conditions other than the path. Stored here so that most requests read only the route that
    /// they match.
    conditional: bool,
}

/// The condition on the rest of the path, after the key of a [`Candidate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Any rest.
    Any,
    /// The rest is empty.
    Empty,
    /// The rest is empty or begins with `/`.
    Segments,
}

impl PathIndex {
    /// Builds the index of `routes`, which are in configured order.
    pub(super) fn new(routes: &[Route]) -> Self {
        let (mut case_sensitive, mut case_insensitive, mut connect) = (Vec::new(), Vec::new(), Vec::new());
        for (route, number) in routes.iter().zip(0u32..) {
            let matches = &route.matches;
            let (key, rest) = match &matches.path {
                PathMatcher::Prefix(prefix) => (prefix.clone(), Rest::Any),
                PathMatcher::Exact(path) => (path.clone(), Rest::Empty),
                PathMatcher::PathSeparatedPrefix(prefix) if prefix.ends_with('/') => (prefix.clone(), Rest::Any),
                PathMatcher::PathSeparatedPrefix(prefix) => (prefix.clone(), Rest::Segments),
                PathMatcher::Regex(regex) => (literal_prefix(regex.as_str()).into(), Rest::Any),
                PathMatcher::Connect => {
                    connect.push(number);
                    continue;
                }
            };
            let conditional = matcher::is_conditional(matches);
            let candidate = Candidate { route: number, rest, conditional };
            if matches.case_sensitive || matches!(matches.path, PathMatcher::Regex(_)) {
                case_sensitive.push((key.into_boxed_bytes(), candidate));
            } else {
                case_insensitive.push((key.to_ascii_lowercase().into_boxed_str().into_boxed_bytes(), candidate));
            }
        }
        Self {
            case_sensitive: Trie::new(case_sensitive),
            case_insensitive: Trie::new(case_insensitive),
            connect: connect.into(),
        }
    }

    /// The first route, in configured order, whose path matches and that `accept` accepts.
    ///
    /// `accept` is called for routes with other conditions than the path, and for regular expressions, of which the index
    /// knows the literal prefix only.
    pub(super) fn first(&self, request: &RequestHead<'_>, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let path = request.path().as_bytes();
        let mut best = u32::MAX;
        let mut visit = |length: usize, candidates: &[Candidate]| {
            for candidate in candidates {
                if candidate.route >= best {
                    break;
                }
                let accepted = || !candidate.conditional || accept(candidate.route);
                if candidate.rest.holds(&path[length..]) && accepted() {
                    best = candidate.route;
                    break;
                }
            }
        };
        // The target of CONNECT has no path, which even an empty prefix does not match. Envoy `supportsPathlessHeaders`.
        if !request.path_and_query.is_empty() {
            self.case_sensitive.walk(Plain(path), &mut visit);
            if !self.case_insensitive.is_empty() {
                self.case_insensitive.walk(Lowercase(path), &mut visit);
            }
        }
        if *request.method == Method::CONNECT {
            let earlier = self.connect.iter().copied().take_while(|&route| route < best);
            best = earlier.into_iter().find(|&route| accept(route)).unwrap_or(best);
        }
        (best != u32::MAX).then_some(best)
    }
}

impl Rest {
    fn holds(self, rest: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Empty => rest.is_empty(),
            Self::Segments => matches!(rest.first(), None | Some(b'/')),
        }
    }
}
