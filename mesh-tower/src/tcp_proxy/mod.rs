//! TCP proxying: passes the bytes of a downstream connection to an endpoint, and back. Envoy `tcp_proxy`.
//!
//! ```text
//! cluster by weight ► max_connections ► endpoint (the cluster's balancer) ► connect, within connect_timeout
//!     ▲                                                                        │ failed: again, up to max_connect_attempts
//!     └────────────────────────────────────────────────────────────────────────┘
//! bytes both ways, until both ends have ended, nothing moves for idle_timeout, or draining cuts the connection
//! ```
//!
//! An endpoint is asked for a connection as soon as there is a client, which may wait for the server to speak first.

mod proxy;
mod record;
mod upstream;

pub(crate) use proxy::TcpProxy;
pub(crate) use record::ConnectionTelemetry;

#[cfg(test)]
mod tests;
