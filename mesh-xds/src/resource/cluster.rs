//! `envoy.config.cluster.v3.Cluster`. The options of its connections are decoded in `protocol_options`, circuit breakers
//! and outlier detection in `resilience`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::model::{
    Cluster, DestinationService, Discovery, DnsLookupFamily, DnsOptions, Percent, TransportSocketMatch,
};

use super::endpoint::{self, Names};
use super::field::{At, Result, fields};
use super::value::{duration, enumeration, list, optional, positive_duration, required, unpack, whole_percent};
use super::{config_source, lb_policy, metadata, original_dst, protocol_options, resilience, transport_socket};
use crate::descriptor::{describe, type_name};
use crate::filter::decode_without_effect;
use crate::proto::envoy::config::cluster::v3::{
    Cluster as ProtoCluster,
    cluster::{
        ClusterDiscoveryType, CommonLbConfig, CustomClusterType, DiscoveryType,
        DnsLookupFamily as ProtoDnsLookupFamily, EdsClusterConfig, LbPolicy as ProtoLbPolicy,
        TransportSocketMatch as ProtoTransportSocketMatch,
        common_lb_config::{LocalityConfigSpecifier, ZoneAwareLbConfig},
    },
};
use crate::proto::envoy::config::core::v3::{ConfigSource, TypedExtensionConfig, config_source::ConfigSourceSpecifier};
use crate::proto::envoy::extensions::clusters::aggregate::v3::ClusterConfig as AggregateConfig;

/// Why options of Envoy's DNS resolvers have no effect.
pub(super) const OWN_RESOLVER: &str = "names are resolved by the mesh's own resolver";

