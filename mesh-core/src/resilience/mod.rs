//! Limits for upstreams that are slow, fail or are overloaded.
//!
//! * [`breaker`]: circuit breakers; [`retry_budget`]: their limit on retries relative to active requests.
//! * [`connection_back_off()`]: the pause between attempts to connect, as in gRPC.
//! * [`timeout`]: timeouts of requests, tries and streams.
//! * [`overrides`]: `x-envoy-*` request headers by which trusted clients override retries and timeouts.

pub mod breaker;
mod connection_back_off;
pub mod overrides;
pub mod retry_budget;
pub mod timeout;

pub use connection_back_off::connection_back_off;
