//! The decision of the service.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::value::{AppendAction, HeaderKey, MetadataValue};

/// The decision of the service about a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Authorization {
    /// The request is allowed.
    Allowed(Box<Allowed>),
    /// The request is denied.
    Denied(Box<Denied>),
    /// There is no decision: the service failed, or says that it cannot decide. The response, if the service gives one, is
    /// used in place of that of `status_on_error`.
    Failed(Option<Box<Denied>>),
    /// What the service sent is not valid in a request or response.
    Invalid,
}

impl Authorization {
    /// The request is allowed as it is.
    #[must_use]
    pub fn allow() -> Self {
        Self::Allowed(Box::default())
    }

    /// The request is denied, with a response without body.
    #[must_use]
    pub fn deny(status: StatusCode) -> Self {
        Self::Denied(Box::new(Denied::new(Some(status))))
    }
}

/// Changes of an allowed request and of its response.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Allowed {
    /// Changes of the request's headers, in order.
    pub headers: Vec<HeaderChange>,
    /// Headers to remove from the request, after the other changes. Pseudo-headers and `host` stay.
    pub headers_to_remove: Vec<HeaderKey>,
    /// Query parameters to set.
    pub query_parameters_to_set: Vec<(Box<str>, Box<str>)>,
    /// Query parameters to remove.
    pub query_parameters_to_remove: Vec<Box<str>>,
    /// Changes of the response's headers, in order.
    pub response_headers: Vec<HeaderChange>,
    /// Dynamic metadata; [`MetadataValue::Null`] = none.
    pub dynamic_metadata: MetadataValue,
}

/// The response to a request that is denied.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Denied {
    /// Its status; `None` = 403, or that of `status_on_error`.
    pub status: Option<StatusCode>,
    /// Its headers, in order.
    pub headers: Vec<HeaderChange>,
    /// Its body.
    pub body: Bytes,
    /// Dynamic metadata; [`MetadataValue::Null`] = none.
    pub dynamic_metadata: MetadataValue,
}

impl Denied {
    /// A response without headers and body.
    #[must_use]
    pub fn new(status: Option<StatusCode>) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), dynamic_metadata: MetadataValue::Null }
    }
}

/// One change of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderChange {
    /// The header. Of requests, the method, the path and the authority can be changed, too.
    pub key: HeaderKey,
    /// The value.
    pub value: HeaderValue,
    /// What is done if the header exists.
    pub action: ChangeAction,
}

/// What is done if a header exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeAction {
    /// As in configured changes of headers.
    Append(AppendAction),
    /// Add the value to its last line, after a comma; do nothing if the header is absent.
    Join,
}

impl HeaderChange {
    /// A change of a header.
    #[must_use]
    pub fn new(key: HeaderKey, value: HeaderValue, action: ChangeAction) -> Self {
        Self { key, value, action }
    }

    /// Replaces all lines of a header, or adds it.
    #[must_use]
    pub fn set(key: HeaderKey, value: HeaderValue) -> Self {
        Self::new(key, value, ChangeAction::Append(AppendAction::OverwriteIfExistsOrAdd))
    }

    /// Adds a line.
    #[must_use]
    pub fn add(key: HeaderKey, value: HeaderValue) -> Self {
        Self::new(key, value, ChangeAction::Append(AppendAction::AppendIfExistsOrAdd))
    }
}
