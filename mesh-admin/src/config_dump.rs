//! `/config_dump`: the configuration in force. Envoy `admin.v3.ConfigDump`.

use std::{collections::HashSet, sync::Arc};

use http::StatusCode;
use mesh_xds::{
    client::{Accepted, ResourceStatus, TypeStatus},
    json::{Json, to_json},
    proto::envoy::{
        admin::v3::{
            BootstrapConfigDump, ClustersConfigDump, EndpointsConfigDump, ListenersConfigDump, RoutesConfigDump,
            SecretsConfigDump, UpdateFailureState, clusters_config_dump, endpoints_config_dump, listeners_config_dump,
            routes_config_dump,
        },
        config::{bootstrap::v3::Bootstrap, cluster::v3::Cluster, listener::v3::Listener},
    },
    resource::{ResourceType, pack},
    status::{ConfigStatus, RefusedResource, SourceRefusal},
};
use prost_types::{Any, Timestamp};
use serde_json::{Value, json};

use crate::{Answer, Query, redact::redact};

const TYPE_PREFIX: &str = "type.googleapis.com/envoy.admin.v3.";

/// The sources of the configuration in force. Configuration from code is in neither.
#[derive(Clone, Debug, Default)]
pub struct ConfigDump {
    /// An Envoy bootstrap.
    pub bootstrap: Option<Arc<Bootstrap>>,
    /// What was received from a control plane, such as the one of a directory in the process.
    pub dynamic: Option<ConfigStatus>,
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

impl ConfigDump {
    /// The names of the clusters in the bootstrap.
    pub(crate) fn static_clusters(&self) -> HashSet<&str> {
        let resources = self.bootstrap.as_ref().and_then(|bootstrap| bootstrap.static_resources.as_ref());
        resources.into_iter().flat_map(|all| &all.clusters).map(|cluster| cluster.name.as_str()).collect()
    }

    /// Whether the process ends if a listener cannot be started with it: those of a bootstrap must, and those of a
    /// directory. Those of a control plane are retried.
    #[must_use]
    pub fn must_start(&self, listener: &str) -> bool {
        // A listener of a bootstrap without a name is called by its address, so those of the control plane are asked.
        self.bootstrap.is_none()
            || self
                .dynamic
                .as_ref()
                .is_none_or(|dynamic| !dynamic.client.of_type(ResourceType::Listener).resources.contains_key(listener))
    }

