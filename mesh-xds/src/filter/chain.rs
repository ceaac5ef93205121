//! The filters of a chain. One that carries policy is decoded or refused by name; one that carries none is taken as
//! nothing, which is a list and not a rule: see [`NO_OPS`].

use std::sync::Arc;

use mesh_core::filter::{FilterConfig, HttpFilter, fault::Fault};
use mesh_core::model::PeerMetadata;
use prost_types::{Any, Struct};

use super::field::{At, Result, fields};
use super::value::unpack;
use super::{fault, peer_metadata};
use crate::json::type_name;
use crate::proto::envoy::extensions::filters::http::router::v3::Router;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter as ProtoHttpFilter, http_filter::ConfigType,
};
use crate::proto::udpa;

/// Filters without policy of their own, by the type of their configuration, and why leaving them out changes nothing.
/// They may stand anywhere: as network, HTTP or cluster filter, and inside a `TypedStruct`.
const NO_OPS: &[(&str, &str)] = &[
    ("envoy.tcp.metadataexchange.config.MetadataExchange", "peer metadata is exchanged in headers"),
    ("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", "it chooses ALPN of TLS, which is refused"),
    ("stats.PluginConfig", "Istio's metrics are always recorded"),
    ("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", "it is statistics only"),
    ("envoy.extensions.filters.http.cors.v3.Cors", "its policy is per route, where it is refused"),
    ("envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy", "it only counts what passes"),
];

/// What a chain of HTTP filters comes to.
#[derive(Debug)]
pub(super) struct Chain {
    /// Filters before the router.
    pub(super) filters: Vec<HttpFilter>,
    /// What is told about workloads, and believed of them.
    pub(super) peer_metadata: PeerMetadata,
    /// The router's `suppress_envoy_headers`.
    pub(super) suppress_envoy_headers: bool,
}

/// The filters of a connection manager: names are unique and the router, and only it, is last (gRFC A39).
pub(super) fn decode_chain(at: &At<'_>, filters: &[ProtoHttpFilter]) -> Result<Chain> {
    let mut chain =
        Chain { filters: Vec::new(), peer_metadata: PeerMetadata::default(), suppress_envoy_headers: false };
    let mut names = hashbrown::HashSet::new();
    let mut routed = false;
    for (index, filter) in filters.iter().enumerate() {
        let at = at.item("http_filters", index);
        if routed {
            return Err(at.refuse(format_args!("{:?} stands after the router, which must be last", filter.name)));
        }
        if !names.insert(filter.name.as_str()) {
            return Err(at.field("name").refuse(format_args!("{:?} is used twice", filter.name)));
        }
        match decode(&at, filter)? {
            Decoded::Router(router) => {
                chain.suppress_envoy_headers = router;
                routed = true;
            }
            Decoded::Fault(fault) => chain.filters.push(HttpFilter {
                name: filter.name.as_str().into(),
                config: FilterConfig::Fault(Arc::new(fault)),
                disabled: false,
            }),
            Decoded::PeerMetadata(peer_metadata) => chain.peer_metadata = peer_metadata,
            Decoded::Nothing => {}
        }
    }
    if !routed {
        return Err(at.field("http_filters").refuse("the last filter must be envoy.filters.http.router"));
    }
    Ok(chain)
}

enum Decoded {
    Router(bool),
    Fault(Fault),
    PeerMetadata(PeerMetadata),
    Nothing,
}

