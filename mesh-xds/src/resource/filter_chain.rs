//! `envoy.config.listener.v3.FilterChain`: the connections that it matches, its transport socket and its filters.

use std::sync::Arc;

use ipnet::IpNet;
use mesh_core::model::{FilterChain, FilterChainMatch, NetworkFilter, SourceType, TransportProtocol};

use super::field::{At, Result, fields};
use super::network_filter;
use super::transport_socket::downstream;
use super::value::{enumeration, in_range, limit, list, network, optional};
use crate::proto::envoy::config::listener::v3::{
    FilterChain as ProtoFilterChain, FilterChainMatch as ProtoFilterChainMatch,
    filter_chain_match::ConnectionSourceType,
};

/// A filter chain.
pub(super) fn decode(at: &At<'_>, chain: &ProtoFilterChain) -> Result<FilterChain> {
    fields! {
        ProtoFilterChain = chain, at;
        use {
            name, filter_chain_match, filters, transport_socket, use_proxy_proto, transport_socket_connect_timeout,
        }
        ignore { metadata: "no rule reads the metadata of a filter chain" }
        refuse {}
    }
    if *use_proxy_proto == Some(true) {
        return Err(at.field("use_proxy_proto").refuse("true: not supported"));
    }
    let socket = optional(&at.field("transport_socket"), transport_socket.as_ref(), downstream);
    let matches = optional(&at.field("filter_chain_match"), filter_chain_match.as_ref(), decode_match);
    let filters = network_filter::decode_chain(at, filters).and_then(|filters| terminated(at, filters));
    let (socket, (matches, filters)) = at.both(socket, at.both(matches, filters))?;
    let mut model = FilterChain::new(filters).matching(matches.unwrap_or_default()).named(name);
    model.transport_socket = socket.unwrap_or_default();
    let timeout_at = at.field("transport_socket_connect_timeout");
    model.transport_socket_connect_timeout = limit(&timeout_at, transport_socket_connect_timeout.as_ref(), None)?;
    Ok(model)
}

/// The filters, of which the last, and only the last, serves the connections.
fn terminated(at: &At<'_>, filters: Vec<(usize, NetworkFilter)>) -> Result<Vec<NetworkFilter>> {
    let last = filters.len().wrapping_sub(1);
    for (position, (index, filter)) in filters.iter().enumerate() {
        if filter.is_terminal() && position != last {
            return Err(at.item("filters", *index).refuse("serves the connections, so that no filter may follow"));
        }
    }
    if !filters.last().is_some_and(|(_, filter)| filter.is_terminal()) {
        return Err(at.field("filters").refuse("no filter serves the connections"));
    }
    Ok(filters.into_iter().map(|(_, filter)| filter).collect())
}

fn decode_match(at: &At<'_>, matches: &ProtoFilterChainMatch) -> Result<FilterChainMatch> {
    fields! {
        ProtoFilterChainMatch = matches, at;
        use {
            destination_port, prefix_ranges, server_names, transport_protocol, application_protocols,
            direct_source_prefix_ranges, source_type, source_prefix_ranges, source_ports,
        }
        ignore {}
        refuse { address_suffix, suffix_len }
    }
    let networks = |name, ranges| -> Result<Vec<IpNet>> { list(at, name, ranges, network) };
    let mut model = FilterChainMatch::default();
    model.destination_port = optional(&at.field("destination_port"), destination_port.as_ref(), port)?;
    model.prefix_ranges = networks("prefix_ranges", prefix_ranges)?;
    model.server_names = list(at, "server_names", server_names, server_name)?;
    model.transport_protocol = match transport_protocol.as_str() {
        "" => None,
        "raw_buffer" => Some(TransportProtocol::RawBuffer),
        "tls" => Some(TransportProtocol::Tls),
        other => {
            return Err(at.field("transport_protocol").refuse(format_args!("{other:?} is neither tls nor raw_buffer")));
        }
    };
    model.application_protocols = application_protocols.iter().map(|protocol| protocol.as_str().into()).collect();
    model.direct_source_prefix_ranges = networks("direct_source_prefix_ranges", direct_source_prefix_ranges)?;
    model.source_type = match enumeration(&at.field("source_type"), *source_type)? {
        ConnectionSourceType::Any => SourceType::Any,
        ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
        ConnectionSourceType::External => SourceType::External,
    };
    model.source_prefix_ranges = networks("source_prefix_ranges", source_prefix_ranges)?;
    model.source_ports = list(at, "source_ports", source_ports, port)?;
    Ok(model)
}

fn port(at: &At<'_>, port: &u32) -> Result<u16> {
    let port = in_range(at, *port, 1, u32::from(u16::MAX))?;
    u16::try_from(port).map_err(|error| at.refuse(error))
}

/// A name, or `*.` and a suffix. As in Envoy, letters match in either case.
fn server_name(at: &At<'_>, name: &String) -> Result<Arc<str>> {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    if plain.is_empty() || plain.contains('*') {
        return Err(at.refuse(format_args!("{name:?} is not a name, nor \"*.\" and a suffix")));
    }
    Ok(name.to_ascii_lowercase().into())
}
