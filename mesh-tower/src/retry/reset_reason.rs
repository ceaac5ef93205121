//! Conversion of a service's error to a reset reason.

use std::{error::Error, io};

use mesh_core::{causes::chain, retry::ResetReason};

use crate::{BoxError, TransportError};

/// Why there was no response, from the chain of an error's sources. An unknown error counts as a closed connection.
pub(crate) fn reset_reason(error: &BoxError) -> ResetReason {
    // The innermost error is the most specific: a client's error contains hyper's, which contains that of the system.
    chain(&**error).filter_map(reason_of).last().unwrap_or(ResetReason::ConnectionTermination)
}

fn reason_of(error: &(dyn Error + 'static)) -> Option<ResetReason> {
    if let Some(error) = error.downcast_ref::<TransportError>() {
        return Some(error.reason());
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return Some(TransportError::reason_of_h2(error));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return Some(TransportError::reason_of_hyper(error));
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => Some(ResetReason::ConnectionFailure),
        io::ErrorKind::TimedOut => Some(ResetReason::ConnectionTimeout),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("client")]
    struct Client(#[source] io::Error);

    #[test]
    fn the_innermost_known_error_determines_the_reason() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(reset_reason(&Client(refused).into()), ResetReason::ConnectionFailure);
        let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(reset_reason(&Client(ended).into()), ResetReason::ConnectionTermination);
        assert_eq!(reset_reason(&"anything".into()), ResetReason::ConnectionTermination);
        let reset = TransportError::new(ResetReason::RemoteReset);
        assert_eq!(reset_reason(&reset.into()), ResetReason::RemoteReset);
    }
}
