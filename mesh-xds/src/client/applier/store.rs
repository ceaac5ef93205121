//! Changes of the store that the data plane reads.

use std::time::Instant;

use mesh_core::rng::Rng;
use mesh_core::store::Store;

use super::{Applier, Change};
use crate::client::interest::Interest;
use crate::client::machine::Update;
use crate::client::summary::Summary;
use crate::resource::{Decoded, FieldError, Resource, ResourceError, ResourceType};

/// Makes one change.
///
/// # Errors
/// If routes cannot be compiled; then the previous ones stay.
pub fn apply(store: &Store, change: Change, now: Instant, rng: &mut impl Rng) -> Result<(), ResourceError> {
    match change {
        Change::SetSecret(secret) => store.set_secret(secret),
        Change::RemoveSecret(name) => store.remove_secret(&name),
        Change::SetCluster(cluster) => store.set_cluster(cluster, now, rng),
        Change::SetEndpoints { service_name, assignment } => store.set_endpoints(&service_name, &assignment, rng),
        Change::SetRoutes(config) => store.set_routes(&config).map_err(|error| {
            let error = FieldError { path: String::new(), reason: error.to_string() };
            ResourceError::new(&ResourceType::RouteConfiguration.to_string(), config.name.as_str(), error)
        })?,
        Change::SetListener(listener) => store.set_listener(listener),
        Change::RemoveListener(name) => store.remove_listener(&name),
        Change::RemoveRoutes(name) => store.remove_routes(&name),
        Change::RetireCluster(name) => store.retire_cluster(&name),
        Change::RemoveCluster(name) => store.remove_cluster(&name),
        Change::RemoveEndpoints(service_name) => store.remove_endpoints(&service_name, rng),
    }
    Ok(())
}

/// Applies resources that never change to `store`, such as those of a bootstrap file, and logs their numbers. Other
/// resources that they name do not exist.
///
/// # Errors
/// The first resource that cannot be put into force.
pub fn apply_static(
    store: &Store,
    resources: impl IntoIterator<Item = Resource>,
    now: Instant,
    rng: &mut impl Rng,
) -> Result<(), ResourceError> {
    let mut applier = Applier::with_all_clusters();
    let mut summary = Summary::default();
    let mut by_type = ResourceType::ALL.map(|resource_type| Update::new(resource_type, Vec::new()));
    for resource in resources {
        let update = &mut by_type[resource.resource_type() as usize];
        summary.add(update.resource_type, 1, 0);
        update.accepted.push(Decoded { resource, ignored: Vec::new() });
    }
    for update in by_type {
        applier.handle_update(update, now);
    }
    while let Some((resource_type, interest)) = applier.poll_interest() {
        if let Interest::Names(names) = interest {
            names.iter().for_each(|name| applier.handle_missing(resource_type, name.clone(), now));
        }
    }
    // The resolver does not report to this module when it has resolved the names.
    let unresolved: Vec<_> = applier.unresolved_clusters().cloned().collect();
    applier.handle_resolved(&unresolved, now);
    while let Some(change) = applier.poll_change() {
        apply(store, change, now, rng)?;
    }
    tracing::info!("{summary} in {} ms", now.elapsed().as_millis());
    Ok(())
}
