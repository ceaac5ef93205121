//! The default resolver of host names.

use std::sync::Arc;

use mesh_tower::dns::Resolve;

/// The default resolver: queries the name servers that the system is configured with.
#[cfg(feature = "dns")]
pub(crate) fn default() -> Arc<dyn Resolve> {
    Arc::new(mesh_tower::dns::SystemResolver::new())
}

/// The default resolver: calls the system's resolver.
#[cfg(not(feature = "dns"))]
pub(crate) fn default() -> Arc<dyn Resolve> {
    Arc::new(mesh_tower::dns::GetAddrInfoResolver::new())
}
