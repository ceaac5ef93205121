//! Changes of path and authority before a request goes upstream (E7, VS16).

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};

use super::RouteEntry;
use crate::{
    model::{HostRewrite, PathMatcher, PathRewrite},
    request::split_query,
};

/// What a route makes of a request's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorityRewrite<'a> {
    /// Leave it.
    Keep,
    /// Replace it. The original is told upstream in `x-envoy-original-host`.
    Set(Cow<'a, HeaderValue>),
    /// Replace it without telling the original: a weighted cluster's `host_rewrite_literal`.
    SetSilently(&'a HeaderValue),
    /// Replace it by the host name of the endpoint, if that has one. The original is told as for `Set`.
    EndpointHostname,
}

impl<C> RouteEntry<C> {
    /// The new `:path` of a request, query included; `None` if the route does not rewrite. If there is one, even an
    /// equal one, the original goes upstream in `x-envoy-original-path`.
    ///
    /// A result that does not begin with `/` gets one: anything else is not a path that HTTP can carry.
    #[must_use]
    pub fn rewrite_path(&self, path_and_query: &str) -> Option<String> {
        let rewritten = |rewrite: &dyn Fn(&str) -> String| {
            let (path, query) = split_query(path_and_query);
            let rewritten = rewrite(path);
            let rewritten = if rewritten.starts_with('/') { rewritten } else { format!("/{rewritten}") };
            with_query(rewritten, query)
        };
        if !self.rewrites_path() {
            return None;
        }
        match &self.action()?.path_rewrite {
            PathRewrite::None => None,
            PathRewrite::Prefix(prefix) => {
                Some(rewritten(&|path| replace_prefix(&self.route().matches.path, path, prefix)))
            }
            PathRewrite::Regex { pattern, substitution } => {
                Some(rewritten(&|path| pattern.replace_all(path, substitution)))
            }
        }
    }

    /// The new authority of a request with this path, before that is rewritten, and these headers.
    #[must_use]
    pub fn rewrite_authority<'a>(
        &'a self,
        weighted: Option<usize>,
        path: &str,
        headers: &'a HeaderMap,
    ) -> AuthorityRewrite<'a> {
        if !self.rewrites_authority() {
            return AuthorityRewrite::Keep;
        }
        let of_cluster = self.weighted_cluster(weighted).and_then(|cluster| cluster.host_rewrite_literal.as_ref());
        if let Some(value) = of_cluster {
            return AuthorityRewrite::SetSilently(value);
        }
        match self.action().map_or(&HostRewrite::None, |action| &action.host_rewrite) {
            HostRewrite::None => AuthorityRewrite::Keep,
            HostRewrite::Literal(value) => AuthorityRewrite::Set(Cow::Borrowed(value)),
            HostRewrite::Auto => AuthorityRewrite::EndpointHostname,
            HostRewrite::Header(name) => match headers.get(name) {
                Some(value) if !value.is_empty() => AuthorityRewrite::Set(Cow::Borrowed(value)),
                _ => AuthorityRewrite::Keep,
            },
            HostRewrite::PathRegex { pattern, substitution } => {
                let (path, _) = split_query(path);
                let host = HeaderValue::try_from(pattern.replace_all(path, substitution));
                host.map_or(AuthorityRewrite::Keep, |host| AuthorityRewrite::Set(Cow::Owned(host)))
            }
        }
    }
}

/// `path` with what `matched` matched replaced: the prefix, else everything.
pub(super) fn replace_prefix(matched: &PathMatcher, path: &str, replacement: &str) -> String {
    let rest = match matched {
        // A matched prefix is as long as the configured one, also when case is ignored.
        PathMatcher::Prefix(prefix) | PathMatcher::PathSeparatedPrefix(prefix) => path.get(prefix.len()..),
        PathMatcher::Exact(_) | PathMatcher::Regex(_) | PathMatcher::Connect => None,
    };
    [replacement, rest.unwrap_or("")].concat()
}

/// `path` with `query` behind it.
pub(super) fn with_query(mut path: String, query: Option<&str>) -> String {
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path
}
