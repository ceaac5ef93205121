//! The TCP proxy that ends a chain, and the filters in front of it.

use crate::config::{DestinationRule, OutboundTrafficPolicy, Protocol, RouteDestination, VirtualService};
use crate::registry::Service;
use crate::translate::entry::Entry;
use crate::translate::filter::{Side, TcpChain, network_filter, network_filters};
use crate::translate::names::{BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, inbound_cluster, outbound_cluster};
use crate::translate::proto::{any, duration, listener as envoy, tcp_proxy as proto};
use crate::translate::view::View;
use mesh_core::node::Role;
use proto::tcp_proxy::weighted_cluster::ClusterWeight;
use proto::tcp_proxy::{ClusterSpecifier, WeightedCluster};

/// Name of the network filter.
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// Where the connections of a chain go.
struct TcpProxy<'a> {
    stat_prefix: String,
    clusters: ClusterSpecifier,
    /// The policy of the service that is called.
    rule: Option<&'a DestinationRule>,
}

/// Filters for the connections that a rule matches.
pub(super) fn by_rule(
    entry: &Entry<'_>,
    service: &VirtualService,
    route: &[RouteDestination],
    protocol: Protocol,
) -> Vec<envoy::Filter> {
    let (stat_prefix, clusters) = match route {
        [only] => {
            let cluster = entry.cluster(service, &only.destination);
            (cluster.clone(), ClusterSpecifier::Cluster(cluster))
        }
        several => {
            let weighted = several.iter().filter(|destination| destination.weight > 0).map(|weighted| ClusterWeight {
                name: entry.cluster(service, &weighted.destination),
                weight: weighted.weight,
                ..ClusterWeight::default()
            });
            let clusters = WeightedCluster { clusters: weighted.collect() };
            let stat_prefix = format!("{}.{}", service.metadata.name, service.metadata.namespace);
            (stat_prefix, ClusterSpecifier::WeightedClusters(clusters))
        }
    };
    // As in istiod, the policy of the first destination counts for all.
    let called = route
        .first()
        .and_then(|first| entry.view.mesh.registry.find(&first.destination.host, &service.metadata.namespace));
    let rule = called.and_then(|called| rule_of(entry.view, called));
    TcpProxy { stat_prefix, clusters, rule }.filters(entry.view, side(entry.view), protocol)
}

/// Filters for the connections to a service that no rule matches. If the service has only one port, it is used on
/// listeners of any port.
pub(super) fn to_service(entry: &Entry<'_>, service: &Service, protocol: Protocol) -> Vec<envoy::Filter> {
    let port = if let [only] = service.ports.as_slice() { only.number } else { entry.port };
    let cluster = outbound_cluster(port, "", &service.host);
    TcpProxy { rule: rule_of(entry.view, service), ..TcpProxy::to(cluster) }.filters(
        entry.view,
        side(entry.view),
        protocol,
    )
}

/// Filters for the connections to a cluster of a service.
pub(super) fn to_cluster(view: &View<'_>, cluster: String, service: &Service) -> Vec<envoy::Filter> {
    TcpProxy { rule: rule_of(view, service), ..TcpProxy::to(cluster) }.filters(view, side(view), Protocol::Tls)
}

/// Filters for the connections to the node's workload.
pub(in crate::translate::listener) fn to_workload(
    view: &View<'_>,
    port: u16,
    protocol: Protocol,
) -> Vec<envoy::Filter> {
    TcpProxy::to(inbound_cluster(port)).filters(view, Side::Inbound, protocol)
}

/// The chain for intercepted connections that no other chain matches.
pub(in crate::translate::listener) fn to_unknown(view: &View<'_>) -> envoy::FilterChain {
    let cluster = match view.outbound_traffic_policy() {
        OutboundTrafficPolicy::AllowAny => PASSTHROUGH_CLUSTER,
        OutboundTrafficPolicy::RegistryOnly => BLACK_HOLE_CLUSTER,
    };
    envoy::FilterChain {
        name: "PassthroughFilterChain".to_owned(),
        filters: TcpProxy::to(cluster.to_owned()).filters(view, Side::Outbound, Protocol::Tcp),
        ..envoy::FilterChain::default()
    }
}

fn side(view: &View<'_>) -> Side {
    if view.node.role == Role::Gateway { Side::Edge } else { Side::Outbound }
}

fn rule_of<'a>(view: &View<'a>, service: &Service) -> Option<&'a DestinationRule> {
    view.mesh.destination_rules.find(service, &view.node.namespace)
}

impl TcpProxy<'_> {
    /// To one cluster, without a policy.
    fn to(cluster: String) -> Self {
        Self { stat_prefix: cluster.clone(), clusters: ClusterSpecifier::Cluster(cluster), rule: None }
    }

    fn filters(self, view: &View<'_>, side: Side, protocol: Protocol) -> Vec<envoy::Filter> {
        let mut filters = network_filters(view, side, &TcpChain { protocol, stat_prefix: &self.stat_prefix });
        let pool = self.rule.and_then(|rule| rule.traffic_policy.connection_pool.as_ref());
        let config = proto::TcpProxy {
            stat_prefix: self.stat_prefix,
            cluster_specifier: Some(self.clusters),
            idle_timeout: pool.and_then(|pool| pool.tcp_idle_timeout).map(duration),
            max_downstream_connection_duration: pool.and_then(|pool| pool.max_connection_duration).map(duration),
            ..proto::TcpProxy::default()
        };
        filters.push(network_filter(TCP_PROXY, any(&config)));
        filters
    }
}
