//! Where the routes of a listener come from.

use std::sync::Arc;

use mesh_core::{
    model::RouteSource,
    route::RouteTableError,
    store::{RouteSlot, Routes, Store},
};

/// The routes of a listener, ready for use. Envoy's `RouteConfigProvider`.
#[derive(Clone, Debug)]
pub(crate) enum RouteConfigProvider {
    /// In the listener itself.
    Inline(Arc<Routes>),
    /// A resource of their own.
    Rds(Arc<RouteSlot>),
}

impl RouteConfigProvider {
    /// The routes of `source`; clusters are those of `store`.
    ///
    /// # Errors
    /// If inline routes contradict themselves.
    pub(crate) fn new(source: &RouteSource, store: &Store) -> Result<Self, RouteTableError> {
        Ok(match source {
            RouteSource::Inline(config) => Self::Inline(Arc::new(store.compile_routes(Arc::clone(config))?)),
            RouteSource::Rds(name) => Self::Rds(store.route_slot(name)),
        })
    }

    /// The routes as they are now; `None` if they have not come yet, or were removed.
    pub(crate) fn load(&self) -> Option<Arc<Routes>> {
        match self {
            Self::Inline(routes) => Some(Arc::clone(routes)),
            Self::Rds(slot) => slot.load(),
        }
    }
}