/// Decodes a cluster.
#[expect(clippy::too_many_lines, reason = "a list of all fields, then one line per field")]
pub(super) fn decode(at: &At<'_>, cluster: &ProtoCluster) -> Result<Cluster> {
    fields! {
        ProtoCluster = cluster, at;
        use {
            name, alt_stat_name, eds_cluster_config, connect_timeout, per_connection_buffer_limit_bytes, lb_policy,
            load_assignment, circuit_breakers, typed_extension_protocol_options, dns_refresh_rate, respect_dns_ttl,
            dns_lookup_family, typed_dns_resolver_config, outlier_detection, common_lb_config, transport_socket,
            metadata, upstream_connection_options, filters, load_balancing_policy, cluster_discovery_type, lb_config,
            max_requests_per_connection, common_http_protocol_options, http_protocol_options, http2_protocol_options,
            protocol_selection, transport_socket_matches, lrs_server, cleanup_interval, upstream_bind_config,
        }
        ignore {
            stats_matcher: "all statistics are kept",
            dns_jitter: OWN_RESOLVER,
            dns_failure_refresh_rate: "a failed query is repeated at dns_refresh_rate",
            use_tcp_for_dns_lookups: OWN_RESOLVER,
            wait_for_warm_on_init: "requests to a cluster without endpoints are answered with 503",
            ignore_health_on_host_removal: "there is no active health checking",
            track_timeout_budgets: "it enables statistics",
            track_cluster_stats: "it enables statistics",
            preconnect_policy: "connections are established when they are needed",
            per_connection_buffer_high_watermark_timeout: "it tunes Envoy's buffers",
            close_connections_on_host_health_failure: "there is no active health checking",
        }
        refuse {
            transport_socket_matcher, health_checks, upstream_http_protocol_options,
            dns_resolvers, dns_resolution_config, lb_subset_config,
            lrs_report_endpoint_metrics, upstream_config, connection_pool_per_downstream_connection, queuing_policies,
        }
    }
    let socket_at = at.field("transport_socket");
    let transport_socket = optional(&socket_at, transport_socket.as_ref(), transport_socket::upstream);
    let resolver_at = at.field("typed_dns_resolver_config");
    let resolver = optional(&resolver_at, typed_dns_resolver_config.as_ref(), only_default_resolver);
    for (index, filter) in filters.iter().enumerate() {
        decode_without_effect(&at.item("filters", index), &filter.name, filter.typed_config.as_ref())?;
    }
    let common_lb = optional(&at.field("common_lb_config"), common_lb_config.as_ref(), common_lb);
    let lb = if is_original_dst(cluster) || is_provided(*lb_policy, cluster_discovery_type.as_ref()) {
        Ok(lb_policy::Chosen::default())
    } else {
        lb_policy::decode(at, *lb_policy, lb_config.as_ref(), load_balancing_policy.as_ref())
    };
    let ((transport_socket, _), (common_lb, lb)) =
        at.both(at.both(transport_socket, resolver), at.both(common_lb, lb))?;
    let common_lb = common_lb.unwrap_or_default();
    let refresh_rate = optional(&at.field("dns_refresh_rate"), dns_refresh_rate.as_ref(), positive_duration)?;
    let mut dns = DnsOptions::default();
    dns.dns_refresh_rate = refresh_rate.unwrap_or(dns.dns_refresh_rate);
    dns.respect_dns_ttl = *respect_dns_ttl;
    dns.dns_lookup_family = lookup_family(enumeration(&at.field("dns_lookup_family"), *dns_lookup_family)?);
    // Read by `discovery`.
    let _ = (cluster_discovery_type, load_assignment, eds_cluster_config, cleanup_interval);
    let mut model = Cluster::new(name.as_str(), discovery(at, cluster, dns)?);
    let bind_at = at.field("upstream_bind_config");
    model.source_address = optional(&bind_at, upstream_bind_config.as_ref(), original_dst::source_address)?.flatten();
    if !alt_stat_name.is_empty() {
        model.stat_name = alt_stat_name.as_str().into();
    }
    let connect_timeout = optional(&at.field("connect_timeout"), connect_timeout.as_ref(), positive_duration)?;
    model.connect_timeout = connect_timeout.unwrap_or(model.connect_timeout);
    model.transport_socket = transport_socket.unwrap_or_default();
    model.transport_socket_matches = list(at, "transport_socket_matches", transport_socket_matches, socket_match)?;
    model.lb_policy = lb.policy;
    model.fail_traffic_on_panic = common_lb.fail_traffic_on_panic;
    model.locality_weighted_lb = common_lb.locality_weighted || lb.locality_weighted;
    model.healthy_panic_threshold = common_lb.healthy_panic_threshold.unwrap_or(model.healthy_panic_threshold);
    let breakers_at = at.field("circuit_breakers");
    let breakers = optional(&breakers_at, circuit_breakers.as_ref(), resilience::circuit_breakers)?;
    model.circuit_breakers = breakers.unwrap_or_default();
    let outlier_at = at.field("outlier_detection");
    model.outlier_detection = optional(&outlier_at, outlier_detection.as_ref(), resilience::outlier_detection)?;
    let source = protocol_options::Source {
        typed: typed_extension_protocol_options,
        common: common_http_protocol_options.as_ref(),
        http1: http_protocol_options.as_ref(),
        http2: http2_protocol_options.as_ref(),
        protocol_selection: *protocol_selection,
        max_requests_per_connection: *max_requests_per_connection,
    };
    model.http_protocol_options = protocol_options::decode(at, &source)?;
    model.load_reporting = optional(&at.field("lrs_server"), lrs_server.as_ref(), only_self)?.is_some();
    let options_at = at.field("upstream_connection_options");
    model.tcp_keepalive =
        optional(&options_at, upstream_connection_options.as_ref(), protocol_options::tcp_keepalive)?.flatten();
    if let Some(limit) = per_connection_buffer_limit_bytes {
        model.retry_buffer_bytes = usize::try_from(*limit).unwrap_or(usize::MAX);
    }
    let service = DestinationService::unregistered(name).or_else(|| metadata.as_ref().and_then(metadata::service));
    model.service = service.map(Arc::new);
    model.metadata_exchange = metadata::exchange(name, metadata.as_ref());
    Ok(model)
}

fn is_original_dst(cluster: &ProtoCluster) -> bool {
    let kind = Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into()));
    cluster.cluster_discovery_type == kind
}

