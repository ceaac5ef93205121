//! Errors of joining and using a mesh.

use std::fmt;

use mesh_core::{
    causes::with_causes,
    model::ClusterName,
    node::NodeError,
    route::RouteTableError,
    target::{InvalidTarget, Target, UnknownTarget},
};
use mesh_tower::{server::ServeError, telemetry::OpenError};
use thiserror::Error as ThisError;

/// A mesh cannot be joined or used. The source, if any, is the cause.
///
/// `Display` is one line. `Debug` is the [`report`](Self::report), because Rust prints it if `main` returns the error.
#[derive(ThisError)]
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
    #[cfg(all(feature = "istio", feature = "tls"))]
    #[error("the certificate authority in {} cannot be used", path.display())]
    Authority { path: std::path::PathBuf, source: mesh_control::ca::CaError },
    #[cfg(all(feature = "istio", feature = "tls"))]
    #[error(transparent)]
    LocalAuthority(#[from] mesh_control::ca::LocalError),
    #[cfg(all(feature = "istio", feature = "tls"))]
    #[error("the certificates of this program cannot have the lifetime that MeshBuilder has")]
    CertificateLifetime(#[source] mesh_control::ca::IssueError),
    #[cfg(all(feature = "istio", feature = "tls"))]
    #[error(
        "a certificate authority is only used with MeshBuilder::config_dir; a control plane sends certificates itself"
    )]
    UnusedCertificates,
    #[error("cannot start the thread that follows the configuration")]
    Thread(#[source] std::io::Error),
    #[error("the routes of {target} cannot be used")]
    Routes { target: Target, source: RouteTableError },
    #[error(
        "the routes of {target} refer to the cluster {cluster}, which is not added to MeshBuilder; its clusters are {known}"
    )]
    NoCluster { target: Target, cluster: ClusterName, known: String },
    #[error("the target {0} needs a port, such as {0}:80, to be configured from code")]
    NoPort(Target),
    #[error("the endpoints of {0} were not added with MeshBuilder::endpoints, so they cannot be set")]
    NotFromCode(Target),
    #[error(transparent)]
    AccessLog(#[from] OpenError),
    #[cfg(feature = "xds")]
    #[error("the configuration was not in force within {limit:?}")]
    NotInForce { limit: std::time::Duration },
    #[cfg(feature = "ads")]
    #[error(transparent)]
    GrpcBootstrap(#[from] mesh_xds::bootstrap::grpc::GrpcBootstrapError),
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    #[error(transparent)]
    UnknownTarget(#[from] UnknownTarget),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Error {
    /// The error with its causes, for display in a terminal. Mistakes in files include the line and the expected values, as in
    /// the output of `mesh-control validate`; at most 20 mistakes are included.
    ///
    /// ```text
    /// cannot use the configuration in mesh: the configuration has errors
    ///
    /// error[IST0101]: reviews.default.svc.cluster.local has no subset "v4"
    ///   --> mesh/reviews.yaml:21:44
    ///    |
    /// 21 |     - destination: {host: reviews, subset: v4}
    ///    |                                            ^^ expected one of v1, v2, v3
    ///    |
    ///    = in: spec.http[1].route[2].destination.subset of VirtualService default/reviews
    /// ```
    #[must_use]
    pub fn report(&self) -> String {
        #[cfg(feature = "istio")]
        if let Kind::Config { source, .. } = &self.0 {
            return format!("{self}: {}", source.report(mesh_control::diagnostic::Style::Plain));
        }
        with_causes(self)
    }

    /// Whether the configuration is the cause: its sources, a file, a route, or a timeout before it was in force.
    #[must_use]
    pub fn is_config(&self) -> bool {
        let is_other =
            matches!(&self.0, Kind::Thread(_) | Kind::UnknownTarget(_) | Kind::NotFromCode(_) | Kind::Serve(_))
                || self.is_invalid_name();
        !is_other
    }

    /// Whether the name of a service, a namespace or a label is invalid.
    #[must_use]
    pub fn is_invalid_name(&self) -> bool {
        matches!(&self.0, Kind::Node(_) | Kind::Target(_) | Kind::NoPort(_))
    }

    /// Whether the configuration in force has no such service.
    #[must_use]
    pub fn is_unknown_target(&self) -> bool {
        matches!(&self.0, Kind::UnknownTarget(_))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report())
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

#[cfg(feature = "ads")]
from_kind!(mesh_xds::bootstrap::grpc::GrpcBootstrapError);
from_kind!(NodeError, InvalidTarget, UnknownTarget, ServeError, OpenError);
