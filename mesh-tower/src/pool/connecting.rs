//! Makes one connection, in a task of its own: the request that caused it may be gone before it is there.

use std::sync::Arc;

use super::{
    OwnedTarget, Protocol, ResetReason, Target, TransportError,
    endpoint_pool::{EndpointPool, NewConnection},
    http1::Http1Connection,
    http2::Http2Connection,
    lifetime::Lifetime,
};

pub(super) async fn connect(pool: Arc<EndpointPool>, target: OwnedTarget, lifetime: Lifetime) {
    let (protocol, target) = (pool.protocol(), target.get());
    let stats = target.stats();
    stats.upstream_cx_total.inc();
    target.endpoint.stats().cx_total.inc();
    match protocol {
        Protocol::Http1 => stats.upstream_cx_http1_total.inc(),
        Protocol::Http2 => stats.upstream_cx_http2_total.inc(),
    }
    let limit = target.cluster.config().connect_timeout;
    let mut lifetime = Some(lifetime);
    let outcome = tokio::time::timeout(limit, establish(&target, protocol, &mut lifetime)).await;
    let outcome = outcome.unwrap_or_else(|_| {
        stats.upstream_cx_connect_timeout.inc();
        Err(TransportError::new(ResetReason::ConnectionTimeout))
    });
    if outcome.is_err() {
        stats.upstream_cx_connect_fail.inc();
        target.endpoint.stats().cx_connect_fail.inc();
    }
    tell(&pool, &target, outcome.as_ref().err());
    pool.connected(outcome);
    // That of a connection that was not made gives its place back after those who waited for it are gone.
    drop(lifetime);
}

/// Says once that an endpoint cannot be reached, and once that it can be again.
fn tell(pool: &EndpointPool, target: &Target<'_>, failure: Option<&TransportError>) {
    let (cluster, address) = (&target.cluster.config().name, target.endpoint.address());
    match failure {
        Some(error) if pool.note_reachable(false) => {
            tracing::warn!("cluster {cluster}: cannot connect to {address}: {error}");
        }
        None if pool.note_reachable(true) => tracing::info!("cluster {cluster}: connected to {address} again"),
        Some(_) | None => {}
    }
}

/// Takes `lifetime` if a connection is made.
async fn establish(
    target: &Target<'_>,
    protocol: Protocol,
    lifetime: &mut Option<Lifetime>,
) -> Result<NewConnection, TransportError> {
    let config = target.cluster.config();
    let connecting = target.worker.connector().connect(target.endpoint.address(), config.tcp_keepalive);
    let connected = connecting.await.map_err(|error| TransportError::from_connect(&error));
    let io = connected.inspect_err(|_| lifetime.iter().for_each(Lifetime::not_connected))?;
    let mut lifetime = lifetime.take().expect("a connection is made once");
    let io = lifetime.connected(io);
    Ok(match protocol {
        Protocol::Http1 => NewConnection::Http1(Http1Connection::handshake(io, lifetime).await?),
        Protocol::Http2 => {
            NewConnection::Http2(Http2Connection::handshake(io, &config.http_protocol_options, lifetime).await?)
        }
    })
}
