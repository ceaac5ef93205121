//! Faults injected on purpose: requests that are held, or failed, to see how callers take it.
//!
//! Which requests are hit is decided by [`mesh_core::filter::fault`]; here they wait and are answered. [`FaultLayer`] does
//! so for any service. If [`RouteLayer`](crate::route::RouteLayer) has chosen a route, what its cluster, itself or its
//! virtual host says about faults replaces what the layer says.

mod active;
mod filter;
mod layer;
mod service;
#[cfg(test)]
mod tests;

pub(crate) use active::ActiveFaults;
pub(crate) use filter::filter;
pub use layer::FaultLayer;
pub use service::{FaultInjection, ResponseFuture};
