//! The `%COMMAND(ARGUMENT):LENGTH%` language of Envoy's access logs and header values.
//!
//! A format is parsed once, when configuration is read, and an unknown command is an error. Evaluation is in
//! [`telemetry`](crate::telemetry).
//!
//! Source: Envoy "Access logging", command operators.

pub(crate) mod number;
mod operator;
mod parse;
mod time;
mod tls;

use std::fmt;

use http::{HeaderName, HeaderValue};
use thiserror::Error;

pub use operator::{Attribute, FieldSource, GrpcStatusStyle, HeaderSource, MetadataSource, Operator, PathSource};
pub use time::TimeFormat;
pub use tls::{CertificateField, TlsConnection, TlsField, TlsSource};

use super::HeaderKey;

/// Envoy's default text format. Envoy "Default format string".
pub const DEFAULT_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// Istio's default text format. Istio "Envoy Access Logs".
pub const ISTIO_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% \
    %ROUTE_NAME%\n";

/// `x-envoy-original-path`: the path before a rewrite.
pub(crate) const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// A compiled format: a sequence of literals and commands.
#[derive(Clone, PartialEq, Eq)]
pub struct Format {
    source: Box<str>,
    parts: Vec<Part>,
    literal: Option<HeaderValue>,
}

/// A part of a [`Format`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that is written as it is.
    Literal(Box<str>),
    /// A command that is replaced by its value.
    Command(Command),
}

/// A command. Envoy "Command operators".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The operator.
    pub operator: Operator,
    /// Maximum length of the value in bytes; `None` = unlimited.
    pub max_length: Option<usize>,
}

/// A format string is malformed, or uses an unknown command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid format {format:?} at byte {at}: {reason}")]
pub struct FormatError {
    /// The format string.
    pub format: String,
    /// Byte position of the faulty command.
    pub at: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Format {
    /// Creates a format from text without substitutions.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Literal(text.into())] };
        Self::from_parts(text, parts)
    }

    /// Compiles `format`; `%%` stands for `%`.
    ///
    /// # Errors
    /// If a command is malformed, unknown or not supported. The error names it.
    pub fn parse(format: &str) -> Result<Self, FormatError> {
        Ok(Self::from_parts(format, parse::parse(format)?))
    }

    fn from_parts(source: &str, parts: Vec<Part>) -> Self {
        let literal = match &*parts {
            [] => Some(HeaderValue::from_static("")),
            [Part::Literal(text)] => HeaderValue::from_str(text).ok(),
            _ => None,
        };
        Self { source: source.into(), parts, literal }
    }

    /// The format as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The parts in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The value of a format without commands, built in advance; `None` if it has commands or is not a valid header
    /// value.
    #[must_use]
    pub fn literal_value(&self) -> Option<&HeaderValue> {
        self.literal.as_ref()
    }

    /// The request headers that the format reads. Callers that evaluate later can keep these and drop the others.
    pub fn request_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.operators().flat_map(Operator::request_headers)
    }

    /// The response headers that the format reads.
    pub fn response_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.operators().flat_map(Operator::response_headers)
    }

    fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.parts.iter().filter_map(|part| match part {
            Part::Command(command) => Some(&command.operator),
            Part::Literal(_) => None,
        })
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Operator {
    fn request_headers(&self) -> impl Iterator<Item = &HeaderName> {
        static CONTENT_TYPE: HeaderName = http::header::CONTENT_TYPE;
        static ORIGINAL_PATH: HeaderName = X_ENVOY_ORIGINAL_PATH;
        let names = match self {
            Self::Request(source) => [field(&source.main), source.alternative.as_ref().and_then(field)],
            // A status is written for gRPC requests only.
            Self::GrpcStatus(_) => [Some(&CONTENT_TYPE), None],
            Self::Path { .. } => [Some(&ORIGINAL_PATH), None],
            _ => [None, None],
        };
        names.into_iter().flatten()
    }

    fn response_headers(&self) -> impl Iterator<Item = &HeaderName> {
        // A response without a body carries the gRPC status in its headers.
        static GRPC_STATUS: HeaderName = crate::grpc::GRPC_STATUS;
        let names = match self {
            Self::Response(source) => [Some(&source.main), source.alternative.as_ref()],
            Self::GrpcStatus(_) => [Some(&GRPC_STATUS), None],
            _ => [None, None],
        };
        names.into_iter().flatten()
    }
}

fn field(key: &HeaderKey) -> Option<&HeaderName> {
    match key {
        HeaderKey::Field(name) => Some(name),
        HeaderKey::Method | HeaderKey::Authority | HeaderKey::Path | HeaderKey::Scheme => None,
    }
}

#[cfg(test)]
mod tests;
