//! `typed_per_filter_config`: overrides of filters by a route configuration, virtual host, route or weighted cluster.

use std::collections::BTreeMap;

use mesh_core::filter::{FilterOverride, FilterOverrides};
use prost_types::Any;

use super::{Codec, may_skip};
use crate::decode::{
    field::{At, Result},
    value::{required, unpack},
};
use crate::descriptor::{describe, type_name};
use crate::proto::envoy::config::route::v3::FilterConfig;

/// The overrides in the field `typed_per_filter_config` of a message.
pub(crate) fn decode_overrides(at: &At<'_>, configs: &BTreeMap<String, Any>) -> Result<FilterOverrides> {
    let mut overrides = FilterOverrides::new();
    for (filter, config) in configs {
        overrides.insert(filter.as_str(), decode_override(&at.entry("typed_per_filter_config", filter), config)?);
    }
    Ok(overrides)
}

fn decode_override(at: &At<'_>, config: &Any) -> Result<FilterOverride> {
    if type_name(&config.type_url) != "envoy.config.route.v3.FilterConfig" {
        return decode_config(at, config, false);
    }
    let FilterConfig { config, is_optional, disabled } = unpack(at, config)?;
    let at = at.field("config");
    if disabled {
        if config.is_some() {
            at.ignore("the filter is disabled");
        }
        return Ok(FilterOverride::Disabled);
    }
    match required(&at, config.as_ref())? {
        config if config.type_url.is_empty() => Ok(FilterOverride::Enabled),
        config => decode_config(&at, config, is_optional),
    }
}

fn decode_config(at: &At<'_>, config: &Any, is_optional: bool) -> Result<FilterOverride> {
    let message_name = type_name(&config.type_url);
    match Codec::find_per_route(message_name) {
        Some(codec) => (codec.decode_per_route)(at, config).map(FilterOverride::Config),
        None if may_skip(is_optional, message_name) => {
            at.ignore(format_args!("{message_name} is unknown and is_optional"));
            Ok(FilterOverride::Enabled)
        }
        None => {
            let name = describe("", message_name);
            Err(at.refuse(format_args!("http filter configuration {name}: not supported")))
        }
    }
}
