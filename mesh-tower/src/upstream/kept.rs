//! What it takes to send a request again.
//!
//! Few requests are tried again, so what is kept is cheap to make and dear to use: target and headers are copied into one
//! buffer, which neither counts references nor hashes names, and a retry reads its head anew out of it. A thread hands
//! one buffer from request to request.

use std::cell::Cell;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    request::Parts,
    uri::{self, Authority, PathAndQuery},
};

use crate::{Body, retry::Replay};

/// Room for the headers that each try adds.
const ADDED_HEADERS: usize = 4;

/// A request, kept for further tries. Extensions concern this hop and are not kept.
#[derive(Debug)]
pub(super) struct Kept {
    method: Method,
    version: Version,
    header_names: usize,
    /// Scheme and authority, path and nothing, and each header's name and value; what is missing is empty.
    texts: Pairs,
    pub(super) body: Replay,
}

impl Kept {
    /// Keeps `parts`, and of `body`, which stays ready to be sent, up to `body_limit` bytes.
    pub(super) fn new(parts: &Parts, body: &mut Body, body_limit: usize) -> Self {
        let replay = Replay::beside(body, body_limit);
        let scheme = parts.uri.scheme_str().unwrap_or_default();
        let authority = parts.uri.authority().map_or("", Authority::as_str);
        let path_and_query = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
        let mut texts = Pairs::new();
        texts.push(scheme, authority.as_bytes(), false);
        texts.push(path_and_query, b"", false);
        for (name, value) in &parts.headers {
            texts.push(name.as_str(), value.as_bytes(), value.is_sensitive());
        }
        let (method, version) = (parts.method.clone(), parts.version);
        Self { method, version, header_names: parts.headers.keys_len(), texts, body: replay }
    }

    /// The request again.
    pub(super) fn again(&self) -> (Parts, Body) {
        let mut texts = self.texts.iter();
        let mut request = Request::new(self.body.next_body());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = read_target(&mut texts).expect("parts of a URI make one");
        *request.version_mut() = self.version;
        let mut headers = HeaderMap::try_with_capacity(self.header_names + ADDED_HEADERS).unwrap_or_default();
        for (name, value) in texts.map(read_header) {
            headers.append(name, value);
        }
        *request.headers_mut() = headers;
        request.into_parts()
    }
}

fn read_target<'t>(texts: &mut impl Iterator<Item = Pair<'t>>) -> Option<Uri> {
    let ((scheme, authority, _), (path_and_query, _, _)) = (texts.next()?, texts.next()?);
    let [scheme, authority, path_and_query] =
        [scheme, authority, path_and_query].map(|text| Some(text).filter(|text| !text.is_empty()));
    let mut parts = uri::Parts::default();
    parts.scheme = scheme.map(TryFrom::try_from).transpose().ok()?;
    parts.authority = authority.map(TryFrom::try_from).transpose().ok()?;
    parts.path_and_query = path_and_query.map(TryFrom::try_from).transpose().ok()?;
    Uri::from_parts(parts).ok()
}

fn read_header((name, value, is_sensitive): Pair<'_>) -> (HeaderName, HeaderValue) {
    let name = HeaderName::from_bytes(name).expect("the name of a header");
    let mut value = HeaderValue::from_bytes(value).expect("the value of a header");
    value.set_sensitive(is_sensitive);
    (name, value)
}

/// Two texts, and whether the second is sensitive.
type Pair<'t> = (&'t [u8], &'t [u8], bool);

/// Pairs of texts one after the other, each behind two lengths; the lowest bit of the second says whether it is sensitive.
#[derive(Debug)]
struct Pairs(Vec<u8>);

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Pairs {
    const LENGTH: usize = size_of::<usize>();
    /// Bytes of the largest buffer that is used again.
    const MAX_SPARE: usize = 4 * 1024;

    fn new() -> Self {
        Self(SPARE.take())
    }

    fn push(&mut self, first: &str, second: &[u8], is_sensitive: bool) {
        let lengths = [first.len(), second.len() << 1 | usize::from(is_sensitive)];
        self.0.reserve(2 * Self::LENGTH + first.len() + second.len());
        self.0.extend_from_slice(lengths.map(usize::to_ne_bytes).as_flattened());
        self.0.extend_from_slice(first.as_bytes());
        self.0.extend_from_slice(second);
    }

    fn iter(&self) -> impl Iterator<Item = Pair<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let mut length = || Some(usize::from_ne_bytes(*rest.split_off(..Self::LENGTH)?.first_chunk()?));
            let (first, second) = (length()?, length()?);
            Some((rest.split_off(..first)?, rest.split_off(..second >> 1)?, second & 1 != 0))
        })
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        if buffer.capacity() <= Self::MAX_SPARE {
            // The thread may be ending.
            let _ = SPARE.try_with(|spare| {
                buffer.clear();
                spare.set(buffer);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_out_as_it_went_in() {
        let mut secret = HeaderValue::from_static("secret");
        secret.set_sensitive(true);
        let latin = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        let request = Request::put("http://a.test/b?c")
            .version(Version::HTTP_2)
            .header("authorization", secret)
            .header("x-twice", "1")
            .header("x-twice", "")
            .header("x-latin", latin)
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let mut body = Body::from("text");
        let kept = Kept::new(&parts, &mut body, 100);
        for _ in 0..2 {
            let (again, body) = kept.again();
            assert_eq!((&again.method, &again.uri, again.version), (&parts.method, &parts.uri, parts.version));
            assert_eq!(again.headers, parts.headers);
            assert!(again.headers["authorization"].is_sensitive() && !again.headers["x-latin"].is_sensitive());
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some(4));
        }
    }

    #[test]
    fn every_form_of_a_target_comes_out_as_it_went_in() {
        for (method, target) in
            [("GET", "/a?b"), ("GET", "/"), ("OPTIONS", "*"), ("CONNECT", "a.test:443"), ("GET", "https://u@[::1]:8/?")]
        {
            let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
            let (again, _) = Kept::new(&parts, &mut Body::empty(), 0).again();
            assert_eq!((again.method, again.uri), (parts.method, parts.uri), "{target}");
        }
    }
}
