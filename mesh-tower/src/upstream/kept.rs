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
    /// Scheme, authority, path, and each header's name and value. Each stands behind its length; what is missing is empty.
    texts: Texts,
    pub(super) body: Replay,
}

impl Kept {
    /// Keeps `parts`, and of `body`, which stays ready to be sent, up to `body_limit` bytes.
    pub(super) fn new(parts: &Parts, body: &mut Body, body_limit: usize) -> Self {
        let replay = Replay::beside(body, body_limit);
        let target = [
            parts.uri.scheme_str().unwrap_or_default(),
            parts.uri.authority().map_or("", Authority::as_str),
            parts.uri.path_and_query().map_or("", PathAndQuery::as_str),
        ];
        let mut texts = Texts::new();
        for text in target {
            texts.push(text.as_bytes(), false);
        }
        for (name, value) in &parts.headers {
            texts.push(name.as_str().as_bytes(), false);
            texts.push(value.as_bytes(), value.is_sensitive());
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
        while let Some((name, value)) = read_header(&mut texts) {
            headers.append(name, value);
        }
        *request.headers_mut() = headers;
        request.into_parts()
    }
}

fn read_target<'t>(texts: &mut impl Iterator<Item = (&'t [u8], bool)>) -> Option<Uri> {
    let mut present = || texts.next().map(|(text, _)| text).filter(|text| !text.is_empty());
    let (scheme, authority, path_and_query) = (present(), present(), present());
    let mut parts = uri::Parts::default();
    parts.scheme = scheme.map(TryFrom::try_from).transpose().ok()?;
    parts.authority = authority.map(TryFrom::try_from).transpose().ok()?;
    parts.path_and_query = path_and_query.map(TryFrom::try_from).transpose().ok()?;
    Uri::from_parts(parts).ok()
}

fn read_header<'t>(texts: &mut impl Iterator<Item = (&'t [u8], bool)>) -> Option<(HeaderName, HeaderValue)> {
    let ((name, _), (value, is_sensitive)) = (texts.next()?, texts.next()?);
    let name = HeaderName::from_bytes(name).expect("the name of a header");
    let mut value = HeaderValue::from_bytes(value).expect("the value of a header");
    value.set_sensitive(is_sensitive);
    Some((name, value))
}

/// Texts one after the other, each behind its length, whose lowest bit says whether it is sensitive.
#[derive(Debug)]
struct Texts(Vec<u8>);

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Texts {
    const LENGTH: usize = size_of::<usize>();
    /// Bytes of the largest buffer that is used again.
    const MAX_SPARE: usize = 4 * 1024;

    fn new() -> Self {
        Self(SPARE.take())
    }

    fn push(&mut self, text: &[u8], is_sensitive: bool) {
        let length = text.len() << 1 | usize::from(is_sensitive);
        self.0.reserve(Self::LENGTH + text.len());
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(text);
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let length = usize::from_ne_bytes(*rest.split_off(..Self::LENGTH)?.first_chunk()?);
            Some((rest.split_off(..length >> 1)?, length & 1 != 0))
        })
    }
}

impl Drop for Texts {
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
