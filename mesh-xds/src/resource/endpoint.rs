//! `envoy.config.endpoint.v3.ClusterLoadAssignment`.

use std::num::NonZeroU32;
use std::sync::Arc;

use mesh_core::model::{
    DropOverload, Endpoint, EndpointAddress, FractionalPercent, HealthStatus, LoadAssignment, Locality,
    LocalityEndpoints, Workload,
};

use super::field::{At, Result, fields};
use super::value::{address, enumeration, fraction, in_range, list, optional, required};
use crate::proto::envoy::config::core::v3::{HealthStatus as ProtoHealthStatus, Locality as ProtoLocality, Metadata};
use crate::proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as ProtoEndpoint, LbEndpoint, LocalityLbEndpoints,
    cluster_load_assignment::{Policy, policy::DropOverload as ProtoDropOverload},
    lb_endpoint::HostIdentifier,
};

/// Whether the address of an endpoint may be a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// It may, in clusters that resolve names.
    Allowed,
    /// It must be an IP address.
    Refused,
}

/// Envoy's default of `overprovisioning_factor`, in percent.
const DEFAULT_OVERPROVISIONING: u32 = 140;

/// Decodes the endpoints of a cluster.
pub(super) fn decode(at: &At<'_>, assignment: &ClusterLoadAssignment, names: Names) -> Result<LoadAssignment> {
    fields! {
        ClusterLoadAssignment = assignment, at;
        use { cluster_name, endpoints, policy }
        ignore {}
        refuse { named_endpoints }
    }
    // The caller reads the name.
    let _ = cluster_name;
    let localities = list(at, "endpoints", endpoints, |at, group| locality(at, group, names))?;
    refuse_priority_gap(at, &localities)?;
    let mut model = LoadAssignment::new(localities);
    optional(&at.field("policy"), policy.as_ref(), |at, policy| decode_policy(at, policy, &mut model))?;
    Ok(model)
}

fn decode_policy(at: &At<'_>, policy: &Policy, model: &mut LoadAssignment) -> Result<()> {
    fields! {
        Policy = policy, at;
        use { overprovisioning_factor, drop_overloads }
        ignore { endpoint_stale_after: "endpoints stay until they are replaced" }
        refuse { weighted_priority_health }
    }
    let factor = overprovisioning_factor.unwrap_or(DEFAULT_OVERPROVISIONING);
    model.overprovisioning_factor = in_range(&at.field("overprovisioning_factor"), factor, 1, u32::MAX)?;
    model.drop_overloads = list(at, "drop_overloads", drop_overloads, drop_overload)?;
    Ok(())
}

fn drop_overload(at: &At<'_>, drop: &ProtoDropOverload) -> Result<DropOverload> {
    let ProtoDropOverload { category, drop_percentage } = drop;
    let drop_percentage = optional(&at.field("drop_percentage"), drop_percentage.as_ref(), fraction)?;
    let drop_percentage = drop_percentage.unwrap_or(FractionalPercent::ZERO);
    Ok(DropOverload { category: category.as_str().into(), drop_percentage })
}

