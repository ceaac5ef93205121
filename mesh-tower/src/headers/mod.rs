//! Configured changes of headers as a layer.
//!
//! [`HeadersLayer`] writes and removes headers of requests and responses; values may contain Envoy's `%COMMAND%`
//! substitutions. If [`RouteLayer`](crate::route::RouteLayer) has chosen a route, the changes of the weighted cluster, of
//! the route, of its virtual host and of its route configuration apply first, in Envoy's order.

mod layer;
mod mutate;
#[cfg(test)]
mod tests;

pub use layer::HeadersLayer;
pub(crate) use mutate::{apply_to_request, change_request};
