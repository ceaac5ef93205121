//! The certificates of programs whose configuration is a directory.
//!
//! Every process has the key of the authority, and issues its own certificate. This is for the programs of one user on one
//! machine: whoever can read the key can be any workload of the mesh.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_control::{
    ca::{Authority, DEFAULT_TTL, local_directory},
    config::MeshConfig,
    identities::Identities,
};

use crate::{Error, MeshBuilder, error::Kind};

/// Which certificates a program gets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates {
    authority: Option<Place>,
    /// `None` = the default.
    lifetime: Option<Duration>,
}

/// Where an authority is.
#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    /// That of the user.
    Local,
}

impl Certificates {
    /// Whether there is an authority.
    pub(crate) fn has_authority(&self) -> bool {
        self.authority.is_some()
    }

    /// Opens the authority, if there is one.
    pub(crate) fn open(self) -> Result<Option<Arc<dyn Identities>>, Error> {
        let now = SystemTime::now();
        let authority = match self.authority {
            None => return Ok(None),
            Some(Place::Directory(path)) => {
                Authority::open(&path, now).map_err(|source| Kind::Authority { path, source })?
            }
            Some(Place::Local) => {
                let directory = local_directory().map_err(Kind::from)?;
                Authority::open_or_generate(&directory, MeshConfig::DEFAULT_TRUST_DOMAIN, now).map_err(Kind::from)?
            }
        };
        let authority = authority.with_ttl(self.lifetime.unwrap_or(DEFAULT_TTL)).map_err(Kind::CertificateLifetime)?;
        Ok(Some(Arc::new(authority)))
    }
}

impl MeshBuilder {
    /// Gives this program a certificate of the authority in `directory`, so that it can use mutual TLS: Istio's files `ca-cert.pem`,
    /// `ca-key.pem`, `cert-chain.pem` and `root-cert.pem`, as `mesh-control ca init` makes them and `mesh-proxy --ca` reads them.
    /// Default none: then configuration that requires mutual TLS is an error, and everything is plain text.
    ///
    /// The certificate has the identity of the [`service_account`](Self::service_account), is valid for 24 hours and is renewed at
    /// about half of its life. Its key is only in memory. The files are read once.
    ///
    /// ```no_run
    /// use axum::{Extension, Router, routing::get};
    /// use mesh::{Mesh, PeerIdentity};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let mesh = Mesh::builder().config_dir("mesh").service("reviews").certificate_authority("ca").build().await?;
    /// // With PERMISSIVE mutual TLS, a client in plain text has no identity: then it is an `Option<Extension<PeerIdentity>>`.
    /// let handler = async |Extension(client): Extension<PeerIdentity>| format!("hello {:?}", client.certificate.uri_sans);
    /// let socket = tokio::net::TcpListener::bind("127.0.0.1:9083").await?;
    /// mesh.server("reviews")?.serve(socket, Router::new().route("/", get(handler))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn certificate_authority(mut self, directory: impl Into<PathBuf>) -> Self {
        self.certificates.authority = Some(Place::Directory(directory.into()));
        self
    }

    /// As [`certificate_authority`](Self::certificate_authority), with an authority that all programs of this user share:
    /// `$XDG_STATE_HOME/mesh/ca`, by default `~/.local/state/mesh/ca`. The first program makes it, also if several start at once. Only
    /// the user can read it; it is an error if others can enter the directory. `mesh-proxy --ca` takes the same directory.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), mesh::Error> {
    /// let mesh = mesh::Mesh::builder().config_dir("mesh").service("shop").local_certificate_authority().build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_certificate_authority(mut self) -> Self {
        self.certificates.authority = Some(Place::Local);
        self
    }

    /// The lifetime of certificates of the authority, above 0 and at most 90 days. Default 24 hours. A certificate is renewed at
    /// about half of it, so a few seconds, which are for tests, leave little time for a program that is busy.
    pub fn certificate_lifetime(mut self, lifetime: Duration) -> Self {
        self.certificates.lifetime = Some(lifetime);
        self
    }
}
