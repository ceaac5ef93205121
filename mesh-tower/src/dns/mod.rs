//! Resolution of host names, for DNS clusters.
//!
//! [`Resolve`] is the interface to the network. [`GetAddrInfoResolver`] calls the system's resolver. `SystemResolver` (feature
//! `system-dns`) reads the hosts file and queries the name servers that the system is configured with, and respects the TTL
//! of responses. [`DnsDiscovery`] uses a resolver to keep the endpoints of DNS clusters up to date.

mod discovery;
mod getaddrinfo;
#[cfg(feature = "system-dns")]
mod system;

use std::{fmt, future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use mesh_core::model::DnsLookupFamily;
use thiserror::Error;

pub use discovery::DnsDiscovery;
pub use getaddrinfo::GetAddrInfoResolver;
#[cfg(feature = "system-dns")]
pub use system::SystemResolver;

/// The future of a [`Resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Answer, ResolveError>> + Send + 'a>>;

/// Resolves host names.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `host` of the address families that `family` selects.
    fn resolve<'a>(&'a self, host: &'a str, family: DnsLookupFamily) -> Resolving<'a>;
}

impl<R: Resolve + ?Sized> Resolve for Arc<R> {
    fn resolve<'a>(&'a self, host: &'a str, family: DnsLookupFamily) -> Resolving<'a> {
        (**self).resolve(host, family)
    }
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Without duplicates, in the order of the answer; may be empty.
    pub addresses: Vec<IpAddr>,
    /// How long the answer is valid.
    pub time_to_live: Duration,
}

/// A name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot resolve {host:?}: {reason}")]
pub struct ResolveError {
    /// The name.
    pub host: String,
    /// The resolver's description of the error.
    pub reason: String,
}
