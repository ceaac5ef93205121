//! tower layers, pools and servers that carry out what `mesh-core` decides.

mod body;
mod connect;
pub mod dns;
pub mod drain;
mod header_number;
mod http_connection_manager;
mod outlier;
mod pool;
mod retry;
mod rng;
pub mod server;
mod stream_info;
pub mod telemetry;
mod timer;
mod upgrade;
mod upstream;

pub use body::{Body, BoxError};
pub use connect::{AsyncReadWrite, Connect, Connecting, Io, TcpConnector};
pub use http_connection_manager::{ConnectionManager, ListenerConfigError, ResponseBody};
pub use pool::{Connection, Pool, Protocol, SendError, Target, TransportError, Worker};
pub use stream_info::{StreamInfo, StreamState, UpstreamTiming};
pub use upstream::{Transport, Upstream, UpstreamOptions};
