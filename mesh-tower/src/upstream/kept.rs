//! What it takes to send a request again.
//!
//! Few requests are tried again, so what is kept is cheap to make and dear to use: the headers are copied into one buffer,
//! which neither counts references nor hashes names, and a retry reads its header map anew out of it.

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
    headers: PackedHeaders,
    pub(super) body: Replay,
}

impl Kept {
    /// Keeps `parts`, and of `body`, which stays ready to be sent, up to `body_limit` bytes.
    pub(super) fn new(parts: &Parts, body: &mut Body, body_limit: usize) -> Self {
        let replay = Replay::new(std::mem::take(body), body_limit);
        *body = replay.next_body();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        Self { method, uri, version: parts.version, headers: PackedHeaders::new(&parts.headers), body: replay }
    }

    /// The request again.
    pub(super) fn again(&self) -> (Parts, Body) {
        let mut request = Request::new(self.body.next_body());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.unpack();
        request.into_parts()
    }
}

/// Header lines in one buffer: of each the lengths of its name and of its value, whether the value is sensitive, the name
/// and the value.
#[derive(Debug)]
struct PackedHeaders {
    lines: usize,
    bytes: Vec<u8>,
}

impl PackedHeaders {
    /// Bytes of a line besides its name and value.
    const OVERHEAD: usize = 2 * size_of::<usize>() + 1;

    fn new(headers: &HeaderMap) -> Self {
        let size = |(name, value): (&HeaderName, &HeaderValue)| Self::OVERHEAD + name.as_str().len() + value.len();
        let mut bytes = Vec::with_capacity(headers.iter().map(size).sum());
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            bytes.extend_from_slice(&name.len().to_ne_bytes());
            bytes.extend_from_slice(&value.len().to_ne_bytes());
            bytes.push(u8::from(value.is_sensitive()));
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(value.as_bytes());
        }
        Self { lines: headers.len(), bytes }
    }

    fn unpack(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.lines + ADDED_HEADERS);
        let mut rest = &*self.bytes;
        while let Some((name, value)) = take_line(&mut rest) {
            headers.append(name, value);
        }
        headers
    }
}

/// The next line of packed headers; `None` after the last. They come out of a header map, so they fit into one.
fn take_line(rest: &mut &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name_length = usize::from_ne_bytes(*rest.split_off(..size_of::<usize>())?.first_chunk()?);
    let value_length = usize::from_ne_bytes(*rest.split_off(..size_of::<usize>())?.first_chunk()?);
    let is_sensitive = *rest.split_off_first()? != 0;
    let name = HeaderName::from_bytes(rest.split_off(..name_length)?).ok()?;
    let mut value = HeaderValue::from_bytes(rest.split_off(..value_length)?).ok()?;
    value.set_sensitive(is_sensitive);
    Some((name, value))
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
}
