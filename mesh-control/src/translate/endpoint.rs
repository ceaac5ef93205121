//! Endpoints of a cluster, grouped by locality.

use std::collections::BTreeMap;

use mesh_core::node::CLUSTER_ID;

use super::proto::{core, endpoint as envoy, istio_metadata, object, socket_address, string};
use super::tls::Upstream;
use crate::config::Labels;
use crate::registry::Endpoint;

/// The endpoints of a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    /// The port of the service.
    pub(super) upstream: Upstream<'a>,
    /// Labels of the endpoints.
    pub(super) labels: &'a Labels,
    /// The locality of the client, from which farther endpoints have a lower priority.
    pub(super) failover_from: Option<&'a str>,
}

/// The endpoints of the selection, as a resource of this name.
pub(super) fn load_assignment(name: &str, selection: &Selection<'_>) -> envoy::ClusterLoadAssignment {
    let Selection { upstream, labels, failover_from } = selection;
    let mut localities: BTreeMap<&str, Vec<envoy::LbEndpoint>> = BTreeMap::new();
    for endpoint in upstream.service.endpoints.iter().filter(|endpoint| endpoint.is_selected_by(labels)) {
        if let Some(&target) = endpoint.ports.get(&upstream.port) {
            localities.entry(&endpoint.locality).or_default().push(lb_endpoint(upstream, endpoint, target));
        }
    }
    let priorities = priorities(localities.keys().copied(), failover_from.unwrap_or_default());
    let groups = localities.into_iter().map(|(name, lb_endpoints)| {
        let weights = lb_endpoints.iter().map(|endpoint| endpoint.load_balancing_weight.unwrap_or(1));
        let weight = weights.fold(0, u32::saturating_add);
        envoy::LocalityLbEndpoints {
            locality: Some(locality(name)),
            priority: priorities.get(name).copied().unwrap_or(0),
            load_balancing_weight: Some(weight),
            lb_endpoints,
            ..envoy::LocalityLbEndpoints::default()
        }
    });
    envoy::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: groups.collect(),
        ..envoy::ClusterLoadAssignment::default()
    }
}

fn lb_endpoint(upstream: &Upstream<'_>, endpoint: &Endpoint, port: u16) -> envoy::LbEndpoint {
    let address =
        envoy::Endpoint { address: Some(socket_address(&endpoint.address, port)), ..envoy::Endpoint::default() };
    let mut metadata = istio_metadata(object([("workload", string(workload(&endpoint.labels)))]));
    metadata.filter_metadata.extend(upstream.endpoint_metadata(endpoint, port));
    envoy::LbEndpoint {
        host_identifier: Some(envoy::lb_endpoint::HostIdentifier::Endpoint(address)),
        load_balancing_weight: Some(endpoint.weight),
        metadata: Some(metadata),
        ..envoy::LbEndpoint::default()
    }
}

/// `name;namespace;canonical name;canonical revision;cluster`. Workloads of ServiceEntries have no name of their own.
fn workload(labels: &Labels) -> String {
    let first = |keys: [&str; 3]| keys.into_iter().find_map(|key| labels.get(key)).map_or("", String::as_str);
    let name = first(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = first(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    format!(";;{name};{revision};{CLUSTER_ID}")
}

fn split(locality: &str) -> (&str, &str, &str) {
    let mut parts = locality.splitn(3, '/');
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}

fn locality(text: &str) -> core::Locality {
    let (region, zone, sub_zone) = split(text);
    core::Locality { region: region.to_owned(), zone: zone.to_owned(), sub_zone: sub_zone.to_owned() }
}

/// Priorities of localities as seen from the client's: 0 for the nearest, without gaps, as Envoy requires. All are 0 if the
/// client has no locality.
fn priorities<'a>(localities: impl Iterator<Item = &'a str>, client: &str) -> BTreeMap<&'a str, u32> {
    if client.is_empty() {
        return BTreeMap::new();
    }
    let own = split(client);
    let distances: BTreeMap<&str, u32> = localities
        .map(|name| {
            let other = split(name);
            let shared = [own.0 == other.0, own.1 == other.1, own.2 == other.2];
            (name, 3 - u32::try_from(shared.iter().take_while(|shared| **shared).count()).unwrap_or(0))
        })
        .collect();
    let mut used: Vec<_> = distances.values().copied().collect();
    used.sort_unstable();
    used.dedup();
    let rank = |distance| used.iter().zip(0..).find(|(used, _)| **used == distance).map_or(0, |(_, rank)| rank);
    distances.into_iter().map(|(name, distance)| (name, rank(distance))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearer_localities_come_first_without_gaps() {
        let all = ["r1/z1", "r1/z2", "r2/z1", ""];
        for (client, expected) in [("", vec![]), ("r1/z2", vec![2, 1, 0, 2]), ("r3/z1", vec![0, 0, 0, 0])] {
            let found = priorities(all.into_iter(), client);
            let expected: BTreeMap<_, _> = ["", "r1/z1", "r1/z2", "r2/z1"].into_iter().zip(expected).collect();
            assert_eq!(found, expected, "seen from {client:?}");
        }
    }
}
