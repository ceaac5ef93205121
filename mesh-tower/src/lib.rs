//! tower layers, pools and servers that carry out what `mesh-core` decides.

pub mod balance;
mod body;
mod call;
mod channel;
pub mod circuit_breaker;
mod connect;
pub mod dns;
pub mod drain;
pub mod fault;
mod header_number;
pub mod headers;
mod held;
mod http_connection_manager;
mod oneshot;
pub mod outlier;
pub mod peer_metadata;
mod pool;
mod reply;
pub mod retry;
mod rng;
pub mod route;
pub mod server;
mod stack;
mod stream_info;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod timeout;
mod timer;
mod transport;
mod upgrade;
mod upstream;

pub use body::{Body, BoxError};
pub use call::Call;
pub use channel::{Channel, ChannelBody};
pub use connect::{AsyncReadWrite, Connect, ConnectTo, Connected, Connecting, Io, TcpConnector};
pub use http_connection_manager::{ConnectionManager, ListenerConfigError, Respond, ResponseBody, ServiceResponder};
pub use pool::{Connection, Pool, Worker};
pub use stream_info::{StreamInfo, StreamState, UpstreamTiming};
pub use transport::{ConnectionInfo, Protocol, Target, Transport, TransportError};
pub use upstream::{Upstream, UpstreamOptions};
