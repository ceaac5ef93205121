//! Clusters of the services that a node may call, and of the workload it serves.

use super::endpoint::{Selection, load_assignment};
use super::filter;
use super::gateway_server::servers;
use super::names::{BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, inbound_cluster, outbound_cluster, sni};
use super::proto::{
    ads, any, boolean, cluster as envoy, core, duration, endpoint, istio_metadata, list, matcher, object,
    socket_address, string, tls,
};
use super::tls::Upstream;
use super::traffic_policy::Policy;
use super::view::View;
use crate::config::{DestinationRule, JwksUri, JwtKeys, Labels, Location, Resolution, Subset};
use crate::host::Host;
use crate::registry::{Port, Service};
use envoy::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily};
use mesh_core::node::{Interception, Role};
use prost_types::Struct;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Time until a name is looked up again after a failure. Istio `MeshConfig.dnsRefreshRate`.
const DNS_REFRESH_RATE: Duration = Duration::from_secs(60);
/// Time to connect of clusters without service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster for each port and subset of each service that the node may call or asks about requests, and the endpoints of those that have them discovered.
pub(super) fn outbound(view: &View<'_>) -> (Vec<envoy::Cluster>, Vec<endpoint::ClusterLoadAssignment>) {
    let mut clusters = special(view);
    let mut endpoints = Vec::new();
    for service in view.services.iter().copied().chain(filter::authorization::checking_service(view)) {
        let rule = view.mesh.destination_rules.find(service, &view.node.namespace);
        let subsets = rule.into_iter().flat_map(|rule| rule.subsets.iter().map(Some));
        for subset in std::iter::once(None).chain(subsets) {
            for port in &service.ports {
                let part = Part { service, port, rule, subset, is_passed_on: false };
                let (cluster, assignment) = part.build(view);
                clusters.push(cluster);
                endpoints.extend(assignment);
            }
        }
        for (port, subset) in passed_on(view, service) {
            let subset = rule.and_then(|rule| rule.subset(subset));
            let Some(port) = service.port(port) else { continue };
            let (cluster, assignment) = Part { service, port, rule, subset, is_passed_on: true }.build(view);
            clusters.push(cluster);
            endpoints.extend(assignment);
        }
    }
    (clusters, endpoints)
}

/// The ports and subsets of a service for which a gateway passes on mutual TLS between workloads.
fn passed_on<'a>(view: &View<'a>, service: &'a Service) -> BTreeSet<(u16, &'a str)> {
    if view.node.role != Role::Gateway {
        return BTreeSet::new();
    }
    servers(view).flat_map(|server| server.passed_on(view, service)).collect()
}

/// A port of a service, or of a subset of its endpoints.
struct Part<'a> {
    service: &'a Service,
    port: &'a Port,
    rule: Option<&'a DestinationRule>,
    subset: Option<&'a Subset>,
    /// Whether the connections are those of other workloads, with TLS that is not for this node.
    is_passed_on: bool,
}

impl Part<'_> {
    fn build(&self, view: &View<'_>) -> (envoy::Cluster, Option<endpoint::ClusterLoadAssignment>) {
        let subset = self.subset.map_or("", |subset| subset.name.as_str());
        let name = if self.is_passed_on {
            sni(self.port.number, subset, &self.service.host)
        } else {
            outbound_cluster(self.port.number, subset, &self.service.host)
        };
        let policy = Policy::of(self.rule, self.subset.map(|subset| &subset.traffic_policy), self.port.number);
        let no_labels = Labels::new();
        let labels = self.subset.map_or(&no_labels, |subset| &subset.labels);
        // Istio fails over between localities only if outlier detection can find that one has failed.
        let failover_from = policy.outlier_detection.map(|_| view.locality());
        let upstream = Upstream { view, service: self.service, port: self.port.number, subset, policy };
        let assignment = load_assignment(&name, &Selection { upstream, labels, failover_from });
        let mut cluster = envoy::Cluster { name: name.clone(), ..envoy::Cluster::default() };
        policy.write(&mut cluster, self.port.protocol.is_http2());
        let mut metadata = self.metadata();
        if upstream.keeps_alpn() {
            metadata.fields.insert("alpn_override".to_owned(), string("false"));
        }
        cluster.metadata = Some(istio_metadata(metadata));
        if !self.is_passed_on {
            upstream.write(&mut cluster);
        }
        let assignment = match self.service.resolution {
            Resolution::Static => {
                set_type(&mut cluster, DiscoveryType::Eds);
                cluster.eds_cluster_config =
                    Some(envoy::cluster::EdsClusterConfig { eds_config: Some(ads()), service_name: name });
                Some(assignment)
            }
            Resolution::Dns => {
                set_dns(&mut cluster, DiscoveryType::StrictDns, assignment);
                None
            }
            Resolution::DnsRoundRobin => {
                set_dns(&mut cluster, DiscoveryType::LogicalDns, assignment);
                None
            }
        };
        (cluster, assignment)
    }

    fn metadata(&self) -> Struct {
        let mut fields = object([("services", list(vec![service_metadata(self.service)]))]);
        let mut add = |name: &str, value| fields.fields.insert(name.to_owned(), value);
        if let Some(rule) = self.rule {
            add("config", string(rule.metadata.config_path()));
        }
        if let Some(subset) = self.subset {
            add("subset", string(subset.name.as_str()));
        }
        if self.service.location == Location::MeshExternal {
            add("external", boolean(true));
        }
        fields
    }
}

