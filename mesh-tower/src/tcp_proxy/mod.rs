//! TCP proxying: passes the bytes of a downstream connection to an endpoint, and back. Envoy `tcp_proxy`.
//!
//! ```text
//! cluster by weight ► max_connections ► endpoint (the cluster's balancer) ► connect, within connect_timeout
//!     ▲                                                                        │ failed: again, up to max_connect_attempts
//!     └────────────────────────────────────────────────────────────────────────┘
//! bytes both ways, until both ends have ended, nothing moves for idle_timeout, or draining closes the connection
//! ```
//!
//! The upstream connection is made as soon as there is a client, because the server may be the one to speak first.

mod proxy;
mod record;
mod upstream;

pub(crate) use proxy::TcpProxy;
pub(crate) use record::ConnectionTelemetry;

#[cfg(test)]
mod tests;
