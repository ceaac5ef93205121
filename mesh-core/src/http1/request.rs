//! The reader of requests: the side of a server.

use bytes::{Bytes, BytesMut};
use http::{Method, Request, header::CONTENT_LENGTH, request::Parts};

use super::{
    BodyLength, BodyPart, Error, Limits, ReceivedNames,
    body::BodyReader,
    fields::Fields,
    head::{HeadScan, classify, first_line, skip_empty_lines, version_of, words},
    target,
};
use crate::model::{HeaderKeyFormat, Http1Options};

/// The head of a request.
#[derive(Debug)]
#[non_exhaustive]
pub struct RequestHead {
    /// Method, target, version and headers. The target is in the form in which it was received: a path, an absolute URI,
    /// or an authority for CONNECT.
    pub parts: Parts,
    /// How the end of the body is known. [`BodyLength::UntilClose`] does not occur.
    pub body: BodyLength,
    /// Whether the client keeps the connection after the response.
    pub is_persistent: bool,
    /// Whether the client asks for another protocol on the connection: CONNECT, or `upgrade` other than to `h2c`.
    pub is_upgrade: bool,
    /// Why the request is to be refused although it was understood: for its target, which is not in `parts` then.
    pub refused: Option<Error>,
    /// The bytes of the head.
    pub bytes: Bytes,
}

/// Reads the requests of a connection, one after the other.
///
/// # Examples
/// ```
/// use bytes::BytesMut;
/// use mesh_core::{http1::{BodyPart, Limits, RequestReader}, model::Http1Options};
///
/// let limits = Limits::new(60 * 1024, 100);
/// let mut reader = RequestReader::new(Http1Options::default(), limits);
/// let mut input = BytesMut::from("POST /a HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\nhi");
/// let head = reader.read_head(&mut input)?.expect("the head is complete");
/// assert_eq!(head.parts.uri.path(), "/a");
/// assert_eq!(reader.read_body(&mut input)?, Some(BodyPart::Data("hi".into())));
/// assert_eq!(reader.read_body(&mut input)?, Some(BodyPart::End));
/// # Ok::<(), mesh_core::http1::Error>(())
/// ```
#[derive(Debug)]
pub struct RequestReader {
    options: Http1Options,
    limits: Limits,
    scan: HeadScan,
    body: BodyReader,
    dropped: u32,
}

impl RequestReader {
    /// A reader at the beginning of a connection. `limits` are those of heads and of trailers.
    #[must_use]
    pub fn new(options: Http1Options, limits: Limits) -> Self {
        Self { options, limits, scan: HeadScan::default(), body: BodyReader::new(BodyLength::None, limits), dropped: 0 }
    }

    /// Reads what follows the head of a request that switches the protocol, up to the end of the connection, as its body.
    pub fn begin_tunnel(&mut self) {
        self.body = BodyReader::UntilClose;
    }

    /// How many headers and trailers were dropped because their names have an underscore, since this was last called.
    #[must_use]
    pub fn take_dropped(&mut self) -> u32 {
        std::mem::take(&mut self.dropped)
    }

    /// Takes the head of the next request from the front of `input`. `None` if it is not complete: call it again with more
    /// bytes at the end of `input`. The body of the request before must have been read.
    ///
    /// # Errors
    /// If it is no valid request, or too large. Nothing that follows on the connection can be understood then.
    pub fn read_head(&mut self, input: &mut BytesMut) -> Result<Option<RequestHead>, Error> {
        if self.scan.is_at_start() {
            skip_empty_lines(input);
            // Not HTTP, such as a TLS handshake: it may never have a line.
            if input.first().is_some_and(|first| !is_method_byte(*first)) {
                return Err(Error::InvalidStartLine);
            }
        }
        let Some(end) = self.scan.find(input, self.limits)? else {
            self.check_start_line(input)?;
            return Ok(None);
        };
        let bytes = input.split_to(end).freeze();
        let head = self.parse(&bytes).map_err(|error| classify(error, &bytes))?;
        self.body = BodyReader::new(head.body, self.limits);
        Ok(Some(head))
    }

