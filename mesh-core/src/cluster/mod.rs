//! The runtime side of a cluster: its endpoints, who gets the next request, and what is in flight.
//!
//! [`ClusterState`] is an immutable configuration around a runtime that configuration updates hand on: endpoint states
//! with their connections, ejections, circuit-breaker counts, statistics and the round-robin position. A request takes
//! one `ClusterState` and decides everything by its configuration, while newer requests may already see the next.
//!
//! The request path ([`ClusterState::pick`], [`ClusterState::record`], `try_*`) takes no lock and allocates nothing; the
//! one exception is a failure that ejects an endpoint. Updates, ejections and sweeps serialize on one lock per cluster
//! and publish a new immutable [`EndpointSet`].

mod endpoint_set;
mod state;

pub use endpoint_set::EndpointSet;
pub use state::ClusterState;

pub use crate::endpoint::{
    ActiveRequest, Attachment, EndpointId, EndpointRuntime, EndpointState, EndpointStats, Health, Placement,
};
pub use crate::telemetry::cluster_stats::{ClusterStats, RequestOrigin, StatKind};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
