//! Which endpoint gets the next request.
//!
//! A picker is built whenever a cluster's endpoints, their health or its configuration change, and is immutable: a
//! pick reads it from any number of threads without a lock and without allocating. Everything that depends on health is
//! decided when it is built (shares of the priorities, panic, locality weights), so that a pick costs at most one draw for
//! the priority, one for the locality and the policy itself:
//!
//! * `round_robin`: the next slot of a cyclic schedule; positions outlive the picker.
//! * `least_request`: the least loaded of a few.
//! * `random`: any endpoint.

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

pub use context::{Avoid, PickContext};
pub(crate) use picker::Picker;
pub(crate) use turns::Cursors;

/// No endpoint may get traffic: there is none, or none is healthy and the cluster does not panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no healthy upstream")]
pub struct NoHealthyEndpoint;
