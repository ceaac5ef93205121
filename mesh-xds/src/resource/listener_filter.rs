//! `envoy.config.listener.v3.ListenerFilter`: filters that inspect the first bytes of a connection.

use mesh_core::model::{ListenerFilter, ListenerFilterConfig, ListenerFilterMatch, TlsInspector};
use prost_types::Any;

use super::field::{At, Result, fields};
use super::value::{in_range, list, optional, unpack};
use crate::descriptor::{describe, type_name};
use crate::proto::envoy::config::listener::v3::{
    ListenerFilter as ProtoListenerFilter, ListenerFilterChainMatchPredicate,
    listener_filter::ConfigType,
    listener_filter_chain_match_predicate::{MatchSet, Rule},
};
use crate::proto::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
    tls_inspector::v3::TlsInspector as ProtoTlsInspector,
};
use crate::proto::envoy::r#type::v3::Int32Range;

type Decode = fn(&At<'_>, &Any) -> Result<ListenerFilterConfig>;

/// Listener filters by the type of their configuration.
pub(crate) const FILTERS: &[(&str, Decode)] = &[
    ("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", tls_inspector),
    ("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", http_inspector),
    ("envoy.extensions.filters.listener.original_dst.v3.OriginalDst", original_dst),
];

/// A listener filter.
pub(super) fn decode(at: &At<'_>, filter: &ProtoListenerFilter) -> Result<ListenerFilter> {
    let ProtoListenerFilter { name, filter_disabled, config_type } = filter;
    let config = match config_type {
        Some(ConfigType::TypedConfig(config)) => config,
        Some(ConfigType::ConfigDiscovery(_)) => return Err(at.field("config_discovery").refuse("not supported")),
        None => return Err(at.field("typed_config").refuse(format_args!("is missing in filter {name}"))),
    };
    let kind = type_name(&config.type_url);
    let Some((_, decode)) = FILTERS.iter().find(|(known, _)| *known == kind) else {
        return Err(at.refuse(format_args!("listener filter {}: not supported", describe(name, kind))));
    };
    Ok(ListenerFilter {
        config: decode(&at.field("typed_config"), config)?,
        disabled: optional(&at.field("filter_disabled"), filter_disabled.as_ref(), predicate)?,
    })
}

fn predicate(at: &At<'_>, predicate: &ListenerFilterChainMatchPredicate) -> Result<ListenerFilterMatch> {
    let rules = |name, set: &MatchSet| list(&at.field(name), "rules", &set.rules, self::predicate);
    match &predicate.rule {
        Some(Rule::OrMatch(set)) => rules("or_match", set).map(ListenerFilterMatch::Or),
        Some(Rule::AndMatch(set)) => rules("and_match", set).map(ListenerFilterMatch::And),
        Some(Rule::NotMatch(rule)) => {
            self::predicate(&at.field("not_match"), rule).map(|rule| ListenerFilterMatch::Not(Box::new(rule)))
        }
        Some(Rule::AnyMatch(true)) => Ok(ListenerFilterMatch::Any),
        Some(Rule::AnyMatch(false)) => Err(at.field("any_match").refuse("false: only true is allowed")),
        Some(Rule::DestinationPortRange(Int32Range { start, end })) => {
            let at = at.field("destination_port_range");
            let port = |name, value: i32| in_range(&at.field(name), value, 1, 65536);
            let (start, end) = (port("start", *start)?, port("end", *end)?);
            if start >= end {
                return Err(at.refuse(format_args!("{start}..{end} is empty")));
            }
            Ok(ListenerFilterMatch::DestinationPorts(start.unsigned_abs()..end.unsigned_abs()))
        }
        None => Err(at.refuse("has no rule")),
    }
}

fn tls_inspector(at: &At<'_>, config: &Any) -> Result<ListenerFilterConfig> {
    let config: ProtoTlsInspector = unpack(at, config)?;
    fields! {
        ProtoTlsInspector = &config, at;
        use { max_client_hello_size, close_connection_on_client_hello_parsing_errors }
        ignore {
            enable_ja3_fingerprinting: "nothing reads the fingerprint",
            enable_ja4_fingerprinting: "nothing reads the fingerprint",
            initial_read_buffer_size: "bytes are looked at as they come",
        }
        refuse {}
    }
    let max = u32::try_from(TlsInspector::MAX_CLIENT_HELLO).unwrap_or(u32::MAX);
    let size = in_range(&at.field("max_client_hello_size"), max_client_hello_size.unwrap_or(max), 1, max)?;
    Ok(ListenerFilterConfig::TlsInspector(TlsInspector {
        max_client_hello_size: usize::try_from(size).unwrap_or(TlsInspector::MAX_CLIENT_HELLO),
        close_connection_on_client_hello_parsing_errors: *close_connection_on_client_hello_parsing_errors,
    }))
}

fn original_dst(at: &At<'_>, config: &Any) -> Result<ListenerFilterConfig> {
    let OriginalDst {} = unpack(at, config)?;
    Ok(ListenerFilterConfig::OriginalDst)
}

fn http_inspector(at: &At<'_>, config: &Any) -> Result<ListenerFilterConfig> {
    let HttpInspector {} = unpack(at, config)?;
    Ok(ListenerFilterConfig::HttpInspector)
}
