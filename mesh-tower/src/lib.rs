//! tower layers, pools and servers that carry out what `mesh-core` decides.

mod body;
mod stream_info;

pub use body::{Body, BoxError};
pub use stream_info::{StreamInfo, StreamState, UpstreamTiming};
