//! How host names are resolved if a program does not say.

use std::sync::Arc;

use mesh_tower::dns::Resolve;

/// As the system is configured.
#[cfg(feature = "dns")]
pub(crate) fn default() -> Arc<dyn Resolve> {
    Arc::new(mesh_tower::dns::SystemResolver::new())
}

/// Not at all: every query fails, and the log says why.
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
