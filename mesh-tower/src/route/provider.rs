//! The routes of a listener.

use std::sync::Arc;

use mesh_core::{
    model::RouteSource,
    route::RouteTableError,
    store::{RouteSlot, Routes, Store},
};

/// The source of a listener's routes. Envoy's `RouteConfigProvider`.
#[derive(Clone, Debug)]
pub(crate) enum RouteConfigProvider {
    /// The listener's configuration.
    Inline(Arc<Routes>),
    /// A route configuration resource.
    Rds(Arc<RouteSlot>),
}

impl RouteConfigProvider {
    /// Creates a provider for `source`, with the clusters of `store`.
    ///
    /// # Errors
    /// If inline routes cannot be compiled.
    pub(crate) fn new(source: &RouteSource, store: &Store) -> Result<Self, RouteTableError> {
        Ok(match source {
            RouteSource::Inline(config) => Self::Inline(Arc::new(store.compile_routes(Arc::clone(config))?)),
            RouteSource::Rds(name) => Self::Rds(store.route_slot(name)),
        })
    }

    /// The current routes; `None` if they have not been received or were removed.
    pub(crate) fn load(&self) -> Option<Arc<Routes>> {
        match self {
            Self::Inline(routes) => Some(Arc::clone(routes)),
            Self::Rds(slot) => slot.load(),
        }
    }
}
