//! The reader of responses: the side of a client.

use bytes::BytesMut;
use http::{Method, Response, StatusCode, Version, response::Parts};

use super::{
    BodyLength, BodyPart, Error, Limits, ReceivedNames,
    body::BodyReader,
    fields::Fields,
    head::{HeadScan, first_line, version_of, words},
};
use crate::model::{HeaderKeyFormat, Http1Options};

/// The head of a response.
#[derive(Debug)]
#[non_exhaustive]
pub struct ResponseHead {
    /// Status, version and headers.
    pub parts: Parts,
    /// How the end of the body is known.
    pub body: BodyLength,
    /// Whether the server keeps the connection after the response.
    pub is_persistent: bool,
    /// Whether the server agrees to another protocol on the connection by `upgrade`.
    pub is_upgrade: bool,
}

/// Reads the responses of a connection, one after the other.
///
/// # Examples
/// ```
/// use bytes::BytesMut;
/// use http::Method;
/// use mesh_core::{http1::{BodyLength, BodyPart, Limits, ResponseReader}, model::Http1Options};
///
/// let limits = Limits::new(60 * 1024, 100);
/// let mut reader = ResponseReader::new(Http1Options::default(), limits);
/// let mut input = BytesMut::from("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
/// let head = reader.read_head(&mut input, &Method::GET)?.expect("the head is complete");
/// assert_eq!(head.body, BodyLength::Chunked);
/// assert_eq!(reader.read_body(&mut input)?, Some(BodyPart::Data("hi".into())));
/// assert_eq!(reader.read_body(&mut input)?, Some(BodyPart::End));
/// # Ok::<(), mesh_core::http1::Error>(())
/// ```
#[derive(Debug)]
pub struct ResponseReader {
    options: Http1Options,
    limits: Limits,
    scan: HeadScan,
    body: BodyReader,
}

impl ResponseReader {
    /// A reader at the beginning of a connection. `limits` are those of heads and of trailers.
    #[must_use]
    pub fn new(options: Http1Options, limits: Limits) -> Self {
        Self { options, limits, scan: HeadScan::default(), body: BodyReader::new(BodyLength::None, limits) }
    }

    /// Takes the head of the next response from the front of `input`. `None` if it is not complete: call it again with more
    /// bytes at the end of `input`. `method` is that of the request, since it decides whether there is a body. If the head is that of
    /// an interim response (a status of 1xx except 101), another head follows.
    ///
    /// # Errors
    /// If it is no valid response, or too large. Nothing that follows on the connection can be understood then.
    pub fn read_head(&mut self, input: &mut BytesMut, method: &Method) -> Result<Option<ResponseHead>, Error> {
        // Not HTTP, such as the greeting of another protocol: it may never have a head.
        if !input.iter().zip(b"HTTP/").all(|(received, expected)| received == expected) {
            return Err(Error::InvalidStartLine);
        }
        let Some(end) = self.scan.find(input, self.limits)? else { return Ok(None) };
        let bytes = input.split_to(end).freeze();
        let (line, length) = first_line(&bytes).ok_or(Error::InvalidStartLine)?;
        let (version, status) = status_line(line)?;
        let mut names = (self.options.header_key_format == HeaderKeyFormat::PreserveCase).then(ReceivedNames::default);
        let mut fields = Fields::read(&bytes, length, self.limits, names.as_mut())?;
        let body = self.body_length(&mut fields, method, status)?;
        let is_persistent = fields.is_persistent(version) && body != BodyLength::UntilClose;
        let mut parts = Response::new(()).into_parts().0;
        parts.status = status;
        parts.version = version;
        parts.headers = std::mem::take(&mut fields.headers);
        if let Some(names) = names {
            parts.extensions.insert(names);
        }
        self.body = BodyReader::new(body, self.limits);
        Ok(Some(ResponseHead { parts, body, is_persistent, is_upgrade: fields.is_upgrade() }))
    }

    fn body_length(&self, fields: &mut Fields, method: &Method, status: StatusCode) -> Result<BodyLength, Error> {
        let has_none = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || *method == Method::HEAD
            || (*method == Method::CONNECT && status.is_success());
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            fields.check_no_body()?;
        }
        let length = fields.length(self.options.allow_chunked_length)?;
        Ok(if has_none { BodyLength::None } else { length.unwrap_or(BodyLength::UntilClose) })
    }

    /// Reads what follows the head of a response that switches the protocol, up to the end of the connection, as its body.
    pub fn begin_tunnel(&mut self) {
        self.body = BodyReader::UntilClose;
    }

    /// Takes the next part of the body from the front of `input`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// If the body is malformed. Nothing that follows on the connection can be understood then.
    pub fn read_body(&mut self, input: &mut BytesMut) -> Result<Option<BodyPart>, Error> {
        self.body.read(input, self.options.enable_trailers)
    }

    /// Whether the whole body has been read.
    #[must_use]
    pub fn is_body_complete(&self) -> bool {
        self.body.is_complete()
    }

    /// Handles the end of the connection, after all received bytes have been read. It is the end of a body that has no
    /// other end.
    ///
    /// # Errors
    /// If the response is not complete.
    pub fn close(&self) -> Result<(), Error> {
        if self.body.ends_at_close() { Ok(()) } else { Err(Error::Incomplete) }
    }
}

/// Version and status of a status line (RFC 9112 section 4). The reason is ignored, but may have no control characters.
fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Error> {
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Error::InvalidCharacters);
    }
    let mut words = words(line);
    let (Some(version), Some(status)) = (words.next(), words.next()) else { return Err(Error::InvalidStartLine) };
    let version = version_of(version)?;
    let status = StatusCode::from_bytes(status).map_err(|_| Error::InvalidStartLine)?;
    Ok((version, status))
}
