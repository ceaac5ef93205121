//! The HTTP filters that can be configured, and how their messages are decoded.
//!
//! One file per filter implements [`Decode`] for the filter's configuration in `mesh_core::filter`; [`CODECS`] is the list of
//! them. A filter whose message is in the list is supported. Others are known to be without effect
//! ([`without_effect`]), skipped because they are unknown and optional, or refused by name: a policy that is
//! not enforced is never accepted.

mod chain;
mod config;
mod cors;
mod ext_authz;
mod fault;
mod header_mutation;
mod jwt_authn;
mod peer_metadata;
mod per_route;
mod rbac;
mod router;
mod without_effect;

use std::sync::Arc;

use mesh_core::filter::{
    Filter, FilterConfig, PerRouteConfig, cors::Cors, ext_authz::ExtAuthz, fault::Fault,
    header_mutation::HeaderMutation, jwt_authn::JwtAuthn, rbac::Rbac,
};
use prost::{Message, Name};
use prost_types::Any;

pub(crate) use chain::decode_chain;
pub(crate) use cors::refuse_deprecated as refuse_deprecated_cors;
pub(crate) use ext_authz::decode_network as decode_network_ext_authz;
pub(crate) use per_route::decode_overrides;
pub(crate) use rbac::{Scope as RbacScope, decode_either as decode_rbac_engine};
pub(crate) use without_effect::{WITHOUT_EFFECT, decode_without_effect};

use crate::decode::{
    field::{At, Result},
    value::unpack,
};
use crate::descriptor::is_known;
use crate::proto::envoy::extensions::filters::http::router::v3::Router;

/// All supported filters.
const CODECS: &[Codec] = &[
    Codec::of::<Fault>(),
    Codec::of::<Cors>(),
    Codec::of::<HeaderMutation>(),
    Codec::of::<ExtAuthz>(),
    Codec::of::<JwtAuthn>(),
    Codec::of::<Rbac>(),
];

/// The full names of the messages of all supported filters in a chain.
pub(crate) fn extensions() -> impl Iterator<Item = String> {
    CODECS.iter().map(|codec| (codec.message_name)()).chain([Router::full_name()])
}

/// How the messages of a filter are decoded. Implemented by the filter's configuration in a chain.
trait Decode: Filter + Sized {
    /// Its message in a chain.
    type Message: Message + Name + Default;
    /// Its message in `typed_per_filter_config`.
    type PerRouteMessage: Message + Name + Default;

    fn decode(at: &At<'_>, message: &Self::Message) -> Result<Self>;

    fn decode_per_route(at: &At<'_>, message: &Self::PerRouteMessage) -> Result<Self::PerRoute>;
}

/// [`Decode`] as a value, so that filters can be listed.
struct Codec {
    message_name: fn() -> String,
    decode: fn(&At<'_>, &Any) -> Result<FilterConfig>,
    per_route_message_name: fn() -> String,
    decode_per_route: fn(&At<'_>, &Any) -> Result<PerRouteConfig>,
}

impl Codec {
    const fn of<F: Decode>() -> Self
    where
        FilterConfig: From<Arc<F>>,
        PerRouteConfig: From<Arc<F::PerRoute>>,
    {
        Self {
            message_name: F::Message::full_name,
            decode: |at, any| Ok(Arc::new(F::decode(at, &unpack(at, any)?)?).into()),
            per_route_message_name: F::PerRouteMessage::full_name,
            decode_per_route: |at, any| Ok(Arc::new(F::decode_per_route(at, &unpack(at, any)?)?).into()),
        }
    }

    /// The filter whose message in a chain is called `message_name`.
    fn find(message_name: &str) -> Option<&'static Self> {
        CODECS.iter().find(|codec| (codec.message_name)() == message_name)
    }

    /// The filter whose message in `typed_per_filter_config` is called `message_name`.
    fn find_per_route(message_name: &str) -> Option<&'static Self> {
        CODECS.iter().find(|codec| (codec.per_route_message_name)() == message_name)
    }
}

/// Whether a filter that is not supported may be skipped: it must be optional and unknown. Envoy's own filters are
/// known.
fn may_skip(is_optional: bool, message_name: &str) -> bool {
    is_optional && !is_known(message_name)
}

#[cfg(test)]
mod tests;