fn socket_match(at: &At<'_>, message: &ProtoTransportSocketMatch) -> Result<TransportSocketMatch> {
    let ProtoTransportSocketMatch { name, r#match, transport_socket } = message;
    let labels_at = at.field("match");
    let labels = r#match.as_ref().map_or_else(|| Ok(BTreeMap::new()), |labels| metadata::labels(&labels_at, labels))?;
    let socket_at = at.field("transport_socket");
    let socket = transport_socket::upstream(&socket_at, required(&socket_at, transport_socket.as_ref())?)?;
    Ok(TransportSocketMatch::new(name, labels, socket))
}

/// Where endpoints come from.
fn discovery(at: &At<'_>, cluster: &ProtoCluster, dns: DnsOptions) -> Result<Discovery> {
    let ProtoCluster { name, load_assignment, eds_cluster_config, .. } = cluster;
    if name.is_empty() {
        return Err(at.field("name").refuse("is empty"));
    }
    let kind = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => enumeration(&at.field("type"), *kind)?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return custom_discovery(&at.field("cluster_type"), cluster, custom);
        }
        None => DiscoveryType::Static,
    };
    let assignment_at = at.field("load_assignment");
    let assignment = |names| {
        optional(&assignment_at, load_assignment.as_ref(), |at, value| endpoint::decode(at, value, names))
            .map(Option::unwrap_or_default)
    };
    if eds_cluster_config.is_some() && kind != DiscoveryType::Eds {
        return Err(at.field("eds_cluster_config").refuse("has an effect in a cluster of type EDS only"));
    }
    match kind {
        DiscoveryType::Static => Ok(Discovery::Static(assignment(Names::Refused)?)),
        DiscoveryType::StrictDns => Ok(Discovery::StrictDns(assignment(Names::Allowed)?, dns)),
        DiscoveryType::LogicalDns => {
            let assignment = assignment(Names::Allowed)?;
            let count: usize = assignment.localities.iter().map(|group| group.endpoints.len()).sum();
            if count != 1 {
                return Err(assignment_at.refuse(format_args!("LOGICAL_DNS takes exactly one endpoint, not {count}")));
            }
            Ok(Discovery::LogicalDns(assignment, dns))
        }
        DiscoveryType::Eds => {
            if load_assignment.is_some() {
                return Err(assignment_at.refuse("cannot be given in a cluster of type EDS"));
            }
            let at = at.field("eds_cluster_config");
            let EdsClusterConfig { eds_config, service_name } = required(&at, eds_cluster_config.as_ref())?;
            let config_at = at.field("eds_config");
            let source = required(&config_at, eds_config.as_ref())?;
            let service_name = if service_name.is_empty() { name } else { service_name };
            let service_name = config_source::name_in_store(&config_at, source, service_name)?;
            Ok(Discovery::Eds { service_name })
        }
        DiscoveryType::OriginalDst => original_dst::options(at, cluster).map(Discovery::OriginalDst),
    }
}

/// The full name of the message of an aggregate of clusters.
pub(super) const AGGREGATE: &str = "envoy.extensions.clusters.aggregate.v3.ClusterConfig";

/// Decodes a cluster whose type is an extension.
fn custom_discovery(at: &At<'_>, cluster: &ProtoCluster, custom: &CustomClusterType) -> Result<Discovery> {
    let message_name = custom.typed_config.as_ref().map_or("", |config| type_name(&config.type_url));
    let (Some(config), true) = (&custom.typed_config, message_name == AGGREGATE) else {
        let kind = describe(&custom.name, message_name);
        return Err(at.refuse(format_args!("{kind}: not supported")));
    };
    if cluster.load_assignment.is_some() || cluster.eds_cluster_config.is_some() {
        return Err(at.refuse("an aggregate has no endpoints of its own"));
    }
    let at = at.field("typed_config");
    let AggregateConfig { clusters } = unpack(&at, config)?;
    for (index, name) in clusters.iter().enumerate() {
        if *name == cluster.name {
            return Err(at.item("clusters", index).refuse("is the aggregate itself"));
        }
    }
    Ok(Discovery::Aggregate(clusters.iter().map(|name| name.as_str().into()).collect()))
}

