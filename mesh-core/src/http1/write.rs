//! Writing messages.

use std::io::Write as _;

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    request, response,
    uri::PathAndQuery,
};

use super::{ReceivedNames, fields::content_length, spelling::write_name};
use crate::model::{HeaderKeyFormat, Http1Options};

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// The body has this many bytes.
    Length(u64),
    /// The body is chunked.
    Chunked,
    /// The body ends with the connection: that of some responses, and what follows a switch of the protocol.
    UntilClose,
}

/// Appends the head of a request to `out`. The version is HTTP/1.1. An authority in the target becomes `host`. It is
/// also the target of CONNECT.
///
/// `body` is the length of the body that follows; `Some(0)` = there is none, `None` = it is not known. The framing of a body is
/// `content-length`, if there is one or the length is known; else it is chunked, for every method. A request without a body whose
/// method could have one gets `content-length: 0`, because some servers insist on it (RFC 9110 section 8.6).
pub fn write_request(head: &request::Parts, body: Option<u64>, options: Http1Options, out: &mut Vec<u8>) -> BodyWriter {
    let (framing, header) = match (declared(&head.headers), body) {
        (Some(declared), _) => (Framing::Length(declared), FramingHeader::Received),
        (None, Some(0)) if !may_have_body(&head.method) => (Framing::None, FramingHeader::Nothing),
        (None, Some(length)) => (Framing::Length(length), FramingHeader::Length(length)),
        (None, None) => (Framing::Chunked, FramingHeader::Chunked),
    };
    write_request_head(head, header, options, out);
    BodyWriter { framing, options }
}

/// Appends the head of a request that switches the protocol of its connection. The bytes in the new protocol are its body.
pub fn write_tunnel_request(head: &request::Parts, options: Http1Options, out: &mut Vec<u8>) -> BodyWriter {
    write_request_head(head, FramingHeader::Received, options, out);
    BodyWriter::for_tunnel(options)
}

fn write_request_head(head: &request::Parts, framing: FramingHeader, options: Http1Options, out: &mut Vec<u8>) {
    let spelling = Spelling::of(options, &head.extensions);
    out.reserve(estimate(&head.headers));
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    write_target(head, out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = head.uri.authority();
    if let Some(host) = host {
        write_field(&HOST, host.as_str().as_bytes(), spelling, out);
    }
    write_fields(&head.headers, host.map(|_| &HOST), framing, spelling, out);
}

fn may_have_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT)
}

/// Appends the head of a final response to a request with `method` and `version` to `out`. The version of the response is that of the
/// request.
///
/// `body` is the length of the body; `Some(0)` = there is none, `None` = it is not known. The framing of a body is
/// `content-length`, if there is one or the length is known. Otherwise it is chunked, and for an HTTP/1.0 client it lasts until the
/// connection is closed.
pub fn write_response(
    head: &response::Parts,
    body: Option<u64>,
    (method, version): (&Method, Version),
    options: Http1Options,
    out: &mut Vec<u8>,
) -> BodyWriter {
    out.reserve(estimate(&head.headers));
    write_status_line(version, head.status, out);
    let is_head = *method == Method::HEAD;
    let has_no_length = head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || (*method == Method::CONNECT && head.status.is_success());
    let (framing, header) = match (declared(&head.headers), body) {
        // It is the length of the response to a request without a condition (RFC 9110 section 8.6).
        (Some(_), _) if head.status == StatusCode::NOT_MODIFIED => (Framing::None, FramingHeader::Received),
        (_, _) if has_no_length => (Framing::None, FramingHeader::Nothing),
        (Some(_), _) if is_head => (Framing::None, FramingHeader::Received),
        (Some(declared), _) => (Framing::Length(declared), FramingHeader::Received),
        (None, Some(length @ 1..)) if is_head => (Framing::None, FramingHeader::Length(length)),
        // As in Envoy, the head of a response of unknown length is that of the response to GET.
        (None, _) if is_head => {
            (Framing::None, if version < Version::HTTP_11 { FramingHeader::Nothing } else { FramingHeader::Chunked })
        }
        (None, Some(length)) => (Framing::Length(length), FramingHeader::Length(length)),
        (None, None) if version < Version::HTTP_11 => (Framing::UntilClose, FramingHeader::Nothing),
        (None, None) => (Framing::Chunked, FramingHeader::Chunked),
    };
    write_fields(&head.headers, None, header, Spelling::of(options, &head.extensions), out);
    BodyWriter { framing, options }
}

/// Appends the head of a response that switches the protocol of its connection. The bytes in the new protocol are its body.
pub fn write_tunnel_response(
    head: &response::Parts,
    version: Version,
    options: Http1Options,
    out: &mut Vec<u8>,
) -> BodyWriter {
    out.reserve(estimate(&head.headers));
    write_status_line(version, head.status, out);
    write_fields(&head.headers, None, FramingHeader::Received, Spelling::of(options, &head.extensions), out);
    BodyWriter::for_tunnel(options)
}

/// Appends an interim response (RFC 9110 section 15.2) to `out`.
pub fn write_interim(status: StatusCode, headers: &HeaderMap, options: Http1Options, out: &mut Vec<u8>) {
    write_status_line(Version::HTTP_11, status, out);
    write_fields(
        headers,
        None,
        FramingHeader::Nothing,
        Spelling { format: options.header_key_format, names: None },
        out,
    );
}

