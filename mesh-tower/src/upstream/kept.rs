//! What it takes to send a request again.
//!
//! The first try gets the request itself. Few requests are tried again, so what is kept is cheap to make and dear to use:
//! a flat list of headers out of which a retry builds its header map anew.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request::Parts};

use crate::{Body, retry::Replay};

/// Room for the headers that each try adds.
const ADDED_HEADERS: usize = 4;

/// A request, kept for further tries. Extensions concern this hop and are not kept.
#[derive(Debug)]
pub(super) struct Kept {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Replay,
}

impl Kept {
    /// Keeps `parts`, and of `body`, which stays ready to be sent, up to `body_limit` bytes.
    pub(super) fn new(parts: &Parts, body: &mut Body, body_limit: usize) -> Self {
        let replay = Replay::new(std::mem::take(body), body_limit);
        *body = replay.next_body();
        let mut headers = Vec::with_capacity(parts.headers.len());
        for (name, value) in &parts.headers {
            headers.push((name.clone(), value.clone()));
        }
        Self { method: parts.method.clone(), uri: parts.uri.clone(), version: parts.version, headers, body: replay }
    }

    /// The request again.
    pub(super) fn again(&self) -> (Parts, Body) {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + ADDED_HEADERS);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let mut request = Request::new(self.body.next_body());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        request.into_parts()
    }
}