    fn sections(&self, include_endpoints: bool) -> Vec<Value> {
        let bootstrap = BootstrapConfigDump { bootstrap: self.bootstrap.as_deref().cloned(), ..Default::default() };
        let statics = self.bootstrap.as_ref().and_then(|bootstrap| bootstrap.static_resources.as_ref());
        let (listeners, clusters) = statics.map_or((&[][..], &[][..]), |all| (&all.listeners[..], &all.clusters[..]));
        let dynamic = self.dynamic.clone().unwrap_or_default();
        let of = |resource_type| dynamic.client.of_type(resource_type);
        let mut sections = vec![
            section("BootstrapConfigDump", &to_json(&bootstrap)),
            section("ClustersConfigDump", &to_json(&clusters_dump(&of(ResourceType::Cluster), clusters))),
        ];
        if include_endpoints {
            let endpoints = endpoints_dump(&of(ResourceType::ClusterLoadAssignment));
            sections.push(section("EndpointsConfigDump", &to_json(&endpoints)));
        }
        sections.extend([
            section("ListenersConfigDump", &to_json(&listeners_dump(&of(ResourceType::Listener), listeners))),
            // Scoped routes are not supported. The section is empty, as in Envoy without scoped routes.
            json!({ "@type": format!("{TYPE_PREFIX}ScopedRoutesConfigDump") }),
            section("RoutesConfigDump", &to_json(&routes_dump(&of(ResourceType::RouteConfiguration)))),
            section("SecretsConfigDump", &to_json(&SecretsConfigDump::default())),
        ]);
        sections.extend(dynamic.source.and_then(|source| source.refusal()).map(|refusal| refused_sources(&refusal)));
        sections.iter_mut().for_each(redact);
        sections
    }
}

fn clusters_dump(status: &TypeStatus, statics: &[Cluster]) -> ClustersConfigDump {
    let dynamic = |(_, status): (&Arc<str>, &ResourceStatus)| {
        let (version_info, cluster, last_updated) = accepted(status);
        let error_state = error_state(status);
        clusters_config_dump::DynamicCluster { version_info, cluster, last_updated, error_state, ..Default::default() }
    };
    let fixed = |cluster| clusters_config_dump::StaticCluster { cluster: Some(pack(cluster)), ..Default::default() };
    let mut statics: Vec<_> = statics.iter().collect();
    statics.sort_by(|a, b| a.name.cmp(&b.name));
    ClustersConfigDump {
        version_info: status.updates.version.to_string(),
        static_clusters: statics.into_iter().map(fixed).collect(),
        dynamic_active_clusters: status.resources.iter().map(dynamic).collect(),
        ..Default::default()
    }
}

fn listeners_dump(status: &TypeStatus, statics: &[Listener]) -> ListenersConfigDump {
    let dynamic = |(name, status): (&Arc<str>, &ResourceStatus)| {
        let (version_info, listener, last_updated) = accepted(status);
        listeners_config_dump::DynamicListener {
            name: name.to_string(),
            active_state: listener.map(|listener| listeners_config_dump::DynamicListenerState {
                version_info,
                listener: Some(listener),
                last_updated,
            }),
            error_state: error_state(status),
            ..Default::default()
        }
    };
    let fixed =
        |listener| listeners_config_dump::StaticListener { listener: Some(pack(listener)), ..Default::default() };
    ListenersConfigDump {
        version_info: status.updates.version.to_string(),
        static_listeners: statics.iter().map(fixed).collect(),
        dynamic_listeners: status.resources.iter().map(dynamic).collect(),
    }
}

fn routes_dump(status: &TypeStatus) -> RoutesConfigDump {
    let dynamic = |(_, status): (&Arc<str>, &ResourceStatus)| {
        let (version_info, route_config, last_updated) = accepted(status);
        let error_state = error_state(status);
        routes_config_dump::DynamicRouteConfig {
            version_info,
            route_config,
            last_updated,
            error_state,
            ..Default::default()
        }
    };
    RoutesConfigDump { dynamic_route_configs: status.resources.iter().map(dynamic).collect(), ..Default::default() }
}

fn endpoints_dump(status: &TypeStatus) -> EndpointsConfigDump {
    let dynamic = |(_, status): (&Arc<str>, &ResourceStatus)| {
        let (version_info, endpoint_config, last_updated) = accepted(status);
        let error_state = error_state(status);
        endpoints_config_dump::DynamicEndpointConfig {
            version_info,
            endpoint_config,
            last_updated,
            error_state,
            ..Default::default()
        }
    };
    EndpointsConfigDump {
        dynamic_endpoint_configs: status.resources.iter().map(dynamic).collect(),
        ..Default::default()
    }
}

/// Version, resource and time of what was accepted last.
fn accepted(status: &ResourceStatus) -> (String, Option<Any>, Option<Timestamp>) {
    let accepted = status.accepted.as_ref();
    let parts = |accepted: &Accepted| {
        (accepted.version.to_string(), Some(Any::clone(&accepted.resource)), Some(accepted.at.into()))
    };
    accepted.map(parts).unwrap_or_default()
}

fn error_state(status: &ResourceStatus) -> Option<UpdateFailureState> {
    status.failure.as_ref().map(|failure| UpdateFailureState {
        failed_configuration: failure.resource.as_deref().cloned(),
        last_update_attempt: Some(failure.at.into()),
        details: failure.details.clone(),
        version_info: failure.version.to_string(),
    })
}

/// The resources of a directory that were refused before they became xDS, as `envoy.service.status.v3.ClientConfig` has
/// resources of any type. Envoy has no such section; clients that do not know it skip it.
fn refused_sources(refusal: &SourceRefusal) -> Value {
    let refused = |resource: &RefusedResource| {
        let error_state = UpdateFailureState {
            // The generated message of `google.protobuf.StringValue` is `String`.
            failed_configuration: resource.configuration.as_ref().map(pack),
            last_update_attempt: Some(refusal.at.into()),
            details: resource.details.clone(),
            version_info: refusal.version.clone(),
        };
        json!({
            "type_url": resource.type_url,
            "name": resource.name,
            "client_status": "NACKED",
            "error_state": serde_json::to_value(to_json(&error_state)).unwrap_or_default(),
        })
    };
    let refused: Vec<_> = refusal.resources.iter().map(refused).collect();
    json!({
        "@type": "type.googleapis.com/envoy.service.status.v3.ClientConfig",
        "generic_xds_configs": refused,
    })
}

fn section(name: &str, message: &Json) -> Value {
    let mut value = serde_json::to_value(message).unwrap_or_default();
    if !value.is_object() {
        value = json!({});
    }
    value["@type"] = format!("{TYPE_PREFIX}{name}").into();
    value
}
