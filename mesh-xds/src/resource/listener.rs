//! `envoy.config.listener.v3.Listener`: a socket with filter chains, or one HTTP connection manager in process.

use mesh_core::listener::FilterChainIndex;
use mesh_core::model::{FilterChain, Listener, ListenerAddress, TrafficDirection};

use super::field::{At, Result, fields};
use super::value::{enumeration, ip_address, limit, list, optional, required, unpack};
use super::{access_log, filter_chain, http_connection_manager, listener_filter};
use crate::proto::envoy::config::core::v3::TrafficDirection as ProtoTrafficDirection;
use crate::proto::envoy::config::listener::v3::{
    ApiListener, FilterChain as ProtoFilterChain, Listener as ProtoListener,
};

/// A listener with the name `called`, because its message may have none.
pub(super) fn decode(at: &At<'_>, called: &str, listener: &ProtoListener) -> Result<Listener> {
    fields! {
        ProtoListener = listener, at;
        use {
            name, address, stat_prefix, filter_chains, default_filter_chain, listener_filters, traffic_direction,
            api_listener, bind_to_port, deprecated_v1, use_original_dst, listener_filters_timeout,
            continue_on_listener_filters_timeout, access_log, transparent, freebind,
        }
        ignore {
            stats_matcher: "all statistics are kept",
            per_connection_buffer_limit_bytes: "bytes stream; only what a retry needs is kept",
            per_connection_buffer_high_watermark_timeout: "it is a matter of Envoy's buffers",
            metadata: "no rule reads the metadata of a listener",
            drain_type: "a listener drains when it is removed or changed, and at shutdown",
            tcp_fast_open_queue_length: "it is a matter of the system's configuration",
            connection_balance_config: "connections are spread over workers by the system",
            reuse_port: "the port is always shared by the workers",
            enable_reuse_port: "the port is always shared by the workers",
            tcp_backlog_size: "the backlog is the system's",
            max_connections_to_accept_per_socket_event: "connections are accepted as they come",
            enable_mptcp: "plain TCP is spoken",
            ignore_global_conn_limit: "there is no global limit of connections",
            bypass_overload_manager: "there is no overload manager",
        }
        refuse {
            additional_addresses, fcds_config, filter_chain_matcher, socket_options,
            udp_listener_config, tcp_keepalive, listener_specifier,
        }
    }
    // The caller reads the name.
    let _ = name;
    let mut model = if let Some(api) = api_listener {
        api_listener_of(&at.field("api_listener"), called, api)?
    } else {
        for (name, value) in [("transparent", transparent), ("freebind", freebind)] {
            if *value == Some(true) {
                at.report(*at.field(name).refuse("true: not supported"));
            }
        }
        let address_at = at.field("address");
        let socket = ip_address(&address_at, required(&address_at, address.as_ref())?)?;
        let mut model = Listener::new(called, ListenerAddress::Socket(socket));
        model.bind_to_port =
            *bind_to_port != Some(false) && deprecated_v1.is_none_or(|v1| v1.bind_to_port != Some(false));
        model.use_original_dst = *use_original_dst == Some(true);
        let filters = list(at, "listener_filters", listener_filters, listener_filter::decode);
        let chains = filter_chains_of(at, &mut model, filter_chains, default_filter_chain.as_ref());
        (model.listener_filters, ()) = at.both(filters, chains)?;
        model
    };
    let timeout_at = at.field("listener_filters_timeout");
    model.listener_filters_timeout =
        limit(&timeout_at, listener_filters_timeout.as_ref(), model.listener_filters_timeout)?;
    model.continue_on_listener_filters_timeout = *continue_on_listener_filters_timeout;
    model.access_log = list(at, "access_log", access_log, access_log::decode)?;
    model.traffic_direction = match enumeration(&at.field("traffic_direction"), *traffic_direction)? {
        ProtoTrafficDirection::Unspecified => TrafficDirection::Unspecified,
        ProtoTrafficDirection::Inbound => TrafficDirection::Inbound,
        ProtoTrafficDirection::Outbound => TrafficDirection::Outbound,
    };
    if !stat_prefix.is_empty() {
        model.stat_prefix = stat_prefix.as_str().into();
    }
    Ok(model)
}

fn api_listener_of(at: &At<'_>, name: &str, api: &ApiListener) -> Result<Listener> {
    let at = at.field("api_listener");
    let config = required(&at, api.api_listener.as_ref())?;
    let config = unpack(&at, config)?;
    let mut http = http_connection_manager::decode(&at, &config)?;
    // Envoy's default of 5 minutes is for sockets: streams of gRPC clients have no idle timeout.
    if config.stream_idle_timeout.is_none() {
        http.stream_idle_timeout = None;
    }
    Ok(Listener::new(name, ListenerAddress::Api).with_filter_chain(FilterChain::http(http)))
}

/// The filter chains of a socket, no two of which may match the same connections.
fn filter_chains_of(
    at: &At<'_>,
    model: &mut Listener,
    chains: &[ProtoFilterChain],
    default: Option<&ProtoFilterChain>,
) -> Result<()> {
    let chains = list(at, "filter_chains", chains, filter_chain::decode);
    let default = optional(&at.field("default_filter_chain"), default, filter_chain::decode);
    (model.filter_chains, model.default_filter_chain) = at.both(chains, default)?;
    if model.all_filter_chains().next().is_none() {
        return Err(at.field("filter_chains").refuse("is empty"));
    }
    FilterChainIndex::new(model).map(drop).map_err(|overlap| {
        let chain = at.item("filter_chains", overlap.later);
        let earlier = overlap.earlier;
        chain
            .field("filter_chain_match")
            .refuse(format_args!("matches connections that filter_chains[{earlier}] matches"))
    })
}
