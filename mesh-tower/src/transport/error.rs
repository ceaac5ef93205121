//! Errors of exchanges with endpoints.

use std::{borrow::Cow, error::Error, fmt, io, sync::Arc};

use mesh_core::retry::ResetReason;

/// An exchange with an endpoint failed before the response had ended.
#[derive(Clone, Debug)]
pub struct TransportError {
    reason: ResetReason,
    transport_failure: Option<Arc<str>>,
}

impl TransportError {
    /// An error without details.
    #[must_use]
    pub fn new(reason: ResetReason) -> Self {
        Self { reason, transport_failure: None }
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
    pub(crate) fn from_connect(error: &io::Error) -> Self {
        let text = error.to_string();
        let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text);
        let transport_failure = Some(format!("delayed connect error: {text}").into());
        Self { transport_failure, ..Self::new(ResetReason::ConnectionFailure) }
    }

    pub(crate) fn from_hyper(error: &hyper::Error) -> Self {
        Self::new(if error.is_parse() {
            ResetReason::ProtocolError
        } else if error.is_user() {
            ResetReason::LocalReset
        } else {
            ResetReason::ConnectionTermination
        })
    }

    pub(crate) fn from_h2(error: &h2::Error) -> Self {
        let reason = match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => ResetReason::RemoteRefusedStreamReset,
            // The endpoint has not processed streams above the last one that a GOAWAY names (RFC 9113 section 6.8).
            Some(h2::Reason::NO_ERROR) if error.is_go_away() => ResetReason::RemoteRefusedStreamReset,
            Some(_) if error.is_reset() && error.is_remote() => ResetReason::RemoteReset,
            Some(_) if error.is_library() => ResetReason::ProtocolError,
            Some(_) if error.is_reset() => ResetReason::LocalReset,
            Some(_) | None => ResetReason::ConnectionTermination,
        };
        Self::new(reason)
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = self.transport_failure.as_ref().map_or(Cow::Borrowed(""), |text| Cow::Owned(format!(": {text}")));
        write!(f, "upstream {:?}{failure}", self.reason)
    }
}

impl Error for TransportError {}
