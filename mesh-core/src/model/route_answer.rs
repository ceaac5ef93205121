//! The actions of a route that answer a request without a cluster. Envoy `route.v3.RedirectAction` and
//! `route.v3.DirectResponseAction`.

use bytes::Bytes;
use http::StatusCode;

use super::{Action, SafeRegex};

/// A redirect. Envoy `route.v3.RedirectAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redirect {
    /// New scheme, `http` or `https`; `None` = the request's.
    pub scheme_redirect: Option<Box<str>>,
    /// New host without a port; `None` = the request's.
    pub host_redirect: Option<Box<str>>,
    /// New port; `None` = the request's, which is removed if the scheme changes and it is the default of the old scheme.
    pub port_redirect: Option<u16>,
    /// New path.
    pub path: PathRedirect,
    /// Status: 301, 302, 303, 307 or 308. Default 301.
    pub response_code: StatusCode,
    /// Remove the query. Default false.
    pub strip_query: bool,
}

impl Default for Redirect {
    /// A permanent redirect (301) to the same place.
    fn default() -> Self {
        Self {
            scheme_redirect: None,
            host_redirect: None,
            port_redirect: None,
            path: PathRedirect::Keep,
            response_code: StatusCode::MOVED_PERMANENTLY,
            strip_query: false,
        }
    }
}

impl From<Redirect> for Action {
    fn from(redirect: Redirect) -> Self {
        Self::Redirect(Box::new(redirect))
    }
}

/// The path of a redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRedirect {
    /// The request's.
    #[default]
    Keep,
    /// A fixed path. If it has a query, that replaces the request's.
    Path(Box<str>),
    /// The request's with the matched prefix replaced.
    Prefix(Box<str>),
    /// The request's with every match of a regular expression replaced.
    Regex {
        /// The regular expression.
        pattern: SafeRegex,
        /// The replacement; `\1` refers to a group.
        substitution: Box<str>,
    },
}

/// A fixed response. Envoy `route.v3.DirectResponseAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectResponse {
    /// Status, 200 to 599.
    pub status: StatusCode,
    /// Body, at most 1 MiB.
    pub body: Bytes,
}

impl DirectResponse {
    /// Creates a response.
    #[must_use]
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, body: body.into() }
    }
}

impl From<DirectResponse> for Action {
    fn from(response: DirectResponse) -> Self {
        Self::DirectResponse(response)
    }
}
