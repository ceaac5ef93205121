//! `http_filters`: the chain of a connection manager.

use mesh_core::filter::{FilterConfig, HttpFilter};
use mesh_core::model::PeerMetadata;
use prost::Name as _;
use prost_types::Any;

use super::{Codec, config::Config, may_skip, peer_metadata, router, without_effect};
use crate::decode::{
    field::{At, Result},
    value::unpack,
};
use crate::descriptor::describe;
use crate::proto::envoy::extensions::filters::http::router::v3::Router;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter as ProtoHttpFilter, http_filter::ConfigType,
};

/// A decoded chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// The filters before the router that have an effect.
    pub(crate) filters: Vec<HttpFilter>,
    /// The configuration of Istio's metadata exchange.
    pub(crate) peer_metadata: PeerMetadata,
    /// The router's `suppress_envoy_headers`.
    pub(crate) suppress_envoy_headers: bool,
}

/// The filters of a connection manager. Names are unique, and the router, and no other filter, is last (gRFC A39). Filters of
/// access control may share a name, as in Envoy: istiod gives one name to up to three of them.
pub(crate) fn decode_chain(at: &At<'_>, filters: &[ProtoHttpFilter]) -> Result<Chain> {
    let mut chain = Chain::default();
    let mut names = hashbrown::HashMap::new();
    let mut has_router = false;
    let decoded =
        at.all((0..).zip(filters).map(|(index, filter)| decode_filter(&at.item("http_filters", index), filter)))?;
    for (index, (filter, decoded)) in filters.iter().zip(decoded).enumerate() {
        let at = at.item("http_filters", index);
        if has_router {
            return Err(at.refuse(format_args!("{:?} follows the router, which must be last", filter.name)));
        }
        let is_rbac = matches!(&decoded, Decoded::Filter(filter) if matches!(filter.config, FilterConfig::Rbac(_)));
        if names.insert(filter.name.as_str(), is_rbac).is_some_and(|was_rbac| !(was_rbac && is_rbac)) {
            return Err(at.field("name").refuse(format_args!("{:?} is used twice", filter.name)));
        }
        match decoded {
            Decoded::Filter(filter) => chain.filters.push(filter),
            Decoded::Router { suppress_envoy_headers } => {
                chain.suppress_envoy_headers = suppress_envoy_headers;
                has_router = true;
            }
            Decoded::PeerMetadata(peer_metadata) => chain.peer_metadata = peer_metadata,
            Decoded::WithoutEffect => {}
        }
    }
    if !has_router {
        return Err(at.field("http_filters").refuse("the last filter must be envoy.filters.http.router"));
    }
    Ok(chain)
}

enum Decoded {
    Filter(HttpFilter),
    Router { suppress_envoy_headers: bool },
    PeerMetadata(PeerMetadata),
    WithoutEffect,
}

fn decode_filter(at: &At<'_>, filter: &ProtoHttpFilter) -> Result<Decoded> {
    let ProtoHttpFilter { name, is_optional, disabled, config_type } = filter;
    let any = typed_config(at, name, config_type.as_ref())?;
    let at_config = at.field("typed_config");
    let config = Config::unwrap(&at_config, any)?;
    let message_name = config.message_name.as_str();
    if let Some(codec) = Codec::find(message_name) {
        let config = (codec.decode)(&at_config, any)?;
        let mut filter = HttpFilter::named(name.as_str(), config);
        filter.disabled = *disabled;
        return Ok(Decoded::Filter(filter));
    }
    if let Some(reason) = without_effect::reason(message_name) {
        at.ignore(format_args!("filter {name}: {reason}"));
        return Ok(Decoded::WithoutEffect);
    }
    if message_name == Router::full_name() {
        refuse_disabled(at, filter)?;
        let suppress_envoy_headers = router::decode(&at_config, &unpack(&at_config, any)?)?;
        return Ok(Decoded::Router { suppress_envoy_headers });
    }
    if message_name == peer_metadata::MESSAGE_NAME {
        refuse_disabled(at, filter)?;
        let value = config.value.unwrap_or_default();
        return peer_metadata::decode(&at_config.field("value"), &value).map(Decoded::PeerMetadata);
    }
    if may_skip(*is_optional, message_name) {
        at.ignore(format_args!("filter {name}: {message_name} is unknown and is_optional"));
        return Ok(Decoded::WithoutEffect);
    }
    Err(at.refuse(format_args!("http filter {}: not supported", describe(name, message_name))))
}

fn typed_config<'c>(at: &At<'_>, name: &str, config: Option<&'c ConfigType>) -> Result<&'c Any> {
    match config {
        Some(ConfigType::TypedConfig(config)) => Ok(config),
        Some(ConfigType::ConfigDiscovery(_)) => Err(at.field("config_discovery").refuse("not supported")),
        None => Err(at.field("typed_config").refuse(format_args!("is missing in http filter {name}"))),
    }
}

/// For filters that no route can enable again.
fn refuse_disabled(at: &At<'_>, filter: &ProtoHttpFilter) -> Result<()> {
    match filter.disabled {
        true => Err(at.field("disabled").refuse(format_args!("http filter {} cannot be disabled", filter.name))),
        false => Ok(()),
    }
}
