//! The kinds that are read, and how the server names them.

use kube::Client;
use kube::core::ApiResource;

use crate::config::Kind;

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) group: &'static str,
    /// Versions in the order of preference.
    pub(super) versions: &'static [&'static str],
    pub(super) kind: &'static str,
    /// Objects of which only one is read: its namespace and name.
    pub(super) only: Option<(&'static str, &'static str)>,
}

/// The ConfigMap with the settings of the mesh.
const MESH_CONFIG: Watched =
    Watched { group: "", versions: &["v1"], kind: "ConfigMap", only: Some(("istio-system", "istio")) };

/// All of them. The resources that make Pods are not needed, because a server has the Pods; and EndpointSlices have what
/// Endpoints have.
pub(super) fn all() -> impl Iterator<Item = Watched> {
    let is_read = |kind: &&Kind| {
        !matches!(
            kind,
            Kind::Endpoints
                | Kind::Deployment
                | Kind::StatefulSet
                | Kind::DaemonSet
                | Kind::ReplicaSet
                | Kind::ReplicationController
                | Kind::Job
                | Kind::CronJob
        )
    };
    let of_kind = |kind: &Kind| {
        let api = kind.api();
        Watched { group: api.group, versions: api.versions, kind: kind.as_str(), only: None }
    };
    Kind::ALL.iter().filter(is_read).map(of_kind).chain([MESH_CONFIG])
}

/// A kind as the server has it.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) resource: ApiResource,
    pub(super) is_namespaced: bool,
}

/// The newest version that the server has; `None` if it does not have the kind.
pub(super) async fn discover(client: &Client, watched: Watched) -> kube::Result<Option<Served>> {
    for version in watched.versions {
        let found = if watched.group.is_empty() {
            client.list_core_api_resources(version).await
        } else {
            client.list_api_group_resources(&format!("{}/{version}", watched.group)).await
        };
        let list = match found {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error),
        };
        let named = list.resources.into_iter().find(|it| it.kind == watched.kind && !it.name.contains('/'));
        if let Some(found) = named {
            let api_version =
                if watched.group.is_empty() { (*version).to_owned() } else { format!("{}/{version}", watched.group) };
            let resource = ApiResource {
                group: watched.group.to_owned(),
                version: (*version).to_owned(),
                api_version,
                kind: watched.kind.to_owned(),
                plural: found.name,
            };
            return Ok(Some(Served { resource, is_namespaced: found.namespaced }));
        }
    }
    Ok(None)
}