/// Refuses priorities that do not start at 0 or have a gap, as Envoy and gRPC do.
fn refuse_priority_gap(at: &At<'_>, localities: &[LocalityEndpoints]) -> Result<()> {
    let mut priorities: Vec<u32> = localities.iter().map(|group| group.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    match priorities.iter().zip(0u32..).find(|(found, expected)| *found != expected) {
        None => Ok(()),
        Some((found, expected)) => {
            let reason = format!("there is a priority {found}, but no priority {expected}; priorities have no gaps");
            Err(at.field("endpoints").refuse(reason))
        }
    }
}

fn locality(at: &At<'_>, group: &LocalityLbEndpoints, names: Names) -> Result<LocalityEndpoints> {
    fields! {
        LocalityLbEndpoints = group, at;
        use { locality, lb_endpoints, load_balancing_weight, priority }
        ignore {
            metadata: "metadata of a locality is not used",
            proximity: "it has no effect in Envoy either",
        }
        refuse { lb_config }
    }
    let locality = locality.as_ref().map_or_else(Locality::default, |locality| {
        let ProtoLocality { region, zone, sub_zone } = locality;
        Locality { region: region.as_str().into(), zone: zone.as_str().into(), sub_zone: sub_zone.as_str().into() }
    });
    let endpoints = list(at, "lb_endpoints", lb_endpoints, |at, endpoint| lb_endpoint(at, endpoint, names))?;
    let mut model = LocalityEndpoints::new(locality, endpoints);
    model.priority = in_range(&at.field("priority"), *priority, 0, 128)?;
    model.load_balancing_weight = load_balancing_weight.and_then(NonZeroU32::new);
    Ok(model)
}

fn lb_endpoint(at: &At<'_>, lb_endpoint: &LbEndpoint, names: Names) -> Result<Endpoint> {
    let LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = lb_endpoint;
    let endpoint = match host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => return Err(at.field("endpoint_name").refuse("not supported")),
        None => return Err(at.field("endpoint").refuse("is missing")),
    };
    let at_endpoint = at.field("endpoint");
    fields! {
        ProtoEndpoint = endpoint, at_endpoint;
        use { address, hostname }
        ignore {
            health_check_config: "there is no active health checking",
            observability_name: "endpoints are named by their address",
        }
        refuse { additional_addresses }
    }
    let weight_at = at.field("load_balancing_weight");
    let load_balancing_weight = optional(&weight_at, load_balancing_weight.as_ref(), |at, weight| {
        NonZeroU32::new(*weight).ok_or_else(|| at.refuse("0 is not in 1..=4294967295"))
    })?;
    let mut model = Endpoint::new(endpoint_address(&at_endpoint.field("address"), address.as_ref(), names)?);
    model.hostname = (!hostname.is_empty()).then(|| hostname.as_str().into());
    model.load_balancing_weight = load_balancing_weight.unwrap_or(model.load_balancing_weight);
    model.health_status = health(enumeration(&at.field("health_status"), *health_status)?);
    model.workload = metadata.as_ref().and_then(workload).map(Arc::new);
    let labels = metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get("envoy.transport_socket_match"));
    let labels_at = at.field("metadata");
    let labels = optional(&labels_at, labels, super::metadata::labels)?;
    model.transport_socket_match = labels.map(Arc::new);
    Ok(model)
}

fn endpoint_address(
    at: &At<'_>,
    value: Option<&crate::proto::envoy::config::core::v3::Address>,
    names: Names,
) -> Result<EndpointAddress> {
    match address(at, required(at, value)?)? {
        EndpointAddress::Name { host, .. } if names == Names::Refused => {
            let reason = format!("{host:?} is not an IP address (the cluster's type does not resolve names)");
            Err(at.field("socket_address.address").refuse(reason))
        }
        address => Ok(address),
    }
}

fn health(status: ProtoHealthStatus) -> HealthStatus {
    match status {
        ProtoHealthStatus::Unknown => HealthStatus::Unknown,
        ProtoHealthStatus::Healthy => HealthStatus::Healthy,
        ProtoHealthStatus::Unhealthy => HealthStatus::Unhealthy,
        ProtoHealthStatus::Draining => HealthStatus::Draining,
        ProtoHealthStatus::Timeout => HealthStatus::Timeout,
        ProtoHealthStatus::Degraded => HealthStatus::Degraded,
    }
}

/// Istio's `filter_metadata["istio"]["workload"]`: `workload;namespace;canonical service;canonical revision;cluster`. It
/// does not contain the labels `app` and `version`.
///
/// Other metadata of an endpoint is used by subset selection and transport socket matches only, both of which are refused
/// in clusters.
fn workload(metadata: &Metadata) -> Option<Workload> {
    let text = super::metadata::string(metadata, "istio", "workload")?;
    let mut parts = text.split(';').map(Arc::<str>::from);
    let mut next = || parts.next().unwrap_or_default();
    let mut workload = Workload::new(&next(), &next());
    workload.canonical_service = next();
    workload.canonical_revision = next();
    workload.cluster = next();
    Some(workload)
}
