//! Why a message is refused.

use http::StatusCode;

use crate::{local_reply::LocalReply, telemetry::details};

/// Why a received message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The head or the trailers are larger than allowed.
    #[error("the headers are larger than allowed")]
    HeadersTooLarge,
    /// There are more headers than allowed.
    #[error("there are more headers than allowed")]
    TooManyHeaders,
    /// The head has a control character.
    #[error("the head has a control character")]
    InvalidCharacters,
    /// The first line is neither a request line nor a status line.
    #[error("the first line is invalid")]
    InvalidStartLine,
    /// The version is not one of HTTP/1.
    #[error("the version is not one of HTTP/1")]
    InvalidVersion,
    /// The method is unknown, or no token.
    #[error("the method is unknown")]
    UnknownMethod,
    /// The target has characters that are not allowed in it, or is in a form that the method does not have.
    #[error("the request target is invalid")]
    InvalidTarget,
    /// The target has a fragment.
    #[error("the request target has a fragment")]
    FragmentInTarget,
    /// The target is an absolute URI, and those are not accepted.
    #[error("absolute request targets are not accepted")]
    AbsoluteTarget,
    /// A header has no name, or invalid characters.
    #[error("a header is invalid")]
    InvalidHeader,
    /// The name of a header has an underscore, and such requests are refused.
    #[error("the name of a header has an underscore")]
    UnexpectedUnderscore,
    /// `content-length` is no number, or there are several.
    #[error("content-length is invalid")]
    InvalidContentLength,
    /// There is a transfer coding other than chunked.
    #[error("the transfer coding is not supported")]
    UnsupportedTransferEncoding,
    /// The message cannot have `transfer-encoding`.
    #[error("transfer-encoding is not allowed in this message")]
    TransferEncodingNotAllowed,
    /// There are both `transfer-encoding` and `content-length`.
    #[error("the message has both transfer-encoding and content-length")]
    ChunkedContentLength,
    /// The message cannot have a body.
    #[error("the message cannot have a body")]
    BodyDisallowed,
    /// A chunk is malformed.
    #[error("a chunk is malformed")]
    InvalidChunk,
    /// The connection ended within a message.
    #[error("the connection ended before the message was complete")]
    Incomplete,
}

impl Error {
    /// The reply to a client whose request is refused. Status, body, flags and details are those of Envoy.
    #[must_use]
    pub fn reply(self) -> LocalReply {
        match self {
            Self::HeadersTooLarge => LocalReply::HEADERS_TOO_LARGE,
            Self::TooManyHeaders => LocalReply::TOO_MANY_HEADERS,
            Self::AbsoluteTarget => LocalReply::ABSOLUTE_PATH_REJECTED,
            Self::FragmentInTarget => LocalReply::PATH_NORMALIZATION_FAILED,
            Self::UnsupportedTransferEncoding => LocalReply {
                status: StatusCode::NOT_IMPLEMENTED,
                body: "Not Implemented".into(),
                details: details::HTTP1_INVALID_TRANSFER_ENCODING.into(),
                ..LocalReply::BAD_REQUEST
            },
            Self::InvalidCharacters => LocalReply::bad_request(details::HTTP1_INVALID_CHARACTERS),
            Self::UnexpectedUnderscore => LocalReply::bad_request(details::HTTP1_UNEXPECTED_UNDERSCORE),
            Self::ChunkedContentLength => LocalReply::bad_request(details::HTTP1_CHUNKED_CONTENT_LENGTH),
            Self::BodyDisallowed => LocalReply::bad_request(details::HTTP1_BODY_DISALLOWED),
            Self::InvalidTarget => LocalReply::bad_request(details::HTTP1_INVALID_URL),
            Self::InvalidStartLine
            | Self::InvalidVersion
            | Self::UnknownMethod
            | Self::InvalidHeader
            | Self::InvalidContentLength
            | Self::TransferEncodingNotAllowed
            | Self::InvalidChunk
            | Self::Incomplete => LocalReply::BAD_REQUEST,
        }
    }
}
