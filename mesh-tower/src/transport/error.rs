//! Errors of exchanges with endpoints.

use std::{error::Error, fmt, io, sync::Arc};

use mesh_core::retry::ResetReason;

/// An exchange with an endpoint failed before the response had ended.
#[derive(Clone, Debug)]
pub struct TransportError {
    reason: ResetReason,
    transport_failure: Option<Arc<str>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl TransportError {
    /// An error without details.
    #[must_use]
    pub fn new(reason: ResetReason) -> Self {
        Self { reason, transport_failure: None, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The reason, in Envoy's terms.
    #[must_use]
    pub fn reason(&self) -> ResetReason {
        self.reason
    }

    /// The operating system's description of the error, if a connection could not be made.
    #[must_use]
    pub fn transport_failure(&self) -> Option<&Arc<str>> {
        self.transport_failure.as_ref()
    }

    /// A connection could not be made. The description is the operating system's, without the error number, as in Envoy.
    pub(crate) fn from_connect(error: io::Error) -> Self {
        let text = error.to_string();
        let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text);
        let transport_failure = Some(format!("delayed connect error: {text}").into());
        Self { transport_failure, ..Self::new(ResetReason::ConnectionFailure) }.with_source(error)
    }

    pub(crate) fn from_hyper(error: hyper::Error) -> Self {
        Self::new(Self::reason_of_hyper(&error)).with_source(error)
    }

    pub(crate) fn reason_of_hyper(error: &hyper::Error) -> ResetReason {
        if error.is_parse() {
            ResetReason::ProtocolError
        } else if error.is_user() {
            ResetReason::LocalReset
        } else {
            ResetReason::ConnectionTermination
        }
    }

    pub(crate) fn from_h2(error: h2::Error) -> Self {
        Self::new(Self::reason_of_h2(&error)).with_source(error)
    }

    pub(crate) fn reason_of_h2(error: &h2::Error) -> ResetReason {
        match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => ResetReason::RemoteRefusedStreamReset,
            // The endpoint has not processed streams above the last one that a GOAWAY names (RFC 9113 section 6.8).
            Some(h2::Reason::NO_ERROR) if error.is_go_away() => ResetReason::RemoteRefusedStreamReset,
            Some(_) if error.is_reset() && error.is_remote() => ResetReason::RemoteReset,
            Some(_) if error.is_library() => ResetReason::ProtocolError,
            Some(_) if error.is_reset() => ResetReason::LocalReset,
            Some(_) | None => ResetReason::ConnectionTermination,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            ResetReason::ConnectionFailure => "the endpoint could not be reached",
            ResetReason::ConnectionTimeout => "the endpoint could not be reached in time",
            ResetReason::RemoteRefusedStreamReset => "the endpoint refused the request",
            ResetReason::RemoteReset => "the endpoint reset the stream",
            ResetReason::LocalReset => "the stream was reset",
            ResetReason::ProtocolError => "the endpoint violated the protocol",
            ResetReason::ConnectionTermination => "the connection to the endpoint was lost",
            ResetReason::PerTryTimeout => "the endpoint did not respond in time",
            ResetReason::Overflow => "a limit of the cluster is reached",
        })
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
