//! Routing.
//!
//! The pipeline routes a request once and passes the result by reference. [`RouteLayer`] is the stand-alone layer, which
//! inserts the result into the request's extensions as [`RouteMatched`]. Inner layers read their parameters from there:
//! timeout, retry policy, filter configuration, header changes, the cluster. Redirects, direct responses and 404 for no
//! route are responses of this layer.
//!
//! One stack of layers serves all clusters. If clusters have different services, [`PerCluster`] selects the service.
//!
//! The layer does not rewrite the path and the authority; that is done by an [`Upstream`](crate::Upstream).

mod direct_response;
mod find;
mod layer;
mod matched;
mod per_cluster;
mod provider;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mesh_core::{route::RouteEntry, store::ClusterSlot};

pub(crate) use direct_response::{change_response, respond, with_head};
pub(crate) use find::{Matched, Router, Routing};
pub use layer::RouteLayer;
pub use matched::RouteMatched;
pub use per_cluster::PerCluster;
pub(crate) use per_cluster::not_found_status;
pub(crate) use provider::RouteConfigProvider;

/// A route of the store.
pub(crate) type Route = RouteEntry<Arc<ClusterSlot>>;
