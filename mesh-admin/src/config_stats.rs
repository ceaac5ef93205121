//! Envoy's statistics of configuration updates: `control_plane.`, `listener_manager.lds.`, `cluster_manager.cds.` and
//! `http.<stat_prefix>.rds.<route_config_name>.`.

use std::{sync::Arc, time::SystemTime};

use mesh_core::{model::RouteSource, store::Store, xxhash::xxh64};
use mesh_tower::telemetry::{Scope, StatSource, StatValue, StatVisitor};
use mesh_xds::{
    client::{ClientStatus, Updates},
    resource::ResourceType,
};

/// The updates that a client has received.
#[derive(Debug)]
pub(crate) struct ConfigStats {
    pub(crate) client: Arc<ClientStatus>,
    /// Has the connection managers that use route configurations.
    pub(crate) store: Arc<Store>,
}

impl StatSource for ConfigStats {
    fn visit(&self, visitor: &mut StatVisitor<'_>) {
        let (clusters, listeners) =
            (self.client.of_type(ResourceType::Cluster), self.client.of_type(ResourceType::Listener));
        visit(Scope::Process, "cluster_manager.cds.", &clusters.updates, visitor);
        visit_reloads(Scope::Process, "cluster_manager.cds.", &clusters.updates, visitor);
        visit(Scope::Process, "listener_manager.lds.", &listeners.updates, visitor);
        let waiting = self.client.waiting();
        for (name, value) in [
            ("control_plane.connected_state", u64::from(self.client.is_connected())),
            ("cluster_manager.warming_clusters", waiting.clusters as u64),
            ("listener_manager.total_listeners_warming", waiting.listeners as u64),
        ] {
            visitor(Scope::Process, name, StatValue::Gauge(value));
        }
        let routes = self.client.of_type(ResourceType::RouteConfiguration).resources;
        let mut seen = Vec::new();
        for listener in self.store.listeners().values() {
            for http in listener.http_connection_managers() {
                let RouteSource::Rds(name) = &http.routes else { continue };
                let Some(updates) = routes.get(name.as_str()).and_then(|status| status.updates.as_deref()) else {
                    continue;
                };
                let scope = (Arc::clone(&http.stat_prefix), name.clone());
                if seen.contains(&scope) {
                    continue;
                }
                let route_config = Scope::RouteConfig { stat_prefix: &http.stat_prefix, name: name.as_str() };
                visit(route_config, "", updates, visitor);
                visit_reloads(route_config, "", updates, visitor);
                seen.push(scope);
            }
        }
    }

    fn reset_counters(&self) {
        self.client.reset_counters();
    }
}

fn visit(scope: Scope<'_>, prefix: &str, updates: &Updates, visitor: &mut StatVisitor<'_>) {
    let version = if updates.version.is_empty() { 0 } else { xxh64(updates.version.as_bytes()) };
    for (name, value) in [
        ("update_attempt", StatValue::Counter(updates.attempt)),
        ("update_success", StatValue::Counter(updates.success)),
        ("update_failure", StatValue::Counter(updates.failure)),
        ("update_rejected", StatValue::Counter(updates.rejected)),
        ("update_time", StatValue::Gauge(milliseconds(updates.success_at))),
        ("version", StatValue::Gauge(version)),
        ("version_text", StatValue::Text(&updates.version)),
    ] {
        visitor(scope, &format!("{prefix}{name}"), value);
    }
}

/// Listeners do not have these, as in Envoy.
fn visit_reloads(scope: Scope<'_>, prefix: &str, updates: &Updates, visitor: &mut StatVisitor<'_>) {
    visitor(scope, &format!("{prefix}config_reload"), StatValue::Counter(updates.reload));
    let at = milliseconds(updates.reloaded_at);
    visitor(scope, &format!("{prefix}config_reload_time_ms"), StatValue::Gauge(at));
}

/// Milliseconds since the epoch; 0 if it has never been.
fn milliseconds(at: Option<SystemTime>) -> u64 {
    let since = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
