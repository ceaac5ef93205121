//! tower layers, pools and servers that carry out what `mesh-core` decides.

mod body;
pub mod drain;
mod http_connection_manager;
pub mod server;
mod stream_info;
pub mod telemetry;
mod upgrade;

pub use body::{Body, BoxError};
pub use http_connection_manager::{ConnectionManager, ListenerConfigError, ResponseBody};
pub use stream_info::{StreamInfo, StreamState, UpstreamTiming};
