//! The default resolver of host names.

use std::sync::Arc;

use mesh_tower::dns::Resolve;

/// Resolves names with the system's configuration.
#[cfg(feature = "dns")]
pub(crate) fn default() -> Arc<dyn Resolve> {
    Arc::new(mesh_tower::dns::SystemResolver::new())
}

/// Fails every query, with the reason.
#[cfg(not(feature = "dns"))]
pub(crate) fn default() -> Arc<dyn Resolve> {
    use mesh_core::model::DnsLookupFamily;
    use mesh_tower::dns::{ResolveError, Resolving};

    #[derive(Debug)]
    struct Unavailable;

    impl Resolve for Unavailable {
        fn resolve<'a>(&'a self, host: &'a str, _: DnsLookupFamily) -> Resolving<'a> {
            let reason = "the feature `dns` is off, and MeshBuilder::resolver was not called".to_owned();
            Box::pin(std::future::ready(Err(ResolveError { host: host.to_owned(), reason })))
        }
    }

    Arc::new(Unavailable)
}
