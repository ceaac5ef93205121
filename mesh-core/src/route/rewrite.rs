//! Rewrites of the path and the authority of upstream requests. Envoy `RouteAction.prefix_rewrite`, `regex_rewrite`,
//! `host_rewrite_specifier`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};

use super::RouteEntry;
use crate::{
    model::{HostRewrite, PathMatcher, PathRewrite},
    request::split_query,
};

/// The rewrite of a request's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorityRewrite<'a> {
    /// No rewrite.
    Keep,
    /// Replace it, and send the original in `x-envoy-original-host`.
    Set(Cow<'a, HeaderValue>),
    /// Replace it without sending the original: a weighted cluster's `host_rewrite_literal`.
    SetSilently(&'a HeaderValue),
    /// Replace it by the host name of the endpoint, if it has one, and send the original as for `Set`.
    EndpointHostname,
}

impl<C> RouteEntry<C> {
    /// The rewritten `:path` of a request, including the query; `None` if the route does not rewrite. If it does, the
    /// original is sent in `x-envoy-original-path`, even if it is equal.
    ///
    /// A result that does not begin with `/` is prefixed with one, because it would not be a valid path.
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

    /// The rewrite of the authority of a request with these headers. `path` is the path before a rewrite.
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

/// Replaces the part of `path` that `matched` matches: the prefix, or the whole path if `matched` is not a prefix.
pub(super) fn replace_prefix(matched: &PathMatcher, path: &str, replacement: &str) -> String {
    let rest = match matched {
        // A matched prefix has the length of the configured one, even if case is ignored.
        PathMatcher::Prefix(prefix) | PathMatcher::PathSeparatedPrefix(prefix) => path.get(prefix.len()..),
        PathMatcher::Exact(_) | PathMatcher::Regex(_) | PathMatcher::Connect => None,
    };
    [replacement, rest.unwrap_or("")].concat()
}

/// Appends `query` to `path`.
pub(super) fn with_query(mut path: String, query: Option<&str>) -> String {
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path
}
