//! Which route a request takes, and which cluster.
//!
//! [`RouteLayer`] looks a request up in a route configuration and leaves the result beside it, as [`RouteMatched`]. Layers
//! further in read their parameters from there: timeout, retry policy, faults, changes of headers, the cluster. What
//! needs no cluster is answered here: redirects, fixed responses, and 404 where no route matches.
//!
//! One stack of layers serves all clusters; where clusters have services of their own, [`PerCluster`] chooses among them.
//!
//! Deliberately absent from the layer: rewrites of path and authority. They belong to how a request is written
//! upstream, which is the business of an [`Upstream`](crate::Upstream).

mod direct;
mod find;
mod layer;
mod matched;
mod per_cluster;
mod provider;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mesh_core::{
    route::{RouteEntry, RouteHandle, RouteRef},
    store::ClusterSlot,
};

pub(crate) use find::{direct_answer, find, reply};
pub use layer::RouteLayer;
pub use matched::RouteMatched;
pub use per_cluster::PerCluster;
pub(crate) use per_cluster::not_found_status;
pub(crate) use provider::RouteConfigProvider;
pub use service::Router;

/// A route of the store.
pub(crate) type Route = RouteEntry<Arc<ClusterSlot>>;
/// One as it was found.
pub(crate) type FoundRoute<'t> = RouteRef<'t, Arc<ClusterSlot>>;
/// A handle on one.
pub(crate) type HeldRoute = RouteHandle<Arc<ClusterSlot>>;
