//! Connections to endpoints, kept and shared.
//!
//! Every endpoint has a pool per worker and protocol, which hangs on its `EndpointState` and so lives exactly as long. A
//! worker is one single-threaded runtime of the proxy, with pools and timers of its own, so that no connection is handed to
//! another core; a library has one worker for its whole runtime.
//!
//! A request goes through two steps, so that the circuit breaker can look in between: [`Target::connection`] waits for a
//! connection with room, [`Connection::send`] uses it.

mod connecting;
mod endpoint_pool;
mod error;
mod form;
mod http1;
mod http2;
mod http2_body;
mod io;
mod lifetime;
mod worker;

use std::{future::Future, sync::Arc};

use http::{Request, Response, Version};
use mesh_core::cluster::{ClusterState, ClusterStats, EndpointState};
use mesh_core::model::{HttpProtocol, RoutingPriority};
use mesh_core::resilience::{breaker::Permit, retry::ResetReason};
use tokio::runtime::Handle;

use error::SendError;
pub use error::TransportError;
pub(crate) use http1::Http1Body;
pub(crate) use http2_body::Http2Body;
pub use worker::Worker;

use crate::{Body, Call, Transport};

/// The protocol of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// The version that its requests have.
    pub(crate) fn version(self) -> Version {
        match self {
            Self::Http1 => Version::HTTP_11,
            Self::Http2 => Version::HTTP_2,
        }
    }

    /// What a cluster speaks to its endpoints for a request that came as `version`.
    pub(crate) fn choose(configured: HttpProtocol, version: Version) -> Self {
        match configured {
            HttpProtocol::Http1 => Self::Http1,
            HttpProtocol::Http2 => Self::Http2,
            HttpProtocol::UseDownstream if version == Version::HTTP_2 => Self::Http2,
            HttpProtocol::UseDownstream => Self::Http1,
        }
    }
}

/// The connection pools, as a [`Transport`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Pool;

impl Transport for Pool {
    type Connection = Connection;

    fn connection(
        &self,
        target: &Target<'_>,
        protocol: Protocol,
    ) -> impl Future<Output = Result<Connection, TransportError>> + Send {
        target.connection(protocol)
    }

    async fn send(&self, connection: Connection, call: &mut Call) -> Result<(), TransportError> {
        let Some((parts, body)) = call.request.take() else {
            return Err(TransportError::new(ResetReason::LocalReset));
        };
        match connection.send(Request::from_parts(parts, body)).await {
            Ok(response) => {
                call.response = Some(response);
                Ok(())
            }
            Err(SendError { error, unsent }) => {
                call.request = unsent.map(|request| request.into_parts());
                Err(error)
            }
        }
    }
}

/// Where one try of a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Whose connections are used.
    pub worker: &'a Worker,
    /// The cluster.
    pub cluster: &'a Arc<ClusterState>,
    /// The endpoint picked.
    pub endpoint: &'a Arc<EndpointState>,
    /// Which thresholds of the circuit breaker apply.
    pub priority: RoutingPriority,
}

/// A [`Target`] that outlives its request, for a connection that is made for it.
#[derive(Clone, Debug)]
struct OwnedTarget {
    /// The request's runtime, which makes the connection: what causes it to be made may happen on any thread.
    runtime: Handle,
    worker: Worker,
    cluster: Arc<ClusterState>,
    endpoint: Arc<EndpointState>,
    priority: RoutingPriority,
}

impl OwnedTarget {
    fn get(&self) -> Target<'_> {
        let Self { worker, cluster, endpoint, priority, .. } = self;
        Target { worker, cluster, endpoint, priority: *priority }
    }
}

impl<'a> Target<'a> {
    fn owned(self) -> OwnedTarget {
        OwnedTarget {
            runtime: Handle::current(),
            worker: self.worker.clone(),
            cluster: Arc::clone(self.cluster),
            endpoint: Arc::clone(self.endpoint),
            priority: self.priority,
        }
    }

    /// A connection with room for one request.
    pub(crate) async fn connection(&self, protocol: Protocol) -> Result<Connection, TransportError> {
        self.worker.pool(self.endpoint, protocol).connection(self).await
    }

    fn stats(&self) -> &'a Arc<ClusterStats> {
        self.cluster.stats()
    }

    fn max_concurrent_streams(&self) -> usize {
        let limit = self.cluster.config().http_protocol_options.max_concurrent_streams;
        usize::try_from(limit).unwrap_or(usize::MAX).max(1)
    }

    fn try_pending(&self) -> Result<Permit, TransportError> {
        let permit = self.cluster.try_pending(self.priority).map_err(|_| TransportError::new(ResetReason::Overflow))?;
        self.stats().upstream_rq_pending_total.inc();
        Ok(permit)
    }
}

/// A connection, or a stream on one, for exactly one request. Dropped unused, it goes back to its pool.
#[derive(Debug)]
pub struct Connection(Option<Kind>);

#[derive(Debug)]
enum Kind {
    Http1(Box<http1::Http1Connection>),
    Http2(http2::Http2Stream),
}

impl Connection {
    /// Sends `request` in the form of this protocol and waits for the response headers.
    async fn send(mut self, request: Request<Body>) -> Result<Response<Body>, SendError> {
        match self.0.take() {
            Some(Kind::Http1(connection)) => connection.exchange(form::http1(request)).await,
            Some(Kind::Http2(stream)) => Ok(stream.exchange(form::http2(request)?).await?),
            None => Err(TransportError::new(ResetReason::ConnectionTermination).into()),
        }
    }

    fn into_http1(mut self) -> Option<Box<http1::Http1Connection>> {
        match self.0.take() {
            Some(Kind::Http1(connection)) => Some(connection),
            Some(Kind::Http2(_)) | None => None,
        }
    }
}

impl From<Box<http1::Http1Connection>> for Connection {
    fn from(connection: Box<http1::Http1Connection>) -> Self {
        Self(Some(Kind::Http1(connection)))
    }
}

impl From<http2::Http2Stream> for Connection {
    fn from(stream: http2::Http2Stream) -> Self {
        Self(Some(Kind::Http2(stream)))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(Kind::Http1(connection)) = self.0.take() {
            connection.release();
        }
    }
}

#[cfg(test)]
mod tests;
