//! Downstream HTTP connections: protocol detection, and one connection from its first byte to its end.
//!
//! ```text
//! Connection::serve ► detect the protocol ► the driver of the protocol: http1 or http2
//!                                               └► Lifecycle: draining, idle timeout, maximum duration
//! ```
//!
//! The drivers run in the task of the connection. A driver polls the [`Lifecycle`](lifecycle::Lifecycle) of its connection
//! beside the byte stream, and ends the connection in the way of its protocol when the lifecycle says so.

mod connection;
mod date;
mod http1;
mod http2;
mod info;
mod io;
mod lifecycle;

pub(crate) use connection::{Codecs, Connection, Refuse};
pub(crate) use http2::{ResetStream, drop_underscores, has_underscore};
pub(crate) use info::ConnectionInfo;
pub(crate) use lifecycle::Lifetime;
