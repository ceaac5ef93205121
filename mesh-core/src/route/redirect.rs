//! The `location` header of redirects. Envoy `route.v3.RedirectAction`.

use super::{
    RouteEntry,
    rewrite::{replace_prefix, with_query},
};
use crate::{
    model::{Action, PathMatcher, PathRedirect, Redirect},
    request::{RequestHead, split_query},
};

impl<C> RouteEntry<C> {
    /// The value of `location` in the response of a redirect, or of a direct response with 201 or 3xx; `None` for any
    /// other route.
    ///
    /// The location of a direct response is the URL of the request, as in Envoy.
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

/// The location for a request without TLS to a virtual host that requires TLS: the same URL with `https`.
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
        // A query in the configured path replaces the request's and is never stripped.
        PathRedirect::Path(path) if path.contains('?') => path.as_ref().to_owned(),
        PathRedirect::Path(path) => with_query(path.as_ref().to_owned(), kept),
        PathRedirect::Prefix(prefix) => with_query(replace_prefix(matched, path, prefix), kept),
        PathRedirect::Regex { pattern, substitution } => with_query(pattern.replace_all(path, substitution), kept),
    };
    url(scheme, host, redirect.port_redirect, &path_and_query)
}

/// The request's host. Its port is removed if there is a new one, or if the scheme changes and the port is the default of
/// the old scheme: `http://a:80` becomes `https://a`.
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
