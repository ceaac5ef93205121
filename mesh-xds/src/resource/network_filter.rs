//! `envoy.config.listener.v3.Filter`: the filters of a filter chain, a table by the type of their configuration.

use std::sync::Arc;

use mesh_core::model::NetworkFilter;
use prost_types::Any;

use super::field::{At, Result};
use super::value::unpack;
use super::{http_connection_manager, tcp_proxy};
use crate::descriptor::type_name;
use crate::filter::decode_without_effect;
use crate::proto::envoy::config::listener::v3::{Filter, filter::ConfigType};

type Decode = fn(&At<'_>, &Any) -> Result<NetworkFilter>;

/// Network filters by the type of their configuration.
pub(crate) const FILTERS: &[(&str, Decode)] = &[
    ("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", |at, config| {
        let manager = http_connection_manager::decode(at, &unpack(at, config)?)?;
        Ok(NetworkFilter::HttpConnectionManager(Arc::new(manager)))
    }),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", |at, config| {
        Ok(NetworkFilter::TcpProxy(Arc::new(tcp_proxy::decode(at, &unpack(at, config)?)?)))
    }),
];

/// The filters of a chain with their positions, without those that have no effect.
pub(super) fn decode_chain(at: &At<'_>, filters: &[Filter]) -> Result<Vec<(usize, NetworkFilter)>> {
    let decoded = (0..)
        .zip(filters)
        .map(|(index, filter)| Ok(decode(&at.item("filters", index), filter)?.map(|filter| (index, filter))));
    Ok(at.all(decoded)?.into_iter().flatten().collect())
}

/// A filter; `None` if it has no effect.
fn decode(at: &At<'_>, filter: &Filter) -> Result<Option<NetworkFilter>> {
    let config = match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => config,
        Some(ConfigType::ConfigDiscovery(_)) => return Err(at.field("config_discovery").refuse("not supported")),
        None => {
            let missing = format_args!("is missing in filter {}", filter.name);
            return Err(at.field("typed_config").refuse(missing));
        }
    };
    let kind = type_name(&config.type_url);
    match FILTERS.iter().find(|(known, _)| *known == kind) {
        Some((_, decode)) => decode(&at.field("typed_config"), config).map(Some),
        None => decode_without_effect(at, &filter.name, Some(config)).map(|()| None),
    }
}
