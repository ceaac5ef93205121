//! Making a connection for a pool.
//!
//! A connection is made in its own task, because the request that caused it may be cancelled before.

use std::sync::{Arc, Weak};

use mesh_core::resilience::breaker::Permit;

use super::{
    OwnedTarget, ResetReason,
    endpoint_pool::{EndpointPool, NewConnection},
    http1::Http1Connection,
    http2::Http2Connection,
    lifetime::Lifetime,
};
use crate::{Protocol, TransportError, connect};

/// The stream of a pooled connection.
pub(super) type PooledStream = connect::UpstreamStream<OpenConnection>;

/// Counts a connection in the circuit breaker and in its pool. It is dropped with the byte stream.
#[derive(Debug)]
pub(super) struct OpenConnection {
    permit: Option<Permit>,
    pool: Weak<EndpointPool>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        // The permit is released first. The pool may then use it for another connection.
        self.permit = None;
        if let Some(pool) = self.pool.upgrade() {
            pool.closed();
        }
    }
}

/// A connection that is being made for the waiting requests of a pool.
pub(super) struct Attempt {
    // Dropped before `open`: the waiting requests fail first. Otherwise the pool would make another connection for them
    // when it learns that this one no longer counts.
    report: Report,
    open: Option<OpenConnection>,
    target: OwnedTarget,
}

/// Reports the outcome of an attempt to the pool, even if its task is dropped because the runtime shuts down.
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
        Self {
            report: Report { pool: Arc::clone(pool), is_made: false },
            open: Some(OpenConnection { permit: Some(permit), pool: Arc::downgrade(pool) }),
            target,
        }
    }

    pub(super) fn spawn(mut self) {
        let runtime = self.target.runtime.clone();
        runtime.spawn(async move {
            let outcome = self.connect().await;
            self.report.make(outcome);
        });
    }

    async fn connect(&mut self) -> Result<NewConnection, TransportError> {
        let OwnedTarget { worker, cluster, .. } = &self.target;
        let (pool, config) = (&self.report.pool, cluster.config());
        let configured = pool.protocol();
        match configured {
            Protocol::Http1 => cluster.stats().upstream_cx_http1_total.inc(),
            Protocol::Http2 => cluster.stats().upstream_cx_http2_total.inc(),
            Protocol::Tcp => {}
        }
        let target = self.target.borrow();
        let stream =
            connect::open(worker.connector(), &target, Some(configured).filter(|protocol| *protocol != Protocol::Tcp))
                .await?;
        let protocol = match configured {
            Protocol::Tcp => Protocol::Tcp,
            configured => stream.negotiated_protocol().unwrap_or(configured),
        };
        let stream = stream.holding(self.open.take().expect("an attempt makes one connection"));
        let lifetime = Lifetime::new(pool, cluster, protocol, &stream);
        Ok(match protocol {
            Protocol::Http1 | Protocol::Tcp => NewConnection::Http1(Http1Connection::new(stream, lifetime)),
            Protocol::Http2 => {
                NewConnection::Http2(Http2Connection::handshake(stream, &worker.http2_options(config), lifetime).await?)
            }
        })
    }
}
