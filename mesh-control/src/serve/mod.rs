//! The control plane on sockets, in the role of istiod: xDS and certificates over gRPC.
//!
//! | port | what | who may |
//! |---|---|---|
//! | `grpc_addr` | ADS in plain text | anyone; without secrets, because the client proves nothing |
//! | `secure_grpc_addr` | ADS and `CreateCertificate` with TLS | who proves an identity of the mesh: by a certificate of the authority, or a token |
//! | `http_addr` | `/ready`, `/metrics`, `/debug` | anyone; `/debug` only clients of the machine |
//!
//! The certificate of the second port is one of the authority, for the names that istiod has. `services` is the table of the
//! services of both ports.

mod ads;
mod authenticate;
mod certificate;
mod debug;
mod http;
mod incoming;
mod load_reports;
mod services;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::ca::service::TokenVerifier;
use crate::ca::{Authority, CaError, IssueError, Lifetimes, TokenError, TokenSettings};
use crate::config;
use crate::server::{ControlPlane, Options};
use crate::source::{Directory, Follower, OpenError};
use authenticate::Authenticator;
use certificate::ServerCertificate;
use services::Context;

/// The names by which clients reach istiod, unless others are given.
pub const DEFAULT_DNS_NAMES: [&str; 2] = ["istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local"];

/// Where and what is served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The directory of the resources.
    pub config: PathBuf,
    /// How its files are read.
    pub reading: config::Options,
    /// Where ADS is served in plain text; `None` = nowhere. Istio `--grpcAddr`.
    pub grpc_addr: Option<SocketAddr>,
    /// Where ADS is served with TLS; `None` = nowhere. Istio `--secureGRPCAddr`.
    pub secure_grpc_addr: Option<SocketAddr>,
    /// Where readiness and metrics are served; `None` = nowhere. Istio `--httpAddr` and `--monitoringAddr`.
    pub http_addr: Option<SocketAddr>,
    /// The directory of the authority, with Istio's file names; `None` = a new root in memory, as in istiod. Istio `ROOT_CA_DIR`.
    pub ca_dir: Option<PathBuf>,
    /// Names of hosts that the certificate of the TLS port is for.
    pub dns_names: Vec<String>,
    /// Tokens by which clients of the TLS port may prove an identity, besides certificates; `None` = none.
    pub tokens: Option<TokenSettings>,
    /// Lifetimes of certificates that clients ask for.
    pub lifetimes: Lifetimes,
}

impl Settings {
    /// The resources of a directory, served nowhere yet, with [`DEFAULT_DNS_NAMES`].
    #[must_use]
    pub fn new(config: impl Into<PathBuf>) -> Self {
        Self {
            config: config.into(),
            reading: config::Options::default(),
            grpc_addr: None,
            secure_grpc_addr: None,
            http_addr: None,
            ca_dir: None,
            dns_names: DEFAULT_DNS_NAMES.map(str::to_owned).into(),
            tokens: None,
            lifetimes: Lifetimes::default(),
        }
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory cannot be the source.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// The authority cannot be used.
    #[error("the certificate authority")]
    Authority(#[from] CaError),
    /// The authority issues no certificate for the TLS port.
    #[error("the certificate of the TLS port")]
    Certificate(#[from] IssueError),
    /// Tokens cannot be verified.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// Certificates or keys do not fit TLS.
    #[error("TLS of {what}")]
    Tls {
        /// Which port or file.
        what: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A port cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

/// The addresses that are listened on, with the ports that the operating system has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addresses {
    /// ADS in plain text.
    pub grpc: Option<SocketAddr>,
    /// ADS with TLS.
    pub secure_grpc: Option<SocketAddr>,
    /// Readiness and metrics.
    pub http: Option<SocketAddr>,
}

/// A control plane that has been bound.
#[derive(Debug)]
pub struct Server {
    directory: Follower,
    context: Context,
    certificate: Arc<ServerCertificate>,
    grpc: Option<TcpListener>,
    secure_grpc: Option<TcpListener>,
    http: Option<TcpListener>,
    addresses: Addresses,
}

impl Server {
    /// Reads the directory and listens.
    ///
    /// # Errors
    ///
    /// If the directory has errors, the authority cannot be used, or a port is taken.
    pub async fn bind(settings: Settings) -> Result<Self, Error> {
        let now = SystemTime::now();
        let (directory, meshes) = Directory::open(&settings.config, settings.reading.with_certificates(true))?;
        let trust_domain = meshes.borrow().config.mesh_config.trust_domain().to_owned();
        let authority = Arc::new(match &settings.ca_dir {
            Some(path) => Authority::open(path, now)?,
            None => Authority::generate(&trust_domain, now)?.0,
        });
        let certificate = ServerCertificate::issue(Arc::clone(&authority), &trust_domain, settings.dns_names, now)?;
        let status = directory.status();
        let options = Options::default().with_identities(Some(Arc::clone(&authority) as _));
        let control_plane = ControlPlane::new(meshes, status, options);
        let tokens = settings.tokens.as_ref().map(|tokens| TokenVerifier::open(tokens, &trust_domain)).transpose()?;
        let authenticator = Arc::new(Authenticator::new(&trust_domain, tokens));
        let context =
            Context { control_plane, authority, authenticator, lifetimes: settings.lifetimes, loads: Arc::default() };
        let grpc = listen(settings.grpc_addr).await?;
        let secure_grpc = listen(settings.secure_grpc_addr).await?;
        let http = listen(settings.http_addr).await?;
        let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|it| it.local_addr().ok());
        let addresses = Addresses { grpc: address(&grpc), secure_grpc: address(&secure_grpc), http: address(&http) };
        Ok(Self { directory, context, certificate: Arc::new(certificate), grpc, secure_grpc, http, addresses })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The roots that clients of the TLS port verify it with, PEM.
    #[must_use]
    pub fn roots(&self) -> &str {
        self.context.authority.roots()
    }

    /// Serves until the future is dropped.
    ///
    /// # Errors
    ///
    /// If TLS cannot be configured.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends all connections; clients keep what they have.
    pub async fn run(self) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        let Self { directory, context, certificate, grpc, secure_grpc, http, .. } = self;
        if let Some(listener) = grpc {
            tasks.spawn(incoming::serve(incoming::plain(listener), services::plain(&context)));
        }
        if let Some(listener) = secure_grpc {
            let config = certificate.config(context.authority.roots())?;
            tasks.spawn(incoming::serve(incoming::tls(listener, config), services::secure(&context)));
        }
        if let Some(listener) = http {
            let shown = http::Shown { control_plane: context.control_plane.clone(), loads: Arc::clone(&context.loads) };
            tasks.spawn(http::serve(listener, shown));
        }
        tasks.spawn(certificate.renew());
        tasks.spawn(directory.run(|_| {}));
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    Ok(Some(listener))
}

#[cfg(test)]
mod tests;
