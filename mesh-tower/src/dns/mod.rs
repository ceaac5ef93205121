//! Host names to addresses, for DNS clusters.
//!
//! [`Resolve`] is the seam to the network; [`SystemResolver`] asks what the system is configured to ask, the hosts file
//! first. [`DnsDiscovery`] keeps the endpoints of DNS clusters up to date with it.

mod discovery;
mod system;

use std::{fmt, future::Future, net::IpAddr, pin::Pin, time::Duration};

use mesh_core::model::DnsLookupFamily;
use thiserror::Error;

pub use discovery::DnsDiscovery;
pub use system::SystemResolver;

/// The future of a [`Resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Answer, ResolveError>> + Send + 'a>>;

/// Finds the addresses of host names.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `host`, as many families of them as `family` asks for.
    fn resolve<'a>(&'a self, host: &'a str, family: DnsLookupFamily) -> Resolving<'a>;
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Without duplicates, in the order of the answer; may be empty.
    pub addresses: Vec<IpAddr>,
    /// How long the answer is good.
    pub time_to_live: Duration,
}

/// A name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot resolve {host:?}: {reason}")]
pub struct ResolveError {
    /// The name.
    pub host: String,
    /// What the resolver says.
    pub reason: String,
}
