//! Serving: listening sockets, the accept loop, and the listeners of a process.

mod accept;
mod connection;
mod layer;
mod listen;
mod listener_change;
mod listener_server;
mod listeners;
mod own_service;
mod redirect;
mod workers;

pub use connection::Connection;
pub use layer::{ServerLayer, ServerService};
pub use listen::{BindError, bind};
pub use listener_change::{ListenerChange, ListenerError};
pub use listener_server::{FilterChainError, ListenerServer};
pub use listeners::{ListenerStatus, Listeners, MakeServer, ServeConnection};
pub use own_service::{ServeError, Server};
pub use workers::Workers;

pub use crate::http_connection_manager::ListenerContext;

#[cfg(test)]
mod cluster_client_tests;
#[cfg(test)]
mod network_filter_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;
