//! `/config_dump`: the configuration in force. Envoy `admin.v3.ConfigDump`.

use std::{fmt, sync::Arc};

use http::StatusCode;
use mesh_xds::{
    json::{Json, to_json},
    proto::envoy::{
        admin::v3::{
            BootstrapConfigDump, ClustersConfigDump, EndpointsConfigDump, ListenersConfigDump, RoutesConfigDump,
            SecretsConfigDump, clusters_config_dump, endpoints_config_dump, listeners_config_dump, routes_config_dump,
        },
        config::{
            bootstrap::v3::Bootstrap, cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment,
            listener::v3::Listener, route::v3::RouteConfiguration,
        },
    },
    resource::pack,
};
use serde_json::{Value, json};

use crate::{Answer, Query};

const TYPE_PREFIX: &str = "type.googleapis.com/envoy.admin.v3.";

/// The sources of the configuration in force. Configuration from code is in neither.
#[derive(Clone, Debug, Default)]
pub struct ConfigDump {
    /// An Envoy bootstrap.
    pub bootstrap: Option<Arc<Bootstrap>>,
    /// A control plane, such as the one of a directory in the process.
    pub dynamic: Option<DynamicResources>,
}

/// The resources of a control plane for this process, read for each request.
#[derive(Clone)]
pub struct DynamicResources(Arc<dyn Fn() -> Resources + Send + Sync>);

/// The resources of a control plane.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Version of all of them.
    pub version: String,
    /// Listener discovery.
    pub listeners: Vec<Listener>,
    /// Route discovery.
    pub routes: Vec<RouteConfiguration>,
    /// Cluster discovery.
    pub clusters: Vec<Cluster>,
    /// Endpoint discovery.
    pub endpoints: Vec<ClusterLoadAssignment>,
}

pub(crate) fn config_dump(dump: &ConfigDump, query: &Query<'_>) -> Answer {
    let mut sections = dump.sections(query.has("include_eds"));
    if let Some(resource) = query.get("resource") {
        let found = sections.iter_mut().find_map(|section| section.get_mut(&resource).map(Value::take));
        return match found {
            Some(entries) => Answer::json(&json!({ "configs": entries })),
            None => Answer::text(format!("{resource} not found in config dump")).with_status(StatusCode::NOT_FOUND),
        };
    }
    if let Some(mask) = query.get("mask") {
        sections = mask.split(',').filter_map(|path| masked(&sections, path)).collect();
    }
    Answer::json(&json!({ "configs": sections }))
}

/// The first section that has the field at `path`, with this field only.
fn masked(sections: &[Value], path: &str) -> Option<Value> {
    let (section, value) = sections.iter().find_map(|section| {
        let value = path.split('.').try_fold(section, |value, field| value.get(field))?;
        Some((section, value))
    })?;
    let mut kept = path.rsplit('.').fold(value.clone(), |value, field| json!({ field: value }));
    kept["@type"] = section.get("@type").cloned().unwrap_or_default();
    Some(kept)
}

impl DynamicResources {
    /// `read` yields the resources of the moment.
    #[must_use]
    pub fn new(read: impl Fn() -> Resources + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for DynamicResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicResources").finish_non_exhaustive()
    }
}

impl ConfigDump {
    /// Whether everything comes from a bootstrap.
    pub(crate) fn is_static(&self) -> bool {
        self.bootstrap.is_some()
    }

    fn sections(&self, include_endpoints: bool) -> Vec<Value> {
        let bootstrap = BootstrapConfigDump { bootstrap: self.bootstrap.as_deref().cloned(), ..Default::default() };
        let statics = self.bootstrap.as_ref().and_then(|bootstrap| bootstrap.static_resources.as_ref());
        let (listeners, clusters) = statics.map_or((&[][..], &[][..]), |all| (&all.listeners[..], &all.clusters[..]));
        let dynamic = self.dynamic.as_ref().map(|dynamic| (dynamic.0)()).unwrap_or_default();
        let mut sections = vec![
            section("BootstrapConfigDump", &to_json(&bootstrap)),
            section("ClustersConfigDump", &to_json(&dynamic.clusters(clusters))),
        ];
        if include_endpoints {
            sections.push(section("EndpointsConfigDump", &to_json(&dynamic.endpoints())));
        }
        sections.extend([
            section("ListenersConfigDump", &to_json(&dynamic.listeners(listeners))),
            // Scoped routes are not supported. The section is empty, as in Envoy without scoped routes.
            json!({ "@type": format!("{TYPE_PREFIX}ScopedRoutesConfigDump") }),
            section("RoutesConfigDump", &to_json(&dynamic.routes())),
            section("SecretsConfigDump", &to_json(&SecretsConfigDump::default())),
        ]);
        sections
    }
}

impl Resources {
    fn clusters(&self, statics: &[Cluster]) -> ClustersConfigDump {
        let active = |cluster| clusters_config_dump::DynamicCluster {
            version_info: self.version.clone(),
            cluster: Some(pack(cluster)),
            ..Default::default()
        };
        let fixed =
            |cluster| clusters_config_dump::StaticCluster { cluster: Some(pack(cluster)), ..Default::default() };
        let mut statics: Vec<_> = statics.iter().collect();
        statics.sort_by(|a, b| a.name.cmp(&b.name));
        ClustersConfigDump {
            version_info: self.version.clone(),
            static_clusters: statics.into_iter().map(fixed).collect(),
            dynamic_active_clusters: self.clusters.iter().map(active).collect(),
            ..Default::default()
        }
    }

    fn listeners(&self, statics: &[Listener]) -> ListenersConfigDump {
        let active = |listener: &Listener| listeners_config_dump::DynamicListener {
            name: listener.name.clone(),
            active_state: Some(listeners_config_dump::DynamicListenerState {
                version_info: self.version.clone(),
                listener: Some(pack(listener)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let fixed =
            |listener| listeners_config_dump::StaticListener { listener: Some(pack(listener)), ..Default::default() };
        ListenersConfigDump {
            version_info: self.version.clone(),
            static_listeners: statics.iter().map(fixed).collect(),
            dynamic_listeners: self.listeners.iter().map(active).collect(),
        }
    }

    fn routes(&self) -> RoutesConfigDump {
        let active = |routes| routes_config_dump::DynamicRouteConfig {
            version_info: self.version.clone(),
            route_config: Some(pack(routes)),
            ..Default::default()
        };
        RoutesConfigDump { dynamic_route_configs: self.routes.iter().map(active).collect(), ..Default::default() }
    }

    fn endpoints(&self) -> EndpointsConfigDump {
        let active = |endpoints| endpoints_config_dump::DynamicEndpointConfig {
            version_info: self.version.clone(),
            endpoint_config: Some(pack(endpoints)),
            ..Default::default()
        };
        EndpointsConfigDump {
            dynamic_endpoint_configs: self.endpoints.iter().map(active).collect(),
            ..Default::default()
        }
    }
}

fn section(name: &str, message: &Json) -> Value {
    let mut value = serde_json::to_value(message).unwrap_or_default();
    if !value.is_object() {
        value = json!({});
    }
    value["@type"] = format!("{TYPE_PREFIX}{name}").into();
    value
}
