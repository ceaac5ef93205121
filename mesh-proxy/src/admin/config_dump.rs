//! `/config_dump`: what is in force, as it was given. Envoy `admin.v3.ConfigDump`.

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

use super::{Answer, Query};
use crate::state::State;

const TYPE_PREFIX: &str = "type.googleapis.com/envoy.admin.v3.";

/// The configuration in force.
#[derive(Debug, Default)]
pub(crate) struct ConfigDump {
    /// The file given by `--config-path`.
    pub(crate) bootstrap: Option<Box<Bootstrap>>,
    /// What a control plane gave.
    pub(crate) dynamic: Resources,
}

/// Resources of a control plane.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    pub(crate) version: String,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) routes: Vec<RouteConfiguration>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) endpoints: Vec<ClusterLoadAssignment>,
}

pub(super) fn config_dump(state: &State, query: &Query<'_>) -> Answer {
    let mut sections = state.config_dump.lock().sections(query.has("include_eds"));
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

impl ConfigDump {
    /// Whether everything comes from a bootstrap.
    pub(crate) fn is_static(&self) -> bool {
        self.bootstrap.is_some()
    }

    fn sections(&self, include_endpoints: bool) -> Vec<Value> {
        let bootstrap = BootstrapConfigDump { bootstrap: self.bootstrap.as_deref().cloned(), ..Default::default() };
        let mut sections = vec![
            section("BootstrapConfigDump", &to_json(&bootstrap)),
            section("ClustersConfigDump", &to_json(&self.clusters())),
        ];
        if include_endpoints {
            sections.push(section("EndpointsConfigDump", &to_json(&self.endpoints())));
        }
        sections.extend([
            section("ListenersConfigDump", &to_json(&self.listeners())),
            // Scoped routes are not supported, so there never are any; the section stays for those who look for it.
            json!({ "@type": format!("{TYPE_PREFIX}ScopedRoutesConfigDump") }),
            section("RoutesConfigDump", &to_json(&self.routes())),
            section("SecretsConfigDump", &to_json(&SecretsConfigDump::default())),
        ]);
        sections
    }

    fn clusters(&self) -> ClustersConfigDump {
        let statics = self.bootstrap.iter().filter_map(|bootstrap| bootstrap.static_resources.as_ref());
        ClustersConfigDump {
            version_info: self.dynamic.version.clone(),
            static_clusters: statics
                .flat_map(|resources| &resources.clusters)
                .map(|cluster| clusters_config_dump::StaticCluster {
                    cluster: Some(pack(cluster)),
                    ..Default::default()
                })
                .collect(),
            dynamic_active_clusters: self
                .dynamic
                .clusters
                .iter()
                .map(|cluster| clusters_config_dump::DynamicCluster {
                    version_info: self.dynamic.version.clone(),
                    cluster: Some(pack(cluster)),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn listeners(&self) -> ListenersConfigDump {
        let statics = self.bootstrap.iter().filter_map(|bootstrap| bootstrap.static_resources.as_ref());
        ListenersConfigDump {
            version_info: self.dynamic.version.clone(),
            static_listeners: statics
                .flat_map(|resources| &resources.listeners)
                .map(|listener| listeners_config_dump::StaticListener {
                    listener: Some(pack(listener)),
                    ..Default::default()
                })
                .collect(),
            dynamic_listeners: self
                .dynamic
                .listeners
                .iter()
                .map(|listener| listeners_config_dump::DynamicListener {
                    name: listener.name.clone(),
                    active_state: Some(listeners_config_dump::DynamicListenerState {
                        version_info: self.dynamic.version.clone(),
                        listener: Some(pack(listener)),
                        ..Default::default()
                    }),
                    ..Default::default()
                })
                .collect(),
        }
    }

    fn routes(&self) -> RoutesConfigDump {
        RoutesConfigDump {
            dynamic_route_configs: self
                .dynamic
                .routes
                .iter()
                .map(|routes| routes_config_dump::DynamicRouteConfig {
                    version_info: self.dynamic.version.clone(),
                    route_config: Some(pack(routes)),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn endpoints(&self) -> EndpointsConfigDump {
        EndpointsConfigDump {
            dynamic_endpoint_configs: self
                .dynamic
                .endpoints
                .iter()
                .map(|endpoints| endpoints_config_dump::DynamicEndpointConfig {
                    version_info: self.dynamic.version.clone(),
                    endpoint_config: Some(pack(endpoints)),
                    ..Default::default()
                })
                .collect(),
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
