//! The endpoints of clusters: what is configured about each and what is known from using it.
//!
//! Clusters, load balancing and outlier detection build on it; [`cluster`](crate::cluster) re-exports what is public.

mod members;
mod monitor;
mod runtime;
mod state;

pub(crate) use members::Members;
pub(crate) use monitor::Monitor;
pub use monitor::{Detection, LocalOriginFailure, Outcome};
pub use runtime::{EndpointId, EndpointRuntime, EndpointStats};
pub use state::{ActiveRequest, Attachment, EndpointState, Health, Placement};
