//! tower layers, pools and servers that carry out what `mesh-core` decides.

pub mod balance;
mod call;
mod channel;
pub mod circuit_breaker;
mod cluster;
mod cluster_client;
mod codec;
mod connect;
pub mod dns;
mod downstream;
pub mod drain;
pub mod filter;
pub mod headers;
mod http1;
mod http2;
mod http_connection_manager;
mod layer;
mod machine;
mod memory;
pub mod metrics;
mod network_filter;
pub mod outlier;
pub mod peer_metadata;
mod pick;
mod pipe;
mod pool;
pub mod retry;
mod rng;
pub mod route;
pub mod server;
mod span;
mod tcp_proxy;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod timeout;
mod timer;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod upgrade;
mod upstream;

pub use call::{
    Body, BoxError, Call, ResponseBody, ResponseCause, ResponseDetails, ResponseSource, StreamInfo, StreamState,
    UpstreamTiming,
};
pub use channel::Channel;
pub use cluster::ClusterHandle;
pub use connect::{AsyncReadWrite, Connect, ConnectTo, Connected, Connecting, Io, TcpConnector};
pub use downstream::{Accept, AcceptedConnection, Downstream};
pub use http_connection_manager::{ConnectionManager, ListenerConfigError, RequestContext, Respond, ServiceResponder};
pub use layer::{HttpService, Layered, Middleware};
pub use memory::{MemoryListener, MemoryNetwork};
pub use pool::{Connection, Pool, Worker};
pub use transport::{ConnectionInfo, Protocol, Target, Transport, TransportError};
pub use upstream::{ClusterChannel, Upstream, UpstreamOptions};
