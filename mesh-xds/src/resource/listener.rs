//! `envoy.config.listener.v3.Listener`: one HTTP connection manager behind one address, or in process.

use mesh_core::model::{FilterChain, Listener, ListenerAddress, TrafficDirection};
use prost_types::Any;

use super::field::{At, Result, fields, is_set};
use super::http_connection_manager;
use super::transport_socket::only_plain_text;
use super::value::{enumeration, ip_address, optional, required, unpack};
use crate::filter::decode_without_effect;
use crate::json::type_name;
use crate::proto::envoy::config::core::v3::TrafficDirection as ProtoTrafficDirection;
use crate::proto::envoy::config::listener::v3::{
    ApiListener, Filter, FilterChain as ProtoFilterChain, Listener as ProtoListener, ListenerFilter, filter,
    listener_filter,
};

const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A listener.
pub(super) fn decode(at: &At<'_>, listener: &ProtoListener) -> Result<Listener> {
    fields! {
        ProtoListener = listener, at;
        use {
            name, address, stat_prefix, filter_chains, default_filter_chain, listener_filters, traffic_direction,
            api_listener, bind_to_port, deprecated_v1, use_original_dst,
        }
        ignore {
            stats_matcher: "all statistics are kept",
            per_connection_buffer_limit_bytes: "bodies stream; only what a retry needs is kept",
            per_connection_buffer_high_watermark_timeout: "it is a matter of Envoy's buffers",
            metadata: "no rule reads the metadata of a listener",
            drain_type: "a listener drains when it is removed or changed, and at shutdown",
            listener_filters_timeout: "no listener filter waits for the peer",
            continue_on_listener_filters_timeout: "no listener filter waits for the peer",
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
            additional_addresses, fcds_config, filter_chain_matcher, transparent, freebind, socket_options,
            udp_listener_config, access_log, tcp_keepalive, listener_specifier,
        }
    }
    if name.is_empty() {
        return Err(at.field("name").refuse("is empty"));
    }
    let (address, http) = if let Some(api) = api_listener {
        (ListenerAddress::Api, api_http(&at.field("api_listener"), api)?)
    } else {
        let unbound = *bind_to_port == Some(false) || deprecated_v1.is_some_and(|v1| v1.bind_to_port == Some(false));
        if unbound {
            return Err(at.field("bind_to_port").refuse("false: not supported, connections are not captured"));
        }
        if *use_original_dst == Some(true) {
            return Err(at.field("use_original_dst").refuse("true: not supported, connections are not captured"));
        }
        let address_at = at.field("address");
        let socket = ip_address(&address_at, required(&address_at, address.as_ref())?)?;
        for (index, filter) in listener_filters.iter().enumerate() {
            listener_filter(&at.item("listener_filters", index), filter)?;
        }
        (ListenerAddress::Socket(socket), only_chain(at, filter_chains, default_filter_chain.as_ref())?)
    };
    let mut model = Listener::new(name, address).with_filter_chain(FilterChain::http(http));
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

type Http = mesh_core::model::HttpConnectionManager;

fn api_http(at: &At<'_>, api: &ApiListener) -> Result<Http> {
    let at = at.field("api_listener");
    let config = required(&at, api.api_listener.as_ref())?;
    http_connection_manager::decode(&at, &unpack(&at, config)?)
}

/// The one filter chain of a listener, which every connection takes.
fn only_chain(at: &At<'_>, chains: &[ProtoFilterChain], default: Option<&ProtoFilterChain>) -> Result<Http> {
    match (chains, default) {
        ([chain], None) => filter_chain(&at.item("filter_chains", 0), chain),
        ([], Some(chain)) => filter_chain(&at.field("default_filter_chain"), chain),
        ([], None) => Err(at.field("filter_chains").refuse("is empty")),
        (chains, default) => {
            // A chain that could not be served anyway is the better reason to give.
            for (index, chain) in chains.iter().enumerate() {
                filter_chain(&at.item("filter_chains", index), chain)?;
            }
            let count = chains.len() + usize::from(default.is_some());
            Err(at.field("filter_chains").refuse(format_args!("{count} filter chains: only one is supported")))
        }
    }
}

fn filter_chain(at: &At<'_>, chain: &ProtoFilterChain) -> Result<Http> {
    fields! {
        ProtoFilterChain = chain, at;
        use { filter_chain_match, filters, transport_socket, use_proxy_proto }
        ignore {
            metadata: "no rule reads the metadata of a filter chain",
            transport_socket_connect_timeout: "there is no TLS handshake",
            name: "a listener has one filter chain",
        }
        refuse {}
    }
    if filter_chain_match.as_ref().is_some_and(is_set) {
        return Err(at.field("filter_chain_match").refuse("not supported"));
    }
    if *use_proxy_proto == Some(true) {
        return Err(at.field("use_proxy_proto").refuse("true: not supported"));
    }
    optional(&at.field("transport_socket"), transport_socket.as_ref(), only_plain_text)?;
    let Some((last, before)) = filters.split_last() else {
        return Err(at.field("filters").refuse("is empty"));
    };
    for (index, filter) in before.iter().enumerate() {
        network_filter(&at.item("filters", index), filter)?;
    }
    let at = at.item("filters", before.len());
    let config = typed_config(&at, last)?;
    if type_name(&config.type_url) != HCM {
        return Err(at.refuse(format_args!("network filter {}: not supported", last.name)));
    }
    let at = at.field("typed_config");
    http_connection_manager::decode(&at, &unpack(&at, config)?)
}

fn network_filter(at: &At<'_>, filter: &Filter) -> Result<()> {
    decode_without_effect(at, &filter.name, Some(typed_config(at, filter)?))
}

fn typed_config<'f>(at: &At<'_>, filter: &'f Filter) -> Result<&'f Any> {
    match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(config)) => Ok(config),
        Some(filter::ConfigType::ConfigDiscovery(_)) => Err(at.field("config_discovery").refuse("not supported")),
        None => Err(at.field("typed_config").refuse(format_args!("is missing in filter {}", filter.name))),
    }
}

/// Inspectors only feed filter chain matching, of which there is none; anything else changes what a connection is.
fn listener_filter(at: &At<'_>, filter: &ListenerFilter) -> Result<()> {
    let ListenerFilter { name, filter_disabled, config_type } = filter;
    let kind = match config_type {
        Some(listener_filter::ConfigType::TypedConfig(config)) => type_name(&config.type_url),
        Some(listener_filter::ConfigType::ConfigDiscovery(_)) => {
            return Err(at.field("config_discovery").refuse("not supported"));
        }
        None => name.as_str(),
    };
    match kind {
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
        | "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" => {
            at.ignore(format_args!("filter {name}: nothing matches on what it finds"));
            let _ = filter_disabled;
            Ok(())
        }
        _ => Err(at.refuse(format_args!("listener filter {name}: not supported"))),
    }
}
