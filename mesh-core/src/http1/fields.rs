//! The headers of a message, and what they say about its framing.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE},
};

use super::{
    BodyLength, Error, Limits, ReceivedNames,
    head::{first_line, trim},
};
use crate::{
    model::HeadersWithUnderscoresAction as Underscores,
    policy::hop_by_hop::{PROXY_CONNECTION, tokens},
};

/// Headers that would change the framing or the route of a message if a recipient merged them from its trailers. They are
/// removed (RFC 9110 section 6.5.1).
pub(super) const NOT_IN_TRAILERS: [HeaderName; 3] = [CONTENT_LENGTH, TRANSFER_ENCODING, HOST];

/// The headers of a message.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) headers: HeaderMap,
    content_length: Option<u64>,
    transfer_coding: Option<TransferCoding>,
    connection: ConnectionOptions,
    has_upgrade: bool,
    /// How many headers were dropped because their names have an underscore.
    pub(super) dropped: u32,
}

/// What `connection` lists.
#[derive(Clone, Copy, Debug, Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

/// The transfer coding of a message. Only chunked is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferCoding {
    Chunked,
    Unsupported,
}

impl Fields {
    /// About how many bytes a header has.
    const MEAN_LENGTH: usize = 32;

    /// How many headers a proxy adds. To let the map grow for them would cost 5 % of the instructions of a request.
    const MOSTLY_ADDED: usize = 6;

    /// Reads the lines of `head` that begin at `from`. `names` gets the spelling of names.
    pub(super) fn read(
        head: &Bytes,
        from: usize,
        limits: Limits,
        mut names: Option<&mut ReceivedNames>,
    ) -> Result<Self, Error> {
        let expected = (head.len() - from) / Self::MEAN_LENGTH + Self::MOSTLY_ADDED;
        let capacity = expected.min(limits.max_headers);
        let headers = HeaderMap::try_with_capacity(capacity).map_err(|_| Error::TooManyHeaders)?;
        let mut fields = Self { headers, ..Self::default() };
        let mut at = from;
        while let Some((line, length)) = first_line(&head[at..]) {
            let next = at + length;
            if line.is_empty() {
                break;
            }
            if fields.headers.len() == limits.max_headers {
                return Err(Error::TooManyHeaders);
            }
            let colon = memchr::memchr(b':', line).ok_or(Error::InvalidHeader)?;
            let received = &line[..colon];
            let name = HeaderName::from_bytes(received).map_err(|_| Error::InvalidHeader)?;
            let (value, next) = if is_continuation(head, next) {
                unfold(head, at + colon + 1, next)
            } else {
                (head.slice_ref(trim(&line[colon + 1..])), next)
            };
            let value = HeaderValue::from_maybe_shared(value).map_err(|_| Error::InvalidHeader)?;
            at = next;
            if limits.headers_with_underscores_action != Underscores::Allow && received.contains(&b'_') {
                if limits.headers_with_underscores_action == Underscores::RejectRequest {
                    return Err(Error::UnexpectedUnderscore);
                }
                fields.dropped += 1;
                continue;
            }
            // All headers of a name are written in the spelling of the first.
            if let Some(names) = &mut names
                && !fields.headers.contains_key(&name)
            {
                names.add(&name, head.slice_ref(received));
            }
            fields.note(&name, &value)?;
            fields.headers.try_append(name, value).map_err(|_| Error::TooManyHeaders)?;
        }
        Ok(fields)
    }

    /// Notes what a header says about the framing of the message.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Error> {
        if *name == CONTENT_LENGTH {
            let length = content_length(value.as_bytes()).ok_or(Error::InvalidContentLength)?;
            if self.content_length.replace(length).is_some() {
                return Err(Error::InvalidContentLength);
            }
        } else if *name == TRANSFER_ENCODING {
            let is_chunked = self.transfer_coding.is_none() && value.as_bytes().eq_ignore_ascii_case(b"chunked");
            self.transfer_coding = Some(if is_chunked { TransferCoding::Chunked } else { TransferCoding::Unsupported });
        } else if *name == CONNECTION {
            for token in tokens(value) {
                self.connection.close |= token.eq_ignore_ascii_case(b"close");
                self.connection.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                self.connection.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            }
        } else if *name == PROXY_CONNECTION {
            // As in Envoy, it can end the connection, but not keep one of HTTP/1.0.
            self.connection.close |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"close"));
        } else if *name == UPGRADE {
            // As in Envoy, an upgrade to HTTP/2 is not done, so such a request is an ordinary one.
            self.has_upgrade |= !value.as_bytes().eq_ignore_ascii_case(b"h2c");
        }
        Ok(())
    }

    /// The length that the headers give the body; `None` if they give none. Removes `content-length` if the body is chunked,
    /// and the `allow_chunked_length` option is set.
    pub(super) fn length(&mut self, allow_chunked_length: bool) -> Result<Option<BodyLength>, Error> {
        match (self.transfer_coding, self.content_length) {
            (None, length) => Ok(length.map(BodyLength::Exact)),
            (Some(TransferCoding::Chunked), None) => Ok(Some(BodyLength::Chunked)),
            (Some(TransferCoding::Chunked), Some(_)) if allow_chunked_length => {
                self.headers.remove(CONTENT_LENGTH);
                Ok(Some(BodyLength::Chunked))
            }
            (Some(_), Some(_)) => Err(Error::ChunkedContentLength),
            (Some(TransferCoding::Unsupported), None) => Err(Error::UnsupportedTransferEncoding),
        }
    }

    /// Whether the connection may be used for another message (RFC 9112 section 9.3).
    pub(super) fn is_persistent(&self, version: Version) -> bool {
        !self.connection.close && (version >= Version::HTTP_11 || self.connection.keep_alive)
    }

    /// Whether the message asks for, or agrees to, another protocol on the connection.
    pub(super) fn is_upgrade(&self) -> bool {
        self.connection.upgrade && self.has_upgrade
    }

    /// Refuses framing headers in a message that never has a body. `content-length: 0` is harmless.
    pub(super) fn check_no_body(&self) -> Result<(), Error> {
        if self.transfer_coding.is_some() {
            return Err(Error::TransferEncodingNotAllowed);
        }
        if matches!(self.content_length, Some(1..)) { Err(Error::BodyDisallowed) } else { Ok(()) }
    }
}

/// The value of `content-length`: digits only (RFC 9110 section 8.6).
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0_u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Whether the line at `at` continues the one before (RFC 9112 section 5.2, "obs-fold").
fn is_continuation(head: &[u8], at: usize) -> bool {
    matches!(head.get(at), Some(b' ' | b'\t'))
}

/// The value that begins at `start` and is continued by the line at `at`, and where the next header begins. As in Envoy, the line
/// ends are removed, and the blanks after them stay.
#[cold]
fn unfold(head: &Bytes, start: usize, mut at: usize) -> (Bytes, usize) {
    let mut value = BytesMut::from(first_line(&head[start..]).map_or(&[][..], |(line, _)| line));
    while is_continuation(head, at)
        && let Some((line, length)) = first_line(&head[at..])
    {
        if !trim(line).is_empty() {
            value.extend_from_slice(line);
        }
        at += length;
    }
    let value = value.freeze();
    (value.slice_ref(trim(&value)), at)
}
