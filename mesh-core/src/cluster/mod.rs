//! Clusters at runtime: endpoints, picking, circuit breakers and outlier detection.
//!
//! A [`ClusterState`] is an immutable configuration and a runtime that configuration updates pass on: endpoint states with
//! their connections, ejections, circuit-breaker counts, statistics and the round-robin position. A request uses one
//! `ClusterState`, while newer requests may already use the next.
//!
//! The request path ([`ClusterState::pick`], [`ClusterState::record`], `try_*`) takes no lock and does not allocate, except
//! if a failure ejects an endpoint, or a connection to a new original destination adds one. Updates, ejections and sweeps take one lock per cluster and publish a new immutable
//! [`EndpointSet`].

mod aggregate;
mod endpoint_set;
mod original_dst;
mod state;

pub use endpoint_set::EndpointSet;
pub use original_dst::MAX_ORIGINAL_DESTINATIONS;
pub use state::{ClusterState, Dropped};

pub use crate::endpoint::{
    ActiveRequest, Attachment, EndpointId, EndpointRuntime, EndpointState, EndpointStats, Health, Placement,
};
pub use crate::telemetry::cluster_stats::{ClusterStats, ExtAuthzStats, RequestOrigin, StatKind};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
