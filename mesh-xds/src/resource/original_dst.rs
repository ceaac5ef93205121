//! Clusters of the type `ORIGINAL_DST`, and the source addresses of connections, which sidecars use with them.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use mesh_core::model::OriginalDstOptions;

use super::field::{At, Result, fields};
use super::value::{enumeration, header_name, in_range, ip_address, optional, positive_duration};
use crate::proto::envoy::config::cluster::v3::Cluster;
use crate::proto::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy, OriginalDstLbConfig};
use crate::proto::envoy::config::core::v3::{Address, BindConfig, address};

/// The header with the address, unless another is configured.
const HEADER: &str = "x-envoy-original-dst-host";

/// The options of a cluster of this type.
pub(super) fn options(at: &At<'_>, cluster: &Cluster) -> Result<OriginalDstOptions> {
    let lb_at = at.field("lb_policy");
    let lb_policy = enumeration::<LbPolicy>(&lb_at, cluster.lb_policy)?;
    if lb_policy != LbPolicy::ClusterProvided {
        return Err(lb_at.refuse(format_args!("{}: ORIGINAL_DST takes CLUSTER_PROVIDED only", lb_policy.as_str_name())));
    }
    for (name, is_given) in [
        ("load_balancing_policy", cluster.load_balancing_policy.is_some()),
        ("load_assignment", cluster.load_assignment.is_some()),
    ] {
        if is_given {
            return Err(at.field(name).refuse("cannot be given in a cluster of type ORIGINAL_DST"));
        }
    }
    let mut options = OriginalDstOptions::default();
    let interval_at = at.field("cleanup_interval");
    let interval = optional(&interval_at, cluster.cleanup_interval.as_ref(), positive_duration)?;
    options.cleanup_interval = interval.unwrap_or(options.cleanup_interval);
    // Envoy ignores the configuration of another policy.
    let Some(LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config else { return Ok(options) };
    let at = at.field("original_dst_lb_config");
    fields! {
        OriginalDstLbConfig = config, at;
        use { use_http_header, http_header_name, upstream_port_override }
        ignore {}
        refuse { metadata_key }
    }
    if *use_http_header {
        let name = if http_header_name.is_empty() { HEADER } else { http_header_name };
        options.http_header_name = Some(header_name(&at.field("http_header_name"), name)?);
    } else if !http_header_name.is_empty() {
        return Err(at.field("http_header_name").refuse("has an effect with use_http_header only"));
    }
    if let Some(port) = upstream_port_override {
        let port = in_range(&at.field("upstream_port_override"), *port, 0, u32::from(u16::MAX))?;
        options.upstream_port_override = u16::try_from(port).ok().and_then(NonZeroU16::new);
    }
    Ok(options)
}

/// The local address of connections.
pub(super) fn source_address(at: &At<'_>, config: &BindConfig) -> Result<Option<SocketAddr>> {
    fields! {
        BindConfig = config, at;
        use { source_address, freebind }
        ignore { validate_network_namespaces: "there are no network namespaces in addresses" }
        refuse { socket_options, extra_source_addresses, additional_source_addresses, local_address_selector }
    }
    if *freebind == Some(true) {
        return Err(at.field("freebind").refuse("true: not supported"));
    }
    let decode = |at: &At<'_>, source: &_| {
        let address = Address { address: Some(address::Address::SocketAddress(Clone::clone(source))) };
        ip_address(at, &address)
    };
    optional(&at.field("source_address"), source_address.as_ref(), decode)
}
