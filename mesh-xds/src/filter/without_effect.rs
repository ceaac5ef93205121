//! Filters without a policy of their own: leaving them out changes nothing.

use prost_types::Any;

use super::config::Config;
use crate::decode::field::{At, Result};
use crate::descriptor::describe;

/// The message of each, and why leaving it out changes nothing. They may be network, HTTP or cluster filters, and be wrapped
/// in a `TypedStruct`.
pub(crate) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("envoy.tcp.metadataexchange.config.MetadataExchange", "peer metadata is exchanged in headers"),
    ("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", "it chooses ALPN of TLS, which is refused"),
    ("stats.PluginConfig", "Istio's metrics are always recorded"),
    ("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", "it is statistics only"),
    ("envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy", "it only counts what passes"),
];

/// Why the filter with this message has no effect; `None` if it has one.
pub(super) fn reason(message_name: &str) -> Option<&'static str> {
    WITHOUT_EFFECT.iter().find(|(name, _)| *name == message_name).map(|(_, reason)| *reason)
}

/// A network or cluster filter that must be without effect.
pub(crate) fn decode_without_effect(at: &At<'_>, name: &str, config: Option<&Any>) -> Result<()> {
    let Some(config) = config else {
        return Err(at.field("typed_config").refuse(format_args!("is missing in filter {name}")));
    };
    let message_name = Config::unwrap(&at.field("typed_config"), config)?.message_name;
    match reason(&message_name) {
        Some(reason) => {
            at.ignore(format_args!("filter {name}: {reason}"));
            Ok(())
        }
        None => Err(at.refuse(format_args!("filter {}: not supported", describe(name, &message_name)))),
    }
}
