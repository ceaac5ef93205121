//! Reports of listeners that are added, updated and removed.

use std::{fmt, net::SocketAddr, sync::Arc};

use thiserror::Error;

/// A change of one listener.
#[derive(Debug)]
pub enum ListenerChange {
    /// The listener accepts connections on this address.
    Added(Arc<str>, SocketAddr),
    /// The listener serves connections that others hand to it; it has no sockets.
    AddedWithoutSocket(Arc<str>),
    /// New connections use the new configuration.
    Updated(Arc<str>),
    /// The listener accepts no more connections.
    Removed(Arc<str>),
    /// The listener could not be started or updated; the previous one stays in use.
    Failed(ListenerError),
}

/// A listener could not be started or updated.
#[derive(Debug, Error)]
#[error("listener {name}: {source}")]
pub struct ListenerError {
    /// The listener's name.
    pub name: Arc<str>,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for ListenerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(name, address) => write!(f, "listener {name}: listening on {address}"),
            Self::AddedWithoutSocket(name) => write!(f, "listener {name}: serves redirected connections"),
            Self::Updated(name) => write!(f, "listener {name}: configuration changed"),
            Self::Removed(name) => write!(f, "listener {name}: removed"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}
