//! What happens when an upstream is slow, fails, or has too much to do.
//!
//! * [`breaker`]: how much may be in flight at once; [`retry_budget`]: retries as a share of it.
//! * [`timeout`]: how long a request, a try and a stream may take.
//! * [`overrides`]: what a trusted caller may ask for in `x-envoy-*` request headers.

pub mod breaker;
pub mod overrides;
pub mod retry_budget;
pub mod timeout;

pub use crate::retry;