/// Whether the cluster, an aggregate, says how clusters are chosen. gRPC's control planes say nothing and use another policy, which has
/// no effect (gRFC A37).
fn is_provided(lb_policy: i32, kind: Option<&ClusterDiscoveryType>) -> bool {
    let is_aggregate = matches!(kind, Some(ClusterDiscoveryType::ClusterType(custom))
        if custom.typed_config.as_ref().is_some_and(|config| type_name(&config.type_url) == AGGREGATE));
    is_aggregate && ProtoLbPolicy::try_from(lb_policy) == Ok(ProtoLbPolicy::ClusterProvided)
}

/// The message of the DNS resolver that may be configured, without effect.
pub(super) const CARES: &str = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";

/// Load is reported to the control plane that the cluster is from. gRFC A27.
fn only_self(at: &At<'_>, source: &ConfigSource) -> Result<()> {
    match source.config_source_specifier {
        Some(ConfigSourceSpecifier::Self_(_)) => Ok(()),
        _ => Err(at.refuse("only self is supported")),
    }
}

fn only_default_resolver(at: &At<'_>, resolver: &TypedExtensionConfig) -> Result<()> {
    use crate::proto::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
    let TypedExtensionConfig { name, typed_config } = resolver;
    let Some(config) = typed_config else { return Ok(()) };
    let kind = type_name(&config.type_url);
    if kind != CARES {
        return Err(at.refuse(format_args!("DNS resolver {}: not supported", describe(name, kind))));
    }
    let config: CaresDnsResolverConfig = unpack(at, config)?;
    if !config.resolvers.is_empty() {
        return Err(at.field("resolvers").refuse("not supported"));
    }
    at.ignore(OWN_RESOLVER);
    Ok(())
}

fn lookup_family(family: ProtoDnsLookupFamily) -> DnsLookupFamily {
    match family {
        ProtoDnsLookupFamily::Auto => DnsLookupFamily::Auto,
        ProtoDnsLookupFamily::V4Only => DnsLookupFamily::V4Only,
        ProtoDnsLookupFamily::V6Only => DnsLookupFamily::V6Only,
        ProtoDnsLookupFamily::V4Preferred => DnsLookupFamily::V4Preferred,
        ProtoDnsLookupFamily::All => DnsLookupFamily::All,
    }
}

/// Decodes `fail_traffic_on_panic`. Zone-aware routing needs a `local_cluster_name`, without which it has no effect in
/// Envoy either.
fn fails_on_panic(at: &At<'_>, config: &ZoneAwareLbConfig) -> Result<bool> {
    fields! {
        ZoneAwareLbConfig = config, at;
        use { fail_traffic_on_panic }
        ignore { routing_enabled: NO_LOCAL_CLUSTER, min_cluster_size: NO_LOCAL_CLUSTER }
        refuse {}
    }
    Ok(*fail_traffic_on_panic)
}

/// Why zone-aware routing has no effect.
const NO_LOCAL_CLUSTER: &str = "local_cluster_name is not supported, so there is no zone-aware routing";

#[derive(Default)]
struct CommonLb {
    healthy_panic_threshold: Option<Percent>,
    fail_traffic_on_panic: bool,
    locality_weighted: bool,
}

fn common_lb(at: &At<'_>, config: &CommonLbConfig) -> Result<CommonLb> {
    fields! {
        CommonLbConfig = config, at;
        use { healthy_panic_threshold, update_merge_window, locality_config_specifier }
        ignore {
            ignore_new_hosts_until_first_hc: "there is no active health checking",
            consistent_hashing_lb_config: "it has an effect on ring hash and maglev only, which are refused",
        }
        refuse { close_connections_on_host_set_change, override_host_status }
    }
    let window = optional(&at.field("update_merge_window"), update_merge_window.as_ref(), duration)?;
    if window.is_some_and(|window| window > Duration::ZERO) {
        at.field("update_merge_window").ignore("an update is applied at once");
    }
    let (locality_weighted, fail_traffic_on_panic) = match locality_config_specifier {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => (true, false),
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(config)) => {
            (false, fails_on_panic(&at.field("zone_aware_lb_config"), config)?)
        }
        None => (false, false),
    };
    let threshold_at = at.field("healthy_panic_threshold");
    Ok(CommonLb {
        healthy_panic_threshold: optional(&threshold_at, healthy_panic_threshold.as_ref(), whole_percent)?,
        fail_traffic_on_panic,
        locality_weighted,
    })
}
