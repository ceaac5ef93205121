//! The location of redirects (E7, VS14).

use super::{
    RouteEntry,
    rewrite::{replace_prefix, with_query},
};
use crate::{
    model::{Action, PathMatcher, PathRedirect, Redirect},
    request::{RequestHead, split_query},
};

impl<C> RouteEntry<C> {
    /// The value of `location` in the answer that the route gives itself; `None` if the answer has none.
    ///
    /// A direct response of 201 or 3xx has one too: the request's own URL.
    #[must_use]
    pub fn location(&self, request: &RequestHead<'_>) -> Option<String> {
        match &self.route().action {
            Action::Redirect(redirect) => Some(location(redirect, &self.route().matches.path, request)),
            Action::DirectResponse(direct) if direct.status.is_redirection() || direct.status.as_u16() == 201 => {
                Some(url(request.scheme(), request.authority, None, request.path_and_query))
            }
            Action::DirectResponse(_) | Action::Route(_) | Action::NonForwarding => None,
        }
    }
}

/// Where a request without TLS is sent by a virtual host that requires it: the same URL with `https`.
#[must_use]
pub fn https_location(request: &RequestHead<'_>) -> String {
    url("https", request.authority, None, request.path_and_query)
}

fn location(redirect: &Redirect, matched: &PathMatcher, request: &RequestHead<'_>) -> String {
    let scheme = redirect.scheme_redirect.as_deref().unwrap_or_else(|| request.scheme());
    let host = match &redirect.host_redirect {
        Some(host) => host,
        None => request_host(request, scheme, redirect.port_redirect.is_some()),
    };
    let (path, query) = split_query(request.path_and_query);
    let kept = if redirect.strip_query { None } else { query };
    let path_and_query = match &redirect.path {
        PathRedirect::Keep => with_query(path.to_owned(), kept),
        // A query of its own is never stripped and replaces the request's.
        PathRedirect::Path(path) if path.contains('?') => path.as_ref().to_owned(),
        PathRedirect::Path(path) => with_query(path.as_ref().to_owned(), kept),
        PathRedirect::Prefix(prefix) => with_query(replace_prefix(matched, path, prefix), kept),
        PathRedirect::Regex { pattern, substitution } => with_query(pattern.replace_all(path, substitution), kept),
    };
    url(scheme, host, redirect.port_redirect, &path_and_query)
}

/// The request's host. Its port goes if another is to come, or if the scheme changes and it is the old scheme's
/// default: `http://a:80` becomes `https://a`.
fn request_host<'a>(request: &RequestHead<'a>, new_scheme: &str, new_port: bool) -> &'a str {
    let authority = request.authority;
    let Some(colon) = authority.rfind(':').filter(|&colon| !authority[colon..].contains(']')) else { return authority };
    let old_scheme = request.forwarded_scheme();
    let is_default = matches!((old_scheme, &authority[colon..]), ("http", ":80") | ("https", ":443"));
    if new_port || (is_default && new_scheme != old_scheme) { &authority[..colon] } else { authority }
}

fn url(scheme: &str, host: &str, port: Option<u16>, path_and_query: &str) -> String {
    match port {
        Some(port) => format!("{scheme}://{host}:{port}{path_and_query}"),
        None => format!("{scheme}://{host}{path_and_query}"),
    }
}
