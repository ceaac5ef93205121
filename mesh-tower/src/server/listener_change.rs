//! Reports about listeners that are added, changed and removed.

use std::{fmt, net::SocketAddr, sync::Arc};

use thiserror::Error;

/// What became of one listener.
#[derive(Debug)]
pub enum ListenerChange {
    /// It listens on this address now.
    Added(Arc<str>, SocketAddr),
    /// It serves new connections with its new configuration.
    Updated(Arc<str>),
    /// It no longer listens.
    Removed(Arc<str>),
    /// It could not be brought up, or not be changed; what was before still holds.
    Failed(ListenerError),
}

/// A listener could not be brought up or changed.
#[derive(Debug, Error)]
#[error("listener {name}: {source}")]
pub struct ListenerError {
    /// The listener.
    pub name: Arc<str>,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for ListenerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(name, address) => write!(f, "listener {name}: listening on {address}"),
            Self::Updated(name) => write!(f, "listener {name}: configuration changed"),
            Self::Removed(name) => write!(f, "listener {name}: removed"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}