fn service_metadata(service: &Service) -> Struct {
    let host = service.host.as_str();
    object([("host", string(host)), ("name", string(host)), ("namespace", string(service.namespace.as_str()))])
}

fn set_type(cluster: &mut envoy::Cluster, discovery: DiscoveryType) {
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(discovery.into()));
}

fn set_dns(cluster: &mut envoy::Cluster, discovery: DiscoveryType, assignment: endpoint::ClusterLoadAssignment) {
    set_type(cluster, discovery);
    cluster.load_assignment = Some(assignment);
    cluster.dns_refresh_rate = Some(duration(DNS_REFRESH_RATE));
    cluster.respect_dns_ttl = true;
    cluster.set_dns_lookup_family(DnsLookupFamily::V4Only);
}

/// Clusters of requests that are for no service.
fn special(view: &View<'_>) -> Vec<envoy::Cluster> {
    let named = |name: &str, discovery| {
        let mut cluster = envoy::Cluster {
            name: name.to_owned(),
            connect_timeout: Some(duration(CONNECT_TIMEOUT)),
            ..envoy::Cluster::default()
        };
        set_type(&mut cluster, discovery);
        cluster
    };
    match view.node.role {
        Role::Library | Role::Sidecar(Interception::None) => Vec::new(),
        Role::Gateway => vec![named(BLACK_HOLE_CLUSTER, DiscoveryType::Static)],
        Role::Sidecar(Interception::Redirect) => {
            let mut passthrough = named(PASSTHROUGH_CLUSTER, DiscoveryType::OriginalDst);
            Policy::default().write_limits(&mut passthrough);
            passthrough.set_lb_policy(envoy::cluster::LbPolicy::ClusterProvided);
            vec![named(BLACK_HOLE_CLUSTER, DiscoveryType::Static), passthrough]
        }
    }
}

/// The cluster by which a sidecar reaches its workload; without a target it is the original destination.
pub(super) fn inbound(view: &View<'_>, port: u16, is_http2: bool, target: Option<SocketAddr>) -> envoy::Cluster {
    let name = inbound_cluster(port);
    let mut cluster = envoy::Cluster { name: name.clone(), ..envoy::Cluster::default() };
    let service = view.node.service.as_ref().and_then(|host| view.mesh.registry.find(host, &view.node.namespace));
    let rule = service.and_then(|service| view.mesh.destination_rules.find(service, &view.node.namespace));
    // A rule's limits also hold on the inbound side. Its port settings are for the service's port, which may differ from
    // the workload's.
    Policy::of(rule, None, view.service_port(port)).write_inbound(&mut cluster, is_http2);
    if let Some(service) = service {
        let mut fields = object([("services", list(vec![service_metadata(service)]))]);
        let config = rule.map(|rule| ("config".to_owned(), string(rule.metadata.config_path())));
        fields.fields.extend(config);
        cluster.metadata = Some(istio_metadata(fields));
    }
    match target {
        None => {
            set_type(&mut cluster, DiscoveryType::OriginalDst);
            cluster.set_lb_policy(envoy::cluster::LbPolicy::ClusterProvided);
        }
        Some(target) => {
            set_type(&mut cluster, DiscoveryType::Static);
            let address = socket_address(&target.ip().to_string(), target.port());
            cluster.load_assignment = Some(single_endpoint(name, address));
        }
    }
    cluster
}

