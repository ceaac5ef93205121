//! tower layers, pools and servers that carry out what `mesh-core` decides.

mod body;
pub mod drain;
pub mod server;
mod stream_info;
pub mod telemetry;

pub use body::{Body, BoxError};
pub use stream_info::{StreamInfo, StreamState, UpstreamTiming};