fn write_status_line(version: Version, status: StatusCode, out: &mut Vec<u8>) {
    out.extend_from_slice(if version < Version::HTTP_11 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the target: the authority for CONNECT, else the path.
fn write_target(head: &request::Parts, out: &mut Vec<u8>) {
    if head.method == Method::CONNECT
        && let Some(authority) = head.uri.authority()
    {
        return out.extend_from_slice(authority.as_str().as_bytes());
    }
    let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    // That of `http://a?b` has no path, and must have one here (RFC 9112 section 3.2.1).
    if target.starts_with('?') {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
}

/// The body length that `content-length` declares. `None` if the header is invalid: it is replaced, because readers could
/// understand it differently.
fn declared(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let length = content_length(values.next()?.as_bytes());
    if values.next().is_some() { None } else { length }
}

#[derive(Clone, Copy)]
struct Spelling<'a> {
    format: HeaderKeyFormat,
    names: Option<&'a ReceivedNames>,
}

impl<'a> Spelling<'a> {
    fn of(options: Http1Options, extensions: &'a Extensions) -> Self {
        let format = options.header_key_format;
        let names = if format == HeaderKeyFormat::PreserveCase { extensions.get() } else { None };
        Self { format, names }
    }
}

/// The framing header of a head that is written.
#[derive(Clone, Copy, PartialEq)]
enum FramingHeader {
    Nothing,
    /// The `content-length` among the headers.
    Received,
    Length(u64),
    Chunked,
}

/// Appends the headers and the empty line after them. Other framing headers than `framing` and `replaced` are not written.
fn write_fields(
    headers: &HeaderMap,
    replaced: Option<&HeaderName>,
    framing: FramingHeader,
    spelling: Spelling<'_>,
    out: &mut Vec<u8>,
) {
    for (name, value) in headers {
        let is_framing = *name == TRANSFER_ENCODING || (*name == CONTENT_LENGTH && framing != FramingHeader::Received);
        if !is_framing && replaced != Some(name) {
            write_field(name, value.as_bytes(), spelling, out);
        }
    }
    match framing {
        FramingHeader::Nothing | FramingHeader::Received => {}
        FramingHeader::Length(length) => {
            write_field(&CONTENT_LENGTH, HeaderValue::from(length).as_bytes(), spelling, out)
        }
        FramingHeader::Chunked => write_field(&TRANSFER_ENCODING, b"chunked", spelling, out),
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(name: &HeaderName, value: &[u8], spelling: Spelling<'_>, out: &mut Vec<u8>) {
    write_name(name, spelling.format, spelling.names, out);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// About how many bytes a head with `headers` has.
fn estimate(headers: &HeaderMap) -> usize {
    128 + 48 * headers.len()
}

/// Frames the body of a message that is written.
///
/// # Examples
/// ```
/// use http::{Method, Response, Version};
/// use mesh_core::{http1::write_response, model::Http1Options};
///
/// let (head, ()) = Response::new(()).into_parts();
/// let mut out = Vec::new();
/// let mut body = write_response(&head, None, (&Method::GET, Version::HTTP_11), Http1Options::default(), &mut out);
/// body.begin_data(5, &mut out)?;
/// out.extend_from_slice(b"hello");
/// out.extend_from_slice(body.after_data());
/// body.end(None, &mut out)?;
/// assert_eq!(out, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
/// # Ok::<(), mesh_core::http1::WrongLength>(())
/// ```
#[derive(Debug)]
pub struct BodyWriter {
    framing: Framing,
    options: Http1Options,
}

/// A body has more or fewer bytes than its `content-length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body has another length than its content-length")]
pub struct WrongLength;

impl BodyWriter {
    /// Writes bytes as they are.
    #[must_use]
    pub fn for_tunnel(options: Http1Options) -> Self {
        Self { framing: Framing::UntilClose, options }
    }

    /// How the end of the body is marked.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Appends what precedes `length` bytes of data, at least one. The data follows, then
    /// [`after_data`](Self::after_data).
    ///
    /// # Errors
    /// If the data is longer than `content-length`.
    pub fn begin_data(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match &mut self.framing {
            Framing::None => return Err(WrongLength),
            Framing::Length(remaining) => *remaining = remaining.checked_sub(length as u64).ok_or(WrongLength)?,
            Framing::Chunked => write!(out, "{length:x}\r\n").unwrap_or_default(),
            Framing::UntilClose => {}
        }
        Ok(())
    }

    /// What follows data.
    #[must_use]
    pub fn after_data(&self) -> &'static [u8] {
        if self.framing == Framing::Chunked { b"\r\n" } else { b"" }
    }

    /// Appends the end of the body. Trailers are written if it is chunked and `enable_trailers` is set; else they are dropped.
    ///
    /// # Errors
    /// If data is missing. The connection must be closed then, because the peer waits for the rest.
    pub fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match self.framing {
            Framing::Length(1..) => Err(WrongLength),
            Framing::Chunked => {
                out.extend_from_slice(b"0\r\n");
                let empty = HeaderMap::new();
                let trailers = trailers.filter(|_| self.options.enable_trailers).unwrap_or(&empty);
                let spelling = Spelling { format: self.options.header_key_format, names: None };
                write_fields(trailers, None, FramingHeader::Nothing, spelling, out);
                Ok(())
            }
            Framing::Length(0) | Framing::None | Framing::UntilClose => Ok(()),
        }
    }
}
