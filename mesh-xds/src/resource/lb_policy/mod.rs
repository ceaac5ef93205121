//! How an endpoint is chosen: the old `lb_policy` with its `lb_config`, or the extensible `load_balancing_policy`,
//! which replaces it.
//!
//! One file per policy says how its configuration is decoded in either form; [`CODECS`] is the list of them. A policy that
//! is not in the list is refused by name, unless `load_balancing_policy` has another one to fall back to.

mod least_request;
mod locality;
mod random;
mod round_robin;

use mesh_core::model::LbPolicy;
use prost_types::Any;

use crate::decode::field::{At, Result};
use crate::decode::value::{enumeration, required};
use crate::descriptor::{describe, type_name};
use crate::proto::envoy::config::cluster::v3::{
    LoadBalancingPolicy,
    cluster::{LbConfig, LbPolicy as ProtoLbPolicy},
    load_balancing_policy::Policy,
};
use crate::proto::envoy::config::core::v3::TypedExtensionConfig;

/// Every policy that is supported.
const CODECS: &[Codec] = &[round_robin::CODEC, least_request::CODEC, random::CODEC, locality::CODEC];

/// The full names of the messages of all policies.
pub(super) fn extensions() -> impl Iterator<Item = String> {
    CODECS.iter().map(|codec| (codec.message_name)())
}

/// How a policy is configured.
struct Codec {
    /// In `Cluster.lb_policy`; `None` = in `load_balancing_policy` only.
    legacy: Option<Legacy>,
    /// The name of its message in `load_balancing_policy`.
    message_name: fn() -> String,
    /// Decodes that message.
    decode: fn(&At<'_>, &Any) -> Result<Chosen>,
}

/// How a policy is configured in `Cluster.lb_policy`.
struct Legacy {
    lb_policy: ProtoLbPolicy,
    /// Decodes `Cluster.lb_config`, which may be that of another policy and then has no effect.
    decode: fn(&At<'_>, Option<&LbConfig>) -> Result<LbPolicy>,
}

/// A policy, and whether a locality is selected by weight before it chooses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chosen {
    pub(super) policy: LbPolicy,
    pub(super) locality_weighted: bool,
}

/// The policy of a cluster.
pub(super) fn decode(
    at: &At<'_>,
    lb_policy: i32,
    lb_config: Option<&LbConfig>,
    extensible: Option<&LoadBalancingPolicy>,
) -> Result<Chosen> {
    if let Some(policies) = extensible {
        return first_supported(&at.field("load_balancing_policy"), policies);
    }
    let lb_at = at.field("lb_policy");
    let wanted = enumeration(&lb_at, lb_policy)?;
    let legacy = CODECS.iter().filter_map(|codec| codec.legacy.as_ref()).find(|legacy| legacy.lb_policy == wanted);
    match (legacy, wanted) {
        (Some(legacy), _) => Ok(Chosen { policy: (legacy.decode)(at, lb_config)?, locality_weighted: false }),
        (None, ProtoLbPolicy::LoadBalancingPolicyConfig) => Err(at.field("load_balancing_policy").refuse("is missing")),
        (None, other) => Err(lb_at.refuse(format_args!("{}: not supported", other.as_str_name()))),
    }
}

/// Policies are in order of preference; those that are not supported are skipped (gRFC A52).
fn first_supported(at: &At<'_>, policies: &LoadBalancingPolicy) -> Result<Chosen> {
    let mut unsupported = Vec::new();
    for (index, Policy { typed_extension_config }) in policies.policies.iter().enumerate() {
        let at = at.item("policies", index);
        let at = at.field("typed_extension_config");
        let TypedExtensionConfig { name, typed_config } = required(&at, typed_extension_config.as_ref())?;
        let at = at.field("typed_config");
        let config = required(&at, typed_config.as_ref())?;
        let message_name = type_name(&config.type_url);
        match CODECS.iter().find(|codec| (codec.message_name)() == message_name) {
            Some(codec) => return (codec.decode)(&at, config),
            None => unsupported.push(describe(name, message_name)),
        }
    }
    Err(at.field("policies").refuse(format_args!("none of [{}] is supported", unsupported.join(", "))))
}
