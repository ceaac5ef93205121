//! Load balancing: picking the endpoint of a request.
//!
//! A picker is built whenever a cluster's endpoints, their health or its configuration change. It is immutable, so any
//! number of threads can pick without locks and allocations. Everything that depends on health is computed when the picker
//! is built: shares of the priorities, panic, locality weights. A pick then selects a priority, a locality and, by the
//! policy, an endpoint:
//!
//! * `round_robin`: the next slot of a cyclic schedule. The position outlives the picker.
//! * `least_request`: the endpoint with the fewest active requests among a few.
//! * `random`: a random endpoint.

mod build;
mod candidate;
mod context;
mod least_request;
mod picker;
mod policy;
mod priority;
mod random;
mod round_robin;
mod schedule;
mod turns;

use thiserror::Error;

pub(crate) use build::Availability;
pub use context::{Avoid, PickContext};
pub(crate) use picker::Picker;
pub(crate) use turns::Cursors;

/// There is no endpoint to pick: the cluster has none, or none is healthy and panic is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no healthy upstream")]
pub struct NoHealthyEndpoint;
