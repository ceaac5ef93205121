//! Cross-origin resource sharing: `envoy.extensions.filters.http.cors.v3`.

use http::HeaderValue;
use mesh_core::filter::cors::{Cors, CorsPolicy};
use mesh_core::model::FractionalPercent;

use super::Decode;
use crate::decode::field::{At, Result};
use crate::decode::value::{header_value, list, optional, runtime_fraction, string_matcher};
use crate::proto::envoy::config::route::v3 as route;
use crate::proto::envoy::extensions::filters::http::cors::v3 as proto;

impl Decode for Cors {
    type Message = proto::Cors;
    type PerRouteMessage = proto::CorsPolicy;

    fn decode(_: &At<'_>, proto::Cors {}: &proto::Cors) -> Result<Self> {
        Ok(Self)
    }

    fn decode_per_route(at: &At<'_>, policy: &proto::CorsPolicy) -> Result<CorsPolicy> {
        let proto::CorsPolicy {
            allow_origin_string_match,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            allow_credentials,
            filter_enabled,
            shadow_enabled,
            allow_private_network_access,
            forward_not_matching_preflights,
        } = policy;
        let share = |name, value: &Option<_>, default: FractionalPercent| {
            optional(&at.field(name), value.as_ref(), runtime_fraction).map(|share| share.unwrap_or(default))
        };
        let mut model = CorsPolicy::default();
        model.allow_origin_string_match =
            list(at, "allow_origin_string_match", allow_origin_string_match, string_matcher)?;
        model.allow_methods = text(at, "allow_methods", allow_methods)?;
        model.allow_headers = text(at, "allow_headers", allow_headers)?;
        model.expose_headers = text(at, "expose_headers", expose_headers)?;
        model.max_age = text(at, "max_age", max_age)?;
        model.allow_credentials = *allow_credentials;
        model.allow_private_network_access = *allow_private_network_access;
        model.forward_not_matching_preflights = *forward_not_matching_preflights;
        model.filter_enabled = share("filter_enabled", filter_enabled, model.filter_enabled)?;
        model.shadow_enabled = share("shadow_enabled", shadow_enabled, model.shadow_enabled)?;
        Ok(model)
    }
}

/// Refuses the field `cors` of virtual hosts and routes. Envoy obeys it only where `typed_per_filter_config` has no policy
/// at any level, and has deprecated it.
pub(crate) fn refuse_deprecated(at: &At<'_>, cors: Option<&route::CorsPolicy>) -> Result<()> {
    match cors {
        Some(_) => Err(at.field("cors").refuse(
            "deprecated and not supported; put an envoy.extensions.filters.http.cors.v3.CorsPolicy into \
             typed_per_filter_config",
        )),
        None => Ok(()),
    }
}

/// A header value; `None` if it is empty.
fn text(at: &At<'_>, name: &str, value: &str) -> Result<Option<HeaderValue>> {
    (!value.is_empty()).then(|| header_value(&at.field(name), value)).transpose()
}
