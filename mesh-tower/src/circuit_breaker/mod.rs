//! Circuit breaking as a layer: no more than `max_requests` at once.
//!
//! A request that finds the limit reached is answered at once, with 503, `x-envoy-overloaded` and flag UO; it does not
//! wait. A place is taken until the response *body* has ended, since an endpoint is busy until then.
//!
//! Limits on connections and on requests that wait for one are the business of connection pools.

mod layer;
mod service;
#[cfg(test)]
mod tests;

pub use layer::CircuitBreakerLayer;
pub(crate) use layer::cluster_with;
pub use service::CircuitBreaker;
