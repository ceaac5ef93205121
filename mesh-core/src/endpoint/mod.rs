//! Endpoints of clusters: configuration and runtime state.
//!
//! Clusters, load balancing and outlier detection use this module. [`cluster`](crate::cluster) re-exports its public items.

mod members;
mod monitor;
mod runtime;
mod state;

pub(crate) use members::Members;
pub(crate) use monitor::Monitor;
pub use monitor::{Detection, LocalOriginFailure, Outcome};
pub use runtime::{EndpointId, EndpointRuntime, EndpointStats};
pub use state::{ActiveRequest, Attachment, EndpointState, Health, Placement};
