//! Makes one connection, in a task of its own: the request that caused it may be given up before it is made.

use std::sync::Arc;

use mesh_core::resilience::breaker::Permit;

use super::{
    OwnedTarget, ResetReason,
    endpoint_pool::{EndpointPool, NewConnection},
    http1::Http1Connection,
    http2::Http2Connection,
    io::OpenConnection,
    lifetime::Lifetime,
};
use crate::{Protocol, TransportError};

/// A connection that is to be made for the requests that wait at a pool.
pub(super) struct Attempt {
    // Fields are dropped in this order: the requests that waited for a connection that could not be made have left the
    // queue when the pool hears that there is room for another.
    report: Report,
    connection: Option<(Lifetime, OpenConnection)>,
    target: OwnedTarget,
}

/// Tells the pool what became of the attempt, also if its task is dropped with the runtime.
struct Report {
    pool: Arc<EndpointPool>,
    is_made: bool,
}

impl Report {
    fn make(&mut self, outcome: Result<NewConnection, TransportError>) {
        self.is_made = true;
        self.pool.connected(outcome);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.is_made {
            self.make(Err(TransportError::new(ResetReason::ConnectionTermination)));
        }
    }
}

impl Attempt {
    pub(super) fn new(pool: &Arc<EndpointPool>, target: OwnedTarget, permit: Permit) -> Self {
        let lifetime = Lifetime::new(pool, &target);
        Self {
            report: Report { pool: Arc::clone(pool), is_made: false },
            connection: Some((lifetime, OpenConnection::new(permit, pool))),
            target,
        }
    }

    pub(super) fn spawn(self) {
        let runtime = self.target.runtime.clone();
        runtime.spawn(self.run());
    }

    async fn run(mut self) {
        let target = &self.target;
        let stats = target.stats();
        stats.upstream_cx_total.inc();
        target.endpoint.stats().cx_total.inc();
        let protocol = self.report.pool.protocol();
        match protocol {
            Protocol::Http1 => stats.upstream_cx_http1_total.inc(),
            Protocol::Http2 => stats.upstream_cx_http2_total.inc(),
        }
        let limit = target.cluster.config().connect_timeout;
        let outcome = tokio::time::timeout(limit, establish(target, protocol, &mut self.connection)).await;
        let outcome = outcome.unwrap_or_else(|_| {
            stats.upstream_cx_connect_timeout.inc();
            Err(TransportError::new(ResetReason::ConnectionTimeout))
        });
        if outcome.is_err() {
            stats.upstream_cx_connect_fail.inc();
            target.endpoint.stats().cx_connect_fail.inc();
        }
        tell(&self.report.pool, target, outcome.as_ref().err());
        self.report.make(outcome);
    }
}

/// Says once that an endpoint cannot be reached, and once that it can be again.
fn tell(pool: &EndpointPool, target: &OwnedTarget, failure: Option<&TransportError>) {
    let (cluster, address) = (&target.cluster.config().name, target.endpoint.address());
    match failure {
        Some(error) if pool.note_reachable(false) => {
            tracing::warn!("cluster {cluster}: cannot connect to {address}: {error}");
        }
        None if pool.note_reachable(true) => tracing::info!("cluster {cluster}: connected to {address} again"),
        Some(_) | None => {}
    }
}

/// Takes `connection` if one is made.
async fn establish(
    target: &OwnedTarget,
    protocol: Protocol,
    connection: &mut Option<(Lifetime, OpenConnection)>,
) -> Result<NewConnection, TransportError> {
    let config = target.cluster.config();
    let connecting = target.worker.connector().connect(target.endpoint.address(), config.tcp_keepalive);
    let connected = connecting.await.map_err(|error| TransportError::from_connect(&error));
    let io = connected.inspect_err(|_| connection.iter().for_each(|(lifetime, _)| lifetime.not_connected()))?;
    let (mut lifetime, open) = connection.take().expect("a connection is made once");
    let io = lifetime.connected(io, open);
    Ok(match protocol {
        Protocol::Http1 => NewConnection::Http1(Http1Connection::handshake(io, lifetime).await?),
        Protocol::Http2 => {
            NewConnection::Http2(Http2Connection::handshake(io, &config.http_protocol_options, lifetime).await?)
        }
    })
}
