//! tower layers, pools and servers that carry out what `mesh-core` decides.

mod body;
mod channel;
mod connect;
pub mod dns;
pub mod drain;
mod fault;
mod header_number;
mod http_connection_manager;
mod outlier;
mod pool;
mod retry;
mod rng;
mod route;
pub mod server;
mod stack;
mod stream_info;
pub mod telemetry;
mod timer;
mod upgrade;
mod upstream;

pub use body::{Body, BoxError};
pub use channel::{Channel, ChannelBody};
pub use connect::{AsyncReadWrite, Connect, Connecting, Io, TcpConnector};
pub use http_connection_manager::{ConnectionManager, ListenerConfigError, Respond, ResponseBody, ServiceResponder};
pub use pool::{Connection, Pool, Protocol, SendError, Target, TransportError, Worker};
pub use stream_info::{StreamInfo, StreamState, UpstreamTiming};
pub use upstream::{Transport, Upstream, UpstreamOptions};