fn decode(at: &At<'_>, filter: &ProtoHttpFilter) -> Result<Decoded> {
    let ProtoHttpFilter { name, is_optional, disabled, config_type } = filter;
    if *disabled {
        return Err(at.field("disabled").refuse(format_args!("http filter {name}: not supported")));
    }
    let config = match config_type {
        Some(ConfigType::TypedConfig(config)) => config,
        Some(ConfigType::ConfigDiscovery(_)) => return Err(at.field("config_discovery").refuse("not supported")),
        None => return Err(at.field("typed_config").refuse(format_args!("is missing in http filter {name}"))),
    };
    let at_config = at.field("typed_config");
    let configured = configured(&at_config, config)?;
    match configured.type_name.as_str() {
        "envoy.extensions.filters.http.router.v3.Router" => {
            router(&at_config, &unpack(&at_config, config)?).map(Decoded::Router)
        }
        "envoy.extensions.filters.http.fault.v3.HTTPFault" => {
            fault::decode(&at_config, &unpack(&at_config, config)?).map(Decoded::Fault)
        }
        peer_metadata::TYPE => {
            let value = configured.value.unwrap_or_default();
            peer_metadata::decode(&at_config.field("value"), &value).map(Decoded::PeerMetadata)
        }
        other => match no_op(other) {
            Some(why) => {
                at.ignore(format_args!("filter {name}: {why}"));
                Ok(Decoded::Nothing)
            }
            None if *is_optional && !is_known(other) => {
                at.ignore(format_args!("filter {name}: unknown and is_optional"));
                Ok(Decoded::Nothing)
            }
            None => Err(at.refuse(format_args!("http filter {name}: not supported"))),
        },
    }
}

/// A network or cluster filter that must be one of [`NO_OPS`].
pub(super) fn network_no_op(at: &At<'_>, name: &str, config: Option<&Any>) -> Result<()> {
    let Some(config) = config else {
        return Err(at.field("typed_config").refuse(format_args!("is missing in filter {name}")));
    };
    match no_op(&configured(&at.field("typed_config"), config)?.type_name) {
        Some(why) => {
            at.ignore(format_args!("filter {name}: {why}"));
            Ok(())
        }
        None => Err(at.refuse(format_args!("filter {name}: not supported"))),
    }
}

/// What a filter is configured with.
struct Configured {
    type_name: String,
    /// The JSON of the message, if it came as that.
    value: Option<Struct>,
}

/// The type of a configuration, which may be wrapped in a `TypedStruct`. A wrapped type that nobody here decodes comes out
/// under a name that only [`NO_OPS`] know, and so does one that is decoded only if it is wrapped.
fn configured(at: &At<'_>, config: &Any) -> Result<Configured> {
    let (inner, value) = match type_name(&config.type_url) {
        "udpa.type.v1.TypedStruct" => {
            let wrapper: udpa::r#type::v1::TypedStruct = unpack(at, config)?;
            (wrapper.type_url, wrapper.value)
        }
        "xds.type.v3.TypedStruct" => {
            let wrapper: crate::proto::xds::r#type::v3::TypedStruct = unpack(at, config)?;
            (wrapper.type_url, wrapper.value)
        }
        peer_metadata::TYPE => return Err(at.refuse("not supported outside of a TypedStruct")),
        plain => return Ok(Configured { type_name: plain.to_owned(), value: None }),
    };
    let type_name = match type_name(&inner) {
        inner if no_op(inner).is_some() || inner == peer_metadata::TYPE => inner.to_owned(),
        inner => format!("TypedStruct of {inner}"),
    };
    Ok(Configured { type_name, value })
}

fn no_op(type_name: &str) -> Option<&'static str> {
    NO_OPS.iter().find(|(name, _)| *name == type_name).map(|(_, why)| *why)
}

/// Whether the type is one of the messages of this crate: a filter that exists but is not supported is not "unknown".
fn is_known(type_name: &str) -> bool {
    crate::json::is_known(type_name)
}

fn router(at: &At<'_>, router: &Router) -> Result<bool> {
    fields! {
        Router = router, at;
        use { suppress_envoy_headers }
        ignore {
            dynamic_stats: "it chooses statistics",
            start_child_span: "no spans are exported",
            upstream_log_options: "it matters only with upstream_log, which is refused",
            suppress_grpc_request_failure_code_stats: "it chooses statistics",
            reject_connect_request_early_data: "CONNECT requests carry no early data here",
        }
        refuse { upstream_log, strict_check_headers, respect_expected_rq_timeout, upstream_http_filters }
    }
    Ok(*suppress_envoy_headers)
}
