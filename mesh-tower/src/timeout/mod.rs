//! Timeouts as a layer.
//!
//! A request whose response has not begun in time is answered with 504 (flag UT); one whose response has begun is cut off.
//! The timer is armed only once the wait really begins: most requests never arm it.
//!
//! Time counts from the call. In the assembled stack it counts from the end of the request; a layer that leaves the type
//! of request bodies alone cannot see that, so here a slow upload uses up time.

mod body;
mod layer;
mod service;
#[cfg(test)]
mod tests;

pub use body::TimeoutBody;
pub use layer::TimeoutLayer;
pub use service::{ResponseFuture, Timeout};

/// A response was cut off because the request took too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("upstream request timeout after the response began")]
pub(crate) struct ResponseCutOff;
