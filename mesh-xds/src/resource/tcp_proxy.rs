//! `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.

use std::num::NonZeroU32;

use mesh_core::model::{TcpProxy, WeightedTcpCluster};

use super::access_log;
use super::field::{At, Result, fields};
use super::value::{limit, list, optional, positive_duration};
use crate::proto::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy as ProtoTcpProxy,
    tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
};

const NOT_BY_ENVOY: &str = "Envoy does not implement it either";
const ONE_LINE: &str = "one line is written, at the end of the connection";

/// A TCP proxy.
pub(super) fn decode(at: &At<'_>, proxy: &ProtoTcpProxy) -> Result<TcpProxy> {
    fields! {
        ProtoTcpProxy = proxy, at;
        use {
            stat_prefix, cluster_specifier, idle_timeout, max_connect_attempts, max_downstream_connection_duration,
            access_log,
        }
        ignore {
            downstream_idle_timeout: NOT_BY_ENVOY,
            upstream_idle_timeout: NOT_BY_ENVOY,
            hash_policy: "only ring hash and maglev clusters read it, and these are refused",
            access_log_flush_interval: ONE_LINE,
            flush_access_log_on_connected: ONE_LINE,
            access_log_options: ONE_LINE,
            proxy_protocol_tlv_merge_policy: "it matters only with proxy_protocol_tlvs, which is refused",
        }
        refuse {
            on_demand, metadata_match, backoff_options, tunneling_config,
            max_downstream_connection_duration_jitter_percentage, proxy_protocol_tlvs, upstream_connect_mode,
            max_early_data_bytes, check_drain_close,
        }
    }
    if stat_prefix.is_empty() {
        return Err(at.field("stat_prefix").refuse("is empty"));
    }
    let mut model = TcpProxy::weighted(stat_prefix, clusters(at, cluster_specifier.as_ref())?);
    model.idle_timeout = limit(&at.field("idle_timeout"), idle_timeout.as_ref(), model.idle_timeout)?;
    if let Some(attempts) = max_connect_attempts {
        model.max_connect_attempts = at_least_one(&at.field("max_connect_attempts"), *attempts)?;
    }
    let duration_at = at.field("max_downstream_connection_duration");
    model.max_downstream_connection_duration =
        optional(&duration_at, max_downstream_connection_duration.as_ref(), positive_duration)?;
    model.access_log = list(at, "access_log", access_log, access_log::decode)?;
    Ok(model)
}

fn clusters(at: &At<'_>, specifier: Option<&ClusterSpecifier>) -> Result<Vec<WeightedTcpCluster>> {
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => Err(at.field("cluster").refuse("is empty")),
        Some(ClusterSpecifier::Cluster(name)) => {
            Ok(vec![WeightedTcpCluster { name: name.as_str().into(), weight: NonZeroU32::MIN }])
        }
        Some(ClusterSpecifier::WeightedClusters(WeightedCluster { clusters })) => {
            let at = at.field("weighted_clusters");
            let weighted = list(&at, "clusters", clusters, weighted_cluster)?;
            if weighted.is_empty() { Err(at.field("clusters").refuse("is empty")) } else { Ok(weighted) }
        }
        None => Err(at.refuse("none of cluster and weighted_clusters is given")),
    }
}

fn weighted_cluster(at: &At<'_>, cluster: &ClusterWeight) -> Result<WeightedTcpCluster> {
    fields! {
        ClusterWeight = cluster, at;
        use { name, weight }
        ignore {}
        refuse { metadata_match }
    }
    if name.is_empty() {
        return Err(at.field("name").refuse("is empty"));
    }
    Ok(WeightedTcpCluster { name: name.as_str().into(), weight: at_least_one(&at.field("weight"), *weight)? })
}

fn at_least_one(at: &At<'_>, value: u32) -> Result<NonZeroU32> {
    NonZeroU32::new(value).ok_or_else(|| at.refuse("0 is not greater than 0"))
}
