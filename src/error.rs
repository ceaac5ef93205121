//! Errors of joining and using a mesh.

use mesh_core::{
    node::NodeError,
    route::RouteTableError,
    target::{InvalidTarget, UnknownTarget},
};
use mesh_tower::server::ServeError;
use thiserror::Error as ThisError;

/// A mesh cannot be joined or used. The source, if any, is the cause.
#[derive(Debug, ThisError)]
#[error(transparent)]
pub struct Error(#[from] Kind);

#[derive(Debug, ThisError)]
pub(crate) enum Kind {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("configuration comes from one directory or one control plane, not from several")]
    Sources,
    #[cfg(feature = "istio")]
    #[error("cannot use the configuration in {}", path.display())]
    Config { path: std::path::PathBuf, source: mesh_control::source::OpenError },
    #[error("the routes of {target:?} cannot be used")]
    Routes { target: String, source: RouteTableError },
    #[cfg(feature = "xds")]
    #[error("the configuration was not in force within {limit:?}")]
    NotInForce { limit: std::time::Duration },
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    #[error(transparent)]
    UnknownTarget(#[from] UnknownTarget),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Error {
    /// Whether the configuration is the cause: its sources, a file, a route, or a timeout before it was in force.
    #[must_use]
    pub fn is_config(&self) -> bool {
        !matches!(&self.0, Kind::Node(_) | Kind::Target(_) | Kind::UnknownTarget(_) | Kind::Serve(_))
    }

    /// Whether the name of a service, a namespace or a label is invalid.
    #[must_use]
    pub fn is_invalid_name(&self) -> bool {
        matches!(&self.0, Kind::Node(_) | Kind::Target(_))
    }

    /// Whether the configuration in force has no such service.
    #[must_use]
    pub fn is_unknown_target(&self) -> bool {
        matches!(&self.0, Kind::UnknownTarget(_))
    }
}

macro_rules! from_kind {
    ($($source:ty),+) => {$(
        impl From<$source> for Error {
            fn from(source: $source) -> Self {
                Self(source.into())
            }
        }
    )+};
}

from_kind!(NodeError, InvalidTarget, UnknownTarget, ServeError);
