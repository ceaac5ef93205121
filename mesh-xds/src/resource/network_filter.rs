//! `envoy.config.listener.v3.Filter`: the filters of a filter chain, a table by the type of their configuration.

use std::sync::Arc;

use mesh_core::model::NetworkFilter;
use prost_types::Any;

use super::field::{At, Result};
use super::value::{optional, unpack};
use super::{data_source, http_connection_manager, network_rbac, tcp_proxy};
use crate::descriptor::type_name;
use crate::filter::{decode_network_ext_authz, decode_without_effect};
use crate::proto::envoy::config::listener::v3::{Filter, filter::ConfigType};
use crate::proto::envoy::extensions::filters::network::direct_response::v3 as direct_response;
use crate::proto::envoy::extensions::filters::network::echo::v3::Echo;

/// Longest response of a listener to a connection, in bytes.
const MAX_DIRECT_RESPONSE_BYTES: u32 = 1024 * 1024;

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
    ("envoy.extensions.filters.network.rbac.v3.RBAC", |at, config| {
        Ok(NetworkFilter::Rbac(Arc::new(network_rbac::decode(at, &unpack(at, config)?)?)))
    }),
    ("envoy.extensions.filters.network.ext_authz.v3.ExtAuthz", |at, config| {
        Ok(NetworkFilter::ExtAuthz(Arc::new(decode_network_ext_authz(at, &unpack(at, config)?)?)))
    }),
    ("envoy.extensions.filters.network.direct_response.v3.Config", |at, config| {
        let direct_response::Config { response } = unpack(at, config)?;
        let read = |at: &At<'_>, source: &_| data_source::read(at, source, MAX_DIRECT_RESPONSE_BYTES);
        let response = optional(&at.field("response"), response.as_ref(), read)?;
        Ok(NetworkFilter::DirectResponse(response.unwrap_or_default()))
    }),
    ("envoy.extensions.filters.network.echo.v3.Echo", |at, config| {
        let Echo {} = unpack(at, config)?;
        Ok(NetworkFilter::Echo)
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
