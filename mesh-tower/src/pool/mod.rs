//! Connection pools.
//!
//! An endpoint has one pool for each worker, runtime and kind of connection. The pools are attached to its `EndpointState`.
//! They are dropped with it or when their runtime shuts down. In the proxy a worker is one single-threaded runtime, and
//! connections never move to another thread. A library has one worker for all of its runtimes.
//!
//! The rest of the crate uses the pools as a [`Transport`], which is [`Pool`].

mod connecting;
mod endpoint_pool;
mod endpoint_pools;
mod form;
mod http1;
mod http1_upgrade;
mod http2;
mod http2_body;
mod http2_upload;
mod lifetime;
mod tunnel;
mod worker;

use std::{future::Future, sync::Arc};

use mesh_core::cluster::{ClusterState, ClusterStats, EndpointState};
use mesh_core::model::RoutingPriority;
use mesh_core::retry::ResetReason;
use tokio::runtime::Handle;

pub use worker::Worker;

use crate::{Call, ConnectionInfo, Protocol, Target, Transport, TransportError, call::Tunnelling};

/// The connection pools of a worker, as a [`Transport`].
#[derive(Clone, Debug)]
pub struct Pool {
    worker: Worker,
}

impl Pool {
    /// The pools of `worker`.
    #[must_use]
    pub fn new(worker: Worker) -> Self {
        Self { worker }
    }
}

impl Transport for Pool {
    type Connection = Connection;

    fn connection(
        &self,
        target: &Target<'_>,
        protocol: Protocol,
    ) -> impl Future<Output = Result<Connection, TransportError>> + Send {
        self.worker.connection(target, protocol)
    }

    fn info(connection: &Connection) -> ConnectionInfo<'_> {
        match &connection.0 {
            Some(Kind::Http1(connection)) => connection.info(),
            Some(Kind::Http2(stream)) => stream.info(),
            None => ConnectionInfo::default(),
        }
    }

    async fn send(&self, connection: Connection, call: &mut Call) -> Result<(), TransportError> {
        connection.send(call).await
    }
}

/// A [`Target`] that outlives its request.
#[derive(Clone, Debug)]
struct OwnedTarget {
    /// The runtime of the request. Connections are made there, because the event that causes one to be made may happen on
    /// any thread.
    runtime: Handle,
    worker: Worker,
    cluster: Arc<ClusterState>,
    endpoint: Arc<EndpointState>,
    priority: RoutingPriority,
    server_name: Option<Arc<str>>,
}

impl OwnedTarget {
    fn new(worker: &Worker, target: &Target<'_>) -> Self {
        Self {
            runtime: Handle::current(),
            worker: worker.clone(),
            cluster: Arc::clone(target.cluster),
            endpoint: Arc::clone(target.endpoint),
            priority: target.priority,
            server_name: target.server_name.cloned(),
        }
    }

    fn borrow(&self) -> Target<'_> {
        let Self { cluster, endpoint, priority, server_name, .. } = self;
        Target { cluster, endpoint, priority: *priority, server_name: server_name.as_ref() }
    }

    fn stats(&self) -> &Arc<ClusterStats> {
        self.cluster.stats()
    }

    fn max_concurrent_streams(&self) -> usize {
        let limit = self.cluster.config().http_protocol_options.max_concurrent_streams;
        usize::try_from(limit).unwrap_or(usize::MAX).max(1)
    }
}

/// A connection, or a stream of one, for exactly one request. It returns to its pool if it is dropped unused.
#[derive(Debug)]
pub struct Connection(Option<Kind>);

#[derive(Debug)]
enum Kind {
    Http1(Box<http1::Http1Connection>),
    Http2(http2::Http2Stream),
}

impl Connection {
    /// Sends the request of `call`, waits for the response headers and puts the response into `call`.
    async fn send(mut self, call: &mut Call) -> Result<(), TransportError> {
        match self.0.take() {
            Some(Kind::Http1(connection)) => connection.exchange(call).await,
            Some(Kind::Http2(stream)) => {
                let sender = stream.sender()?;
                // The endpoint may refuse the stream.
                call.keep_head();
                let Some(mut request) = call.take_request() else {
                    return Err(TransportError::new(ResetReason::LocalReset));
                };
                form::http2(&mut request)?;
                let protocol =
                    if call.tunnelling == Tunnelling::Requested { form::extended_connect(&mut request) } else { None };
                stream.exchange(sender, request, call).await?;
                if let (Some(protocol), Some(response)) = (protocol, &mut call.response) {
                    form::switching_protocols(response, protocol);
                }
                Ok(())
            }
            None => Err(TransportError::new(ResetReason::ConnectionTermination)),
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
mod http1_tests;
#[cfg(test)]
mod tests;
