//! Load balancing as a layer.
//!
//! [`BalanceLayer`] picks an endpoint of a cluster by its policy, priorities, localities and health, and inserts it into
//! the extensions of the request as [`SelectedEndpoint`]. The request counts as active at the endpoint until its response
//! body has ended. The inner service sends the request to the endpoint: it either reads [`SelectedEndpoint`], or is
//! [`PerEndpoint`], which has a service for each endpoint.

mod layer;
mod per_endpoint;
#[cfg(test)]
mod tests;

pub use layer::{BalanceLayer, SelectedEndpoint};
pub use per_endpoint::PerEndpoint;