    /// Refuses a head that is not complete because of its first line.
    fn check_start_line(&self, bytes: &[u8]) -> Result<(), Error> {
        let Some((line, _)) = first_line(bytes) else { return Ok(()) };
        let line = StartLine::parse(line)?;
        method(line.method, self.options.allow_custom_methods).map(drop)
    }

    fn parse(&mut self, bytes: &Bytes) -> Result<RequestHead, Error> {
        let (line, length) = first_line(bytes).ok_or(Error::InvalidStartLine)?;
        let line = StartLine::parse(line)?;
        let method = method(line.method, self.options.allow_custom_methods)?;
        let version = version_of(line.version)?;
        let mut names = self.preserves_case().then(ReceivedNames::default);
        let mut fields = Fields::read(bytes, length, self.limits, names.as_mut())?;
        self.dropped += fields.dropped;
        let mut body = fields.length(self.options.allow_chunked_length)?.unwrap_or(BodyLength::None);
        if method == Method::CONNECT {
            if !matches!(body, BodyLength::None | BodyLength::Exact(0)) {
                return Err(Error::BodyDisallowed);
            }
            body = BodyLength::None;
            fields.headers.remove(CONTENT_LENGTH);
        }
        let target = target::parse(&method, bytes.slice_ref(line.target), self.options.allow_absolute_url)?;
        let is_upgrade = method == Method::CONNECT || fields.is_upgrade();
        let is_persistent = fields.is_persistent(version);
        let mut parts = Request::new(()).into_parts().0;
        parts.method = method;
        parts.uri = target.uri;
        parts.version = version;
        parts.headers = fields.headers;
        if let Some(names) = names {
            parts.extensions.insert(names);
        }
        let refused = target.refused;
        Ok(RequestHead { parts, body, is_persistent, is_upgrade, refused, bytes: bytes.clone() })
    }

    fn preserves_case(&self) -> bool {
        self.options.header_key_format == HeaderKeyFormat::PreserveCase
    }

    /// Takes the next part of the body from the front of `input`; `None` if more bytes are needed. After
    /// [`BodyPart::End`], the next head can be read.
    ///
    /// # Errors
    /// If the body is malformed. Nothing that follows on the connection can be understood then.
    pub fn read_body(&mut self, input: &mut BytesMut) -> Result<Option<BodyPart>, Error> {
        let part = self.body.read(input, self.options.enable_trailers);
        self.dropped += self.body.take_dropped();
        part
    }

    /// Whether the whole body has been read.
    #[must_use]
    pub fn is_body_complete(&self) -> bool {
        self.body.is_complete()
    }
}

/// The parts of a request line (RFC 9112 section 3).
struct StartLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: &'a [u8],
}

impl<'a> StartLine<'a> {
    /// A request without a version is one of HTTP/0.9.
    fn parse(line: &'a [u8]) -> Result<Self, Error> {
        let mut words = words(line);
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(Error::InvalidStartLine) };
        let version = words.next().unwrap_or(b"HTTP/0.9");
        if words.next().is_some() { Err(Error::InvalidStartLine) } else { Ok(Self { method, target, version }) }
    }
}

fn method(method: &[u8], allow_custom_methods: bool) -> Result<Method, Error> {
    if !allow_custom_methods && !REGISTERED_METHODS.contains(&method) {
        return Err(Error::UnknownMethod);
    }
    Method::from_bytes(method).map_err(|_| Error::UnknownMethod)
}

fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// The methods that are accepted without `allow_custom_methods`, as in Envoy.
const REGISTERED_METHODS: [&[u8]; 35] = [
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"COPY",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"MSEARCH",
    b"NOTIFY",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"QUERY",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
];
