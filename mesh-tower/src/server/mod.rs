//! Serving: listening sockets, the accept loop, protocol detection and the life of a connection.
//!
//! hyper's connections are driven directly, one task per connection, so that a request is read, routed, sent and
//! answered without changing tasks.

mod accept;
mod codec;
mod connection;
mod head;
mod io;
mod layer;
mod listen;
mod listener_change;
mod listener_server;
mod listeners;
mod own_service;
mod workers;

pub(crate) use codec::Codecs;
pub(crate) use connection::{Connection, ConnectionInfo, Lifetime, Unserved};
pub(crate) use head::HeadLimit;
pub use layer::{ServerLayer, ServerService};
pub use listen::{BindError, bind};
pub use listener_change::{ListenerChange, ListenerError};
pub use listener_server::{FilterChainError, ListenerContext, ListenerServer};
pub use listeners::{ListenerStatus, Listeners, MakeServer, ServeConnection};
pub use own_service::{ServeError, Server};
pub use workers::Workers;

#[cfg(test)]
mod tests;
