//! Who a call is from.

use tonic::{Request, Status};

use super::incoming::Peer;
use crate::server::Caller;

/// Decides who a call is from: by the certificate of its connection.
#[derive(Debug, Default)]
pub(super) struct Authenticator {}

impl Authenticator {
    /// Who the call is from. One over TLS must prove an identity; what one in plain text says about itself is not looked at.
    ///
    /// # Errors
    ///
    /// If it proves none.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        match request.extensions().get() {
            None | Some(Peer::Plain) => Ok(Caller::Anonymous),
            Some(Peer::Tls { identities }) if !identities.is_empty() => Ok(Caller::Verified(identities.clone())),
            // The text is istiod's.
            Some(Peer::Tls { .. }) => Err(Status::unauthenticated("request authenticate failure")),
        }
    }
}
