//! Circuit breaking as a layer: no more than `max_requests` at once.
//!
//! A request above the limit is answered at once, with 503, `x-envoy-overloaded` and flag UO; it does not wait. A request
//! counts until its response *body* has ended, since the endpoint is busy until then.
//!
//! Limits on connections and on requests that wait for one are the business of connection pools.

mod layer;
#[cfg(test)]
mod tests;

pub use layer::CircuitBreakerLayer;
