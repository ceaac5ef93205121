//! Load balancing as a layer: which endpoint a request goes to.
//!
//! [`BalanceLayer`] picks an endpoint of a cluster by its policy, priorities, localities and health, leaves it beside the
//! request as [`SelectedEndpoint`], and counts the request as active there until its response body has ended, which
//! is what least request compares. The service inside brings the request to the endpoint: either one that reads
//! [`SelectedEndpoint`], or [`PerEndpoint`], which keeps a service for each.

mod layer;
mod per_endpoint;
#[cfg(test)]
mod tests;

pub use layer::{BalanceLayer, SelectedEndpoint};
pub use per_endpoint::PerEndpoint;
