//! Accepted connections, until a network filter serves them.
//!
//! ```text
//! Accept ► listener filters (inspect the first bytes) ► filter chain ► transport socket ► network filter
//! ```
//!
//! Everything here works on any `AsyncRead + AsyncWrite`: sockets, in-memory pipes, streams of another library.

mod accept;
mod connection;
mod listener_filters;
mod read_ahead;
mod transport_socket;

pub use accept::{Accept, AcceptedConnection};
pub use connection::Downstream;
pub(crate) use listener_filters::ListenerFilters;
pub(crate) use read_ahead::ReadAhead;
pub(crate) use transport_socket::{Secured, SecuredIo, ServerSocket, SocketError};
