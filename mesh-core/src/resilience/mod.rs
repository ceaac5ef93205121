//! Limits for upstreams that are slow, fail or are overloaded.
//!
//! * [`breaker`]: circuit breakers; [`retry_budget`]: their limit on retries relative to active requests.
//! * [`timeout`]: timeouts of requests, tries and streams.
//! * [`overrides`]: `x-envoy-*` request headers by which trusted clients override retries and timeouts.

pub mod breaker;
pub mod overrides;
pub mod retry_budget;
pub mod timeout;
