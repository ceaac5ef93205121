//! Calls to another service through the mesh, with a JSON response.

use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use mesh::Channel;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tower::ServiceExt as _;

/// Headers that a service forwards from the request it serves to the requests it makes, so that a trace and a session
/// span all services.
const PROPAGATED: [&str; 4] = ["x-request-id", "traceparent", "tracestate", "end-user"];

/// Maximum size of a response in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A call has failed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("no answer")]
    Call(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is not what was expected")]
    Json(#[from] serde_json::Error),
}

/// Sends `GET path` to the service behind `channel`, while serving a request with `headers`.
pub(crate) async fn json<T: DeserializeOwned>(channel: &Channel, path: &str, headers: &HeaderMap) -> Result<T, Error> {
    let mut request = Request::get(path).body(Empty::<bytes::Bytes>::new()).expect("paths here are valid");
    for name in PROPAGATED {
        if let Some(value) = headers.get(name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let response = channel.clone().oneshot(request).await.map_err(|error| Error::Call(error.into()))?;
    if !response.status().is_success() {
        return Err(Error::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.map_err(Error::Body)?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}
