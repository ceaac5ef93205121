//! How an endpoint is chosen: the old `lb_policy` with its `lb_config`, or the extensible `load_balancing_policy`,
//! which replaces it.

use std::num::NonZeroU32;

use mesh_core::model::LbPolicy;

use super::field::{At, Result, fields, is_set};
use super::value::{enumeration, in_range, optional, required, unpack};
use crate::json::type_name;
use crate::proto::envoy::config::cluster::v3::{
    LoadBalancingPolicy,
    cluster::{LbConfig, LbPolicy as ProtoLbPolicy, LeastRequestLbConfig, RoundRobinLbConfig},
    load_balancing_policy::Policy,
};
use crate::proto::envoy::config::core::v3::{RuntimeDouble, TypedExtensionConfig};
use crate::proto::envoy::extensions::load_balancing_policies::common::v3::{
    LocalityLbConfig, locality_lb_config::LocalityConfigSpecifier,
};
use crate::proto::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use crate::proto::envoy::extensions::load_balancing_policies::random::v3::Random;
use crate::proto::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use crate::proto::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;

/// A policy, and whether localities are weighted before it chooses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) policy: LbPolicy,
    pub(super) locality_weighted: bool,
}

impl From<LbPolicy> for Chosen {
    fn from(policy: LbPolicy) -> Self {
        Self { policy, locality_weighted: false }
    }
}

/// The policy of a cluster.
pub(super) fn decode(
    at: &At<'_>,
    lb_policy: i32,
    lb_config: Option<&LbConfig>,
    extensible: Option<&LoadBalancingPolicy>,
) -> Result<Chosen> {
    if let Some(policies) = extensible {
        return first_known(&at.field("load_balancing_policy"), policies);
    }
    let lb_at = at.field("lb_policy");
    match enumeration(&lb_at, lb_policy)? {
        ProtoLbPolicy::RoundRobin => {
            if let Some(LbConfig::RoundRobinLbConfig(config)) = lb_config {
                let at = at.field("round_robin_lb_config");
                fields! {
                    RoundRobinLbConfig = config, at;
                    use {}
                    ignore {}
                    refuse { slow_start_config }
                }
            }
            Ok(LbPolicy::RoundRobin.into())
        }
        ProtoLbPolicy::LeastRequest => match lb_config {
            Some(LbConfig::LeastRequestLbConfig(config)) => {
                let at = at.field("least_request_lb_config");
                fields! {
                    LeastRequestLbConfig = config, at;
                    use { choice_count, active_request_bias }
                    ignore {}
                    refuse { slow_start_config }
                }
                least_request(&at, *choice_count, active_request_bias.as_ref()).map(Chosen::from)
            }
            _ => Ok(LbPolicy::least_request().into()),
        },
        ProtoLbPolicy::Random => Ok(LbPolicy::Random.into()),
        ProtoLbPolicy::LoadBalancingPolicyConfig => Err(at.field("load_balancing_policy").refuse("is missing")),
        other @ (ProtoLbPolicy::RingHash | ProtoLbPolicy::Maglev | ProtoLbPolicy::ClusterProvided) => {
            Err(lb_at.refuse(format_args!("{}: not supported", other.as_str_name())))
        }
    }
}

/// Policies are in order of preference, and those that are not known are passed over (gRFC A52).
fn first_known(at: &At<'_>, policies: &LoadBalancingPolicy) -> Result<Chosen> {
    let mut unknown = Vec::new();
    for (index, Policy { typed_extension_config }) in policies.policies.iter().enumerate() {
        let at = at.item("policies", index);
        let at = at.field("typed_extension_config");
        let TypedExtensionConfig { name, typed_config } = required(&at, typed_extension_config.as_ref())?;
        let at = at.field("typed_config");
        let config = required(&at, typed_config.as_ref())?;
        match type_name(&config.type_url) {
            "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin" => {
                let config = unpack(&at, config)?;
                fields! {
                    RoundRobin = &config, at;
                    use { locality_lb_config }
                    ignore {}
                    refuse { slow_start_config }
                }
                return with_locality(&at, LbPolicy::RoundRobin, locality_lb_config.as_ref());
            }
            "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" => {
                let config = unpack(&at, config)?;
                fields! {
                    LeastRequest = &config, at;
                    use { choice_count, active_request_bias, locality_lb_config, selection_method }
                    ignore {}
                    refuse { slow_start_config, enable_full_scan }
                }
                if is_set(selection_method) {
                    return Err(at.field("selection_method").refuse("not supported"));
                }
                let policy = least_request(&at, *choice_count, active_request_bias.as_ref())?;
                return with_locality(&at, policy, locality_lb_config.as_ref());
            }
            "envoy.extensions.load_balancing_policies.random.v3.Random" => {
                let Random { locality_lb_config } = unpack(&at, config)?;
                return with_locality(&at, LbPolicy::Random, locality_lb_config.as_ref());
            }
            "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality" => {
                let WrrLocality { endpoint_picking_policy } = unpack(&at, config)?;
                let at = at.field("endpoint_picking_policy");
                let inner = first_known(&at, required(&at, endpoint_picking_policy.as_ref())?)?;
                return Ok(Chosen { locality_weighted: true, ..inner });
            }
            _ => unknown.push(name.as_str()),
        }
    }
    Err(at.field("policies").refuse(format_args!("none of [{}] is supported", unknown.join(", "))))
}

fn with_locality(at: &At<'_>, policy: LbPolicy, config: Option<&LocalityLbConfig>) -> Result<Chosen> {
    let specifier = config.and_then(|config| config.locality_config_specifier.as_ref());
    match specifier {
        None => Ok(policy.into()),
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => Ok(Chosen { policy, locality_weighted: true }),
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            Err(at.field("locality_lb_config").refuse("zone_aware_lb_config: not supported"))
        }
    }
}

fn least_request(at: &At<'_>, choice_count: Option<u32>, bias: Option<&RuntimeDouble>) -> Result<LbPolicy> {
    let choices = in_range(&at.field("choice_count"), choice_count.unwrap_or(2), 2, u32::MAX)?;
    let bias = optional(&at.field("active_request_bias"), bias, |at, bias| {
        let value = in_range(at, bias.default_value, 0.0, 1000.0)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=1,000,000")]
        Ok((value * 1000.0).round() as u32)
    })?;
    Ok(LbPolicy::LeastRequest {
        choice_count: NonZeroU32::new(choices).unwrap_or(NonZeroU32::MIN),
        active_request_bias_milli: bias.unwrap_or(1000),
    })
}