/// The cluster of the keys of an issuer.
pub(super) struct JwksCluster {
    pub(super) name: String,
    /// Whether it is not that of a service, which the node has anyway.
    is_own: bool,
}

/// The cluster from which a node gets keys: that of the service, if the host is one that it may call without TLS, or one of its own.
pub(super) fn jwks_cluster(view: &View<'_>, uri: &JwksUri) -> JwksCluster {
    let host = Host::parse(&uri.host, &view.node.namespace).ok();
    let is_service = |host: &Host| {
        let mut services = view.services.iter();
        services.any(|service| service.host == *host && service.port(uri.port).is_some())
    };
    match host.filter(|host| !uri.is_tls && is_service(host)) {
        Some(host) => JwksCluster { name: outbound_cluster(uri.port, "", &host), is_own: false },
        None => {
            let scheme = if uri.is_tls { "https" } else { "http" };
            JwksCluster { name: format!("jwks|{scheme}|{}|{}", uri.port, uri.host), is_own: true }
        }
    }
}

/// The clusters from which the node gets keys, other than those of services.
pub(super) fn of_keys(view: &View<'_>) -> Vec<envoy::Cluster> {
    let mut clusters = std::collections::BTreeMap::new();
    for rule in filter::request_authentication::rules(view) {
        let JwtKeys::Remote(uri) = &rule.keys else { continue };
        let JwksCluster { name, is_own } = jwks_cluster(view, uri);
        if is_own {
            clusters.entry(name).or_insert_with_key(|name| keys_of(name, uri));
        }
    }
    clusters.into_values().collect()
}

fn keys_of(name: &str, uri: &JwksUri) -> envoy::Cluster {
    let mut cluster = envoy::Cluster {
        name: name.to_owned(),
        connect_timeout: Some(duration(CONNECT_TIMEOUT)),
        transport_socket: uri.is_tls.then(|| verified_tls(&uri.host)),
        ..envoy::Cluster::default()
    };
    let assignment = single_endpoint(name.to_owned(), socket_address(&uri.host, uri.port));
    if uri.host.parse::<std::net::IpAddr>().is_ok() {
        set_type(&mut cluster, DiscoveryType::Static);
        cluster.load_assignment = Some(assignment);
    } else {
        set_dns(&mut cluster, DiscoveryType::StrictDns, assignment);
    }
    cluster
}

/// TLS to a host outside of the mesh, whose certificate must be for its name.
fn verified_tls(host: &str) -> core::TransportSocket {
    use tls::{common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType};
    let is_ip = host.parse::<std::net::IpAddr>().is_ok();
    let name = tls::SubjectAltNameMatcher {
        san_type: if is_ip { SanType::IpAddress } else { SanType::Dns }.into(),
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(host.to_owned())),
            ..matcher::StringMatcher::default()
        }),
        ..tls::SubjectAltNameMatcher::default()
    };
    let validation = tls::CertificateValidationContext {
        trusted_ca: Some(core::DataSource {
            specifier: Some(core::data_source::Specifier::Filename(SYSTEM_CERTIFICATES.to_owned())),
            ..core::DataSource::default()
        }),
        match_typed_subject_alt_names: vec![name],
        ..tls::CertificateValidationContext::default()
    };
    let context = tls::UpstreamTlsContext {
        sni: if is_ip { String::new() } else { host.to_owned() },
        common_tls_context: Some(tls::CommonTlsContext {
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..tls::CommonTlsContext::default()
        }),
        ..tls::UpstreamTlsContext::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}

/// The authorities that the system trusts. Istio `file-root:system`.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

fn single_endpoint(cluster_name: String, address: core::Address) -> endpoint::ClusterLoadAssignment {
    let endpoint = endpoint::Endpoint { address: Some(address), ..endpoint::Endpoint::default() };
    let lb_endpoint = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..endpoint::LbEndpoint::default()
    };
    let locality =
        endpoint::LocalityLbEndpoints { lb_endpoints: vec![lb_endpoint], ..endpoint::LocalityLbEndpoints::default() };
    endpoint::ClusterLoadAssignment {
        cluster_name,
        endpoints: vec![locality],
        ..endpoint::ClusterLoadAssignment::default()
    }
}
