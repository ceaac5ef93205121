//! Requests that may switch the protocol of their connection: CONNECT, and those with `upgrade`.
//!
//! Such a connection serves no other request. hyper takes it over, because programs expect the upgraded stream as hyper's
//! [`OnUpgrade`](hyper::upgrade::OnUpgrade).

use http::Request;
use hyper::client::conn::{TrySendError, http1::Builder};
use hyper_util::rt::TokioIo;

use super::{ResetReason, form, http1::Http1Connection};
use crate::{Body, Call, TransportError};

/// Sends the request of `call`, waits for the response headers and puts the response into `call`.
pub(super) async fn exchange(connection: Box<Http1Connection>, call: &mut Call) -> Result<(), TransportError> {
    let Some(mut request) = call.take_request() else { return Err(TransportError::new(ResetReason::LocalReset)) };
    form::http1(&mut request);
    let Http1Connection { stream, lifetime, .. } = *connection;
    lifetime.set_in_use(true);
    let (mut sender, driver) =
        Builder::new().handshake(TokioIo::new(stream)).await.map_err(TransportError::from_hyper)?;
    // An upgraded connection has no response body that would poll the driver.
    tokio::spawn(async move {
        // The response or the upgraded stream gets the error.
        let _ = driver.with_upgrades().await;
    });
    let response = sender.try_send_request(request).await.map_err(|error| failed(error, call))?;
    call.respond(response.map(Body::from));
    Ok(())
}

/// The error of a request that failed. If no byte of the request was sent, the request is returned to `call`.
fn failed(mut error: TrySendError<Request<Body>>, call: &mut Call) -> TransportError {
    if let Some(request) = error.take_message() {
        call.restore(request);
    }
    TransportError::from_hyper(error.into_error())
}
