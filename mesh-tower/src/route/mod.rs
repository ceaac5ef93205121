//! Which route a request takes, and which cluster.
//!
//! The pipeline finds the route of a request once and hands it on by reference. [`RouteLayer`] does the same as a layer, and
//! leaves the result in the request's extensions, as [`RouteMatched`]. Layers further in read their parameters from there:
//! timeout, retry policy, faults, changes of headers, the cluster. Routes that need no cluster respond here: redirects,
//! direct responses, and 404 where no route matches.
//!
//! One stack of layers serves all clusters; where clusters have services of their own, [`PerCluster`] chooses among them.
//!
//! Deliberately absent from the layer: rewrites of path and authority. They belong to how a request is written
//! upstream, which an [`Upstream`](crate::Upstream) does.

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

pub(crate) use direct_response::{respond, with_head};
pub(crate) use find::{Matched, Router, Routing};
pub use layer::RouteLayer;
pub use matched::RouteMatched;
pub use per_cluster::PerCluster;
pub(crate) use per_cluster::not_found_status;
pub(crate) use provider::RouteConfigProvider;

/// A route of the store.
pub(crate) type Route = RouteEntry<Arc<ClusterSlot>>;
