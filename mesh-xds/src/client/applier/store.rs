//! Changes made in the store that the data plane reads.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use mesh_core::rng::Rng;
use mesh_core::route::RouteTableError;
use mesh_core::store::Store;

use super::Change;
use crate::client::driver::{Notice, Sink};
use crate::resource::{FieldError, ResourceError, ResourceType};

/// Makes one change.
///
/// # Errors
/// If routes cannot be compiled; then those before stay.
pub fn apply(store: &Store, change: Change, now: Instant, rng: &mut impl Rng) -> Result<(), RouteTableError> {
    match change {
        Change::SetCluster(cluster) => store.set_cluster(cluster, now, rng),
        Change::SetEndpoints { service_name, assignment } => store.set_endpoints(&service_name, &assignment, rng),
        Change::SetRoutes(config) => return store.set_routes(&config),
        Change::SetListener(listener) => store.set_listener(listener),
        Change::RemoveListener(name) => store.remove_listener(&name),
        Change::RemoveRoutes(name) => store.remove_routes(&name),
        Change::RetireCluster(name) => store.retire_cluster(&name),
        Change::RemoveCluster(name) => store.remove_cluster(&name),
        Change::RemoveEndpoints(service_name) => store.remove_endpoints(&service_name, rng),
    }
    Ok(())
}

/// Keeps a [`Store`] as a control plane wants it, and passes on what there is to tell.
pub struct StoreSink<R, N> {
    store: Arc<Store>,
    rng: R,
    notify: N,
}

impl<R, N> StoreSink<R, N> {
    /// A sink into `store`. `notify` is called on the driver's task and should return soon.
    pub fn new(store: Arc<Store>, rng: R, notify: N) -> Self {
        Self { store, rng, notify }
    }
}

impl<R: Rng + Send, N: FnMut(Notice) + Send> Sink for StoreSink<R, N> {
    fn apply(&mut self, change: Change, now: Instant) {
        let name = match &change {
            Change::SetRoutes(config) => config.name.to_string(),
            _ => String::new(),
        };
        if let Err(error) = apply(&self.store, change, now, &mut self.rng) {
            let error = FieldError { path: String::new(), reason: error.to_string() };
            let kind = ResourceType::RouteConfiguration.to_string();
            (self.notify)(Notice::NotApplied(ResourceError { kind, name, error }));
        }
    }

    fn notice(&mut self, notice: Notice) {
        (self.notify)(notice);
    }
}

impl<R, N> fmt::Debug for StoreSink<R, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSink").finish_non_exhaustive()
    }
}
