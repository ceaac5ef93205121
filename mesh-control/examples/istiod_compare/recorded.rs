//! Recorded requests to istiod and its responses, and our translation in the same form.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh_control::config::Labels;
use mesh_control::registry::Registry;
use mesh_control::translate::{Interception, Node, Resources, Role};
use mesh_xds::json;
use mesh_xds::proto::envoy::config::{cluster, endpoint, listener, route};
use mesh_xds::proto::envoy::service::discovery::v3::DiscoveryResponse;
use prost::{Message, Name};
use serde::Deserialize;
use serde_json::Value;

use crate::Error;

/// Resources of all types as protobuf-JSON, by name.
pub(crate) struct Answers {
    pub(crate) listeners: BTreeMap<String, Value>,
    pub(crate) routes: BTreeMap<String, Value>,
    pub(crate) clusters: BTreeMap<String, Value>,
    pub(crate) endpoints: BTreeMap<String, Value>,
    /// Hosts of the services that the configuration has.
    hosts: BTreeSet<String>,
}

impl Answers {
    /// The recorded responses to a node; a type that was not requested is empty.
    pub(crate) fn read(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            listeners: by_name(&response::<listener::v3::Listener>(folder, "lds")?, "name"),
            routes: by_name(&response::<route::v3::RouteConfiguration>(folder, "rds")?, "name"),
            clusters: by_name(&response::<cluster::v3::Cluster>(folder, "cds")?, "name"),
            endpoints: by_name(&response::<endpoint::v3::ClusterLoadAssignment>(folder, "eds")?, "cluster_name"),
            hosts: BTreeSet::new(),
        })
    }

    /// Our translation, and the services that it is about.
    pub(crate) fn of(resources: &Resources, registry: &Registry) -> Self {
        Self {
            listeners: by_name(&resources.listeners, "name"),
            routes: by_name(&resources.routes, "name"),
            clusters: by_name(&resources.clusters, "name"),
            endpoints: by_name(&resources.endpoints, "cluster_name"),
            hosts: registry.services().iter().map(|service| service.host.to_string()).collect(),
        }
    }

    /// Whether this is the host of a service that our configuration does not have.
    pub(crate) fn is_left_out(&self, host: Option<&str>) -> bool {
        host.is_some_and(|host| !self.hosts.contains(host))
    }
}

fn response<M: Message + Name + Default>(folder: &Path, kind: &str) -> Result<Vec<M>, Error> {
    let path = folder.join(kind).with_extension("pb");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let response = DiscoveryResponse::decode(std::fs::read(&path)?.as_slice())?;
    response.resources.iter().map(|any| M::decode(any.value.as_slice()).map_err(Error::from)).collect()
}

fn by_name<M: Message + Name>(resources: &[M], key: &str) -> BTreeMap<String, Value> {
    let to_value = |resource| serde_json::to_value(json::to_json(resource)).unwrap_or_default();
    let named = |value: Value| (value[key].as_str().unwrap_or_default().to_owned(), value);
    resources.iter().map(|resource| named(to_value(resource))).collect()
}

#[derive(Deserialize)]
struct RecordedNode {
    name: String,
    id: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Metadata {
    generator: Option<String>,
    namespace: String,
    instance_ips: String,
    #[serde(default)]
    labels: Labels,
}

/// The recorded nodes. istiod finds the service of a node by its address.
pub(crate) fn nodes(folder: &Path, registry: &Registry) -> Result<Vec<(String, Node)>, Error> {
    let text = std::fs::read_to_string(folder.join("nodes.yaml"))?;
    let recorded: Vec<RecordedNode> = serde_saphyr::from_str(&text)?;
    let node = |recorded: RecordedNode| {
        let Metadata { generator, namespace, instance_ips, labels } = recorded.metadata;
        let role = match (generator.as_deref(), recorded.id.split('~').next()) {
            (Some("grpc"), _) => Role::Library,
            (_, Some("router")) => Role::Gateway,
            _ => Role::Sidecar(Interception::Redirect),
        };
        let serves = |address: &str| instance_ips.split(',').any(|own| own == address);
        let mut services = registry.services().iter();
        let service = services.find(|service| service.endpoints.iter().any(|endpoint| serves(&endpoint.address)));
        let service = service.map(|service| service.host.clone());
        (recorded.name, Node { labels, service, ..Node::client(role, namespace) })
    };
    Ok(recorded.into_iter().map(node).collect())
}
