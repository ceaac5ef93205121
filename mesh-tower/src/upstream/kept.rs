//! The head of a request, kept for another try.
//!
//! The first try gets the request itself. Few requests are tried again, so what is kept is cheap to make and dear to use:
//! a flat list beside the other values of the request, out of which a retry builds its header map anew.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request::Parts};
use smallvec::SmallVec;

/// Headers that are kept without an allocation.
const INLINE_HEADERS: usize = 12;

/// Room for the headers that each try adds.
const ADDED_HEADERS: usize = 4;

/// The head of a request. Extensions concern this hop and are not kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    method: Method,
    uri: Uri,
    version: Version,
    headers: SmallVec<[(HeaderName, HeaderValue); INLINE_HEADERS]>,
}

impl Kept {
    /// Keeps `parts`. Fills a value that is in its place, since moving it would copy all of its room.
    pub(super) fn keep(&mut self, parts: &Parts) {
        self.method.clone_from(&parts.method);
        self.uri.clone_from(&parts.uri);
        self.version = parts.version;
        self.headers.extend(parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    /// The head again.
    pub(super) fn parts(&self) -> Parts {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + ADDED_HEADERS);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        request.into_parts().0
    }
}
