//! Limits on the time that a request may take.
//!
//! [`Limits`] watches the limits of one request in the pipeline. [`TimeoutLayer`] offers the same as a layer: a request
//! whose response has not begun in time is answered with 504 (flag UT); one whose response has begun is cut off. Time
//! counts from the end of the request, as in Envoy, so a slow upload does not use it up.

mod layer;
mod limits;
#[cfg(test)]
mod tests;
mod time_is_up;

pub use layer::TimeoutLayer;
pub(crate) use limits::{Expired, LimitedBody, Limits, TryLimits};
pub(crate) use time_is_up::TimeIsUp;

/// A response was cut off because the request took too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("upstream request timeout after the response began")]
pub(crate) struct ResponseCutOff;
