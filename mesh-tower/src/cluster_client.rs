//! Requests of this process's own to clusters: HTTP filters ask other services, such as one that authorizes requests.
//!
//! A filter gets a [`ClusterClient`] for each cluster that its configuration names, when the listener is configured. Its
//! requests pass the upstream stack (`upstream/`) like those of clients: connection pool, circuit breaker, outlier
//! detection, statistics, timeout and retries. As there, a failure is a response: the local reply that Envoy gives in that
//! case, such as 503 if the cluster does not exist or has no endpoint, and 504 after the timeout.
//!
//! The interface is here, below the filters; `upstream/client.rs` implements it. Envoy `Http::AsyncClient`.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, response};
use http_body_util::BodyExt as _;
use mesh_core::{
    local_reply::LocalReply,
    model::{ClusterName, RetryPolicy},
};
use thiserror::Error;

use crate::call::{Body, BoxError, Call, local_reply};

/// Makes clients for clusters.
pub(crate) trait ClusterClients: fmt::Debug + Send + Sync {
    /// A client for `cluster`, which need not exist yet. It holds the slot of the cluster.
    fn client(&self, cluster: &ClusterName, options: &ClientOptions) -> Arc<dyn ClusterClient>;
}

/// How a client sends its requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientOptions {
    /// Time from the request to the end of the response, retries included; zero = unlimited, the default.
    pub(crate) timeout: Duration,
    /// Default none.
    pub(crate) retry_policy: Option<Arc<RetryPolicy>>,
    /// Send the address of this machine in `x-forwarded-for`. Default true. Envoy `RequestOptions::send_xff`.
    pub(crate) send_xff: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { timeout: Duration::ZERO, retry_policy: None, send_xff: true }
    }
}

/// Sends requests to one cluster.
pub(crate) trait ClusterClient: fmt::Debug + Send + Sync {
    /// Sends a request, whose path and authority must be set, and waits for the head of the response. Local replies have their
    /// flags in their extensions.
    ///
    /// # Cancel safety
    /// Dropping the future, or the body of the response, cancels the request.
    fn send(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>>;
}

impl dyn ClusterClient {
    /// Sends a request and reads the whole response, whose body may have `max_body` bytes.
    ///
    /// # Errors
    /// If the body is larger, or ends before it is complete, for example because of the timeout.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request.
    pub(crate) async fn fetch(&self, request: Request<Bytes>, max_body: usize) -> Result<Fetched, FetchError> {
        let (head, mut rest) = self.send(request).await.into_parts();
        let mut body = BytesMut::new();
        let mut trailers = None;
        while let Some(frame) = rest.frame().await {
            let frame = frame.map_err(FetchError::Broken)?;
            match frame.into_data() {
                Ok(data) if body.len() + data.len() > max_body => return Err(FetchError::TooLarge { max_body }),
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Ok(Fetched { head, body: body.freeze(), trailers })
    }
}

/// The client for a cluster that does not exist.
#[derive(Debug)]
pub(crate) struct NoCluster;

impl ClusterClient for NoCluster {
    fn send(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        let reply = LocalReply::cluster_not_found(StatusCode::SERVICE_UNAVAILABLE);
        let is_grpc = Call::new(request.map(Body::from)).is_grpc();
        Box::pin(async move { local_reply(reply, is_grpc) })
    }
}

/// A response that has been read to its end.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) head: response::Parts,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// A response that could not be read to its end.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("the response body is larger than {max_body} bytes")]
    TooLarge { max_body: usize },
    #[error("the response is incomplete")]
    Broken(#[source] BoxError),
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::testing::HalfBody;

    /// Answers each request with a body that is made from it.
    #[derive(Debug)]
    struct Answer(fn() -> Body);

    impl ClusterClient for Answer {
        fn send(&self, _: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
            Box::pin(async { Response::new((self.0)()) })
        }
    }

    async fn fetch(body: fn() -> Body, max_body: usize) -> Result<Fetched, FetchError> {
        let client: Arc<dyn ClusterClient> = Arc::new(Answer(body));
        client.fetch(Request::new(Bytes::new()), max_body).await
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_a_bound_and_to_its_end() {
        assert_eq!(fetch(|| Body::from("four"), 4).await.unwrap().body, "four");
        let error = fetch(|| Body::from("four!"), 4).await.unwrap_err();
        assert_eq!(error.to_string(), "the response body is larger than 4 bytes");
        let error = fetch(|| Body::new(HalfBody::default()), 100).await.unwrap_err();
        assert_eq!(error.source().unwrap().to_string(), "connection lost");
    }
}
