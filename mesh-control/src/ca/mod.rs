//! A certificate authority for the workloads of a mesh, in the role of istiod's.
//!
//! An [`Authority`] signs certificates with one identity, `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`, for a key
//! that it makes in memory or for the key of a request (CSR). Its own certificate is self-signed ([`Authority::generate`]),
//! or the user's, in files with Istio's names ([`Authority::open`]). Time is an argument, and nothing is written except by
//! [`CaFiles::write`], [`Issued::write`] and [`Authority::open_or_generate`], which is for one machine.
//!
//! [`Rotation`] replaces an authority by another one without a connection that fails: first every workload trusts both roots,
//! then every workload gets a certificate of the new one, then the old root is removed.
//!
//! Sources: SPIFFE X509-SVID for the certificates; istiod `security/pkg/pki` for lifetimes and file names.

mod authority;
mod certificate;
mod files;
mod identity;
mod local;
mod rotation;
#[cfg(feature = "serve")]
pub(crate) mod service;

pub use authority::{Authority, DEFAULT_TTL, IssueError, Issued, MAX_TTL, Request};
pub use certificate::CertificateError;
pub use files::{CaFiles, FileError};
pub use identity::{Identity, IdentityError};
pub use local::{LocalError, local_directory};
pub use rotation::{Fleet, Rotation, RotationError, SETTLE, Step};
#[cfg(feature = "serve")]
pub use service::{KeysError, Lifetimes, LifetimesError, TokenError, TokenSettings};

/// Target of the log's events about certificates that are issued, at `info`, and refused, at `warn`. Their fields are `outcome`,
/// `identity`, `serial`, `not_before` and `not_after` (seconds since 1970), `requester` and `reason`.
pub const AUDIT: &str = "mesh_control::ca::audit";

/// The reason why an authority cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}
