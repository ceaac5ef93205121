//! Timeouts of requests.
//!
//! `Limits` has the timeouts of a request in the pipeline. [`TimeoutLayer`] is the stand-alone layer: if a response has
//! not begun in time, the request is answered with 504 (flag UT); if it has begun, its body fails. The timeout starts at
//! the end of the request, as in Envoy, so a slow upload does not count.

mod layer;
mod limits;
#[cfg(test)]
mod tests;
mod time_is_up;

pub use layer::TimeoutLayer;
pub(crate) use limits::{Expired, LimitedBody, Limits, TryLimits};
pub(crate) use time_is_up::TimeIsUp;
