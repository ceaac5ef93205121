//! Trying again.
//!
//! [`RetryLayer`] repeats requests under a [`RetryPolicy`](mesh_core::model::RetryPolicy) and within a budget. Bodies
//! are streamed: what of one may have to be sent again is kept, up to a bound, and a request whose body exceeds it is no
//! longer retried. Answers that other layers of this crate give in place of an endpoint (an overflow, no route, no healthy
//! endpoint) are never retried, since another try would find the same; the 504 of a
//! [`TimeoutLayer`](crate::timeout::TimeoutLayer) further in counts as a reset.

mod layer;
mod replay;
mod reset_reason;
mod service;
#[cfg(test)]
mod tests;
mod tried;
mod tries;

pub use layer::RetryLayer;
pub(crate) use replay::{Replay, ReplayBody};
pub(crate) use reset_reason::reset_reason;
pub use service::{ResponseFuture, Retry};
pub(crate) use tried::TriedEndpoints;
