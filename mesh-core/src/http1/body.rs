//! The body of a message that is received.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::{Error, chunked::Chunked};

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// The body has this many bytes; 0 is a `content-length` of zero.
    Exact(u64),
    /// The body is chunked.
    Chunked,
    /// The body ends with the connection, as that of some responses, and what follows a switch of the protocol.
    UntilClose,
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyPart {
    /// Data, never empty.
    Data(Bytes),
    /// The trailers, at least one. Nothing but [`End`](Self::End) follows.
    Trailers(HeaderMap),
    /// The end of the message.
    End,
}

/// Reads a body.
#[derive(Debug)]
pub(super) enum BodyReader {
    /// Bytes that remain.
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
}

impl BodyReader {
    pub(super) fn new(length: BodyLength, trailers: super::Limits) -> Self {
        match length {
            BodyLength::None => Self::Exact(0),
            BodyLength::Exact(length) => Self::Exact(length),
            BodyLength::Chunked => Self::Chunked(Chunked::new(trailers)),
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    /// Takes the next part from the front of `input`; `None` if more bytes are needed.
    /// Trailers are dropped unless `enable_trailers`.
    pub(super) fn read(&mut self, input: &mut BytesMut, enable_trailers: bool) -> Result<Option<BodyPart>, Error> {
        match self {
            Self::Exact(0) => Ok(Some(BodyPart::End)),
            Self::Exact(remaining) => Ok(take(input, remaining).map(BodyPart::Data)),
            Self::Chunked(chunked) => chunked.read(input, enable_trailers),
            Self::UntilClose => Ok((!input.is_empty()).then(|| BodyPart::Data(input.split().freeze()))),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Exact(remaining) => *remaining == 0,
            Self::Chunked(chunked) => chunked.is_complete(),
            Self::UntilClose => false,
        }
    }

    /// How many trailers were dropped because their names have an underscore, since this was last called.
    pub(super) fn take_dropped(&mut self) -> u32 {
        if let Self::Chunked(chunked) = self { chunked.take_dropped() } else { 0 }
    }

    /// Whether the body ends if the connection ends now, when all received bytes have been read.
    pub(super) fn ends_at_close(&self) -> bool {
        self.is_complete() || matches!(self, Self::UntilClose)
    }
}

/// Takes at most `remaining` bytes from the front of `input`.
pub(super) fn take(input: &mut BytesMut, remaining: &mut u64) -> Option<Bytes> {
    let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
    *remaining -= length as u64;
    (length > 0).then(|| input.split_to(length).freeze())
}
