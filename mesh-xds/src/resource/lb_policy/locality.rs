//! Selecting a locality by weight before the policy chooses: a setting of other policies, or a policy around another.

use mesh_core::model::LbPolicy;
use prost::Name as _;
use prost_types::Any;

use super::{Chosen, Codec, first_supported};
use crate::decode::field::{At, Result};
use crate::decode::value::{required, unpack};
use crate::proto::envoy::extensions::load_balancing_policies::common::v3::{
    LocalityLbConfig, locality_lb_config::LocalityConfigSpecifier,
};
use crate::proto::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;

pub(super) const CODEC: Codec = Codec { legacy: None, message_name: WrrLocality::full_name, decode };

fn decode(at: &At<'_>, config: &Any) -> Result<Chosen> {
    let WrrLocality { endpoint_picking_policy } = unpack(at, config)?;
    let at = at.field("endpoint_picking_policy");
    let inner = first_supported(&at, required(&at, endpoint_picking_policy.as_ref())?)?;
    Ok(Chosen { locality_weighted: true, ..inner })
}

/// `policy` with its `locality_lb_config`; `at` is the place of the policy's message.
pub(super) fn with_config(at: &At<'_>, policy: LbPolicy, config: Option<&LocalityLbConfig>) -> Result<Chosen> {
    let specifier = config.and_then(|config| config.locality_config_specifier.as_ref());
    match specifier {
        None => Ok(Chosen { policy, locality_weighted: false }),
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => Ok(Chosen { policy, locality_weighted: true }),
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            Err(at.field("locality_lb_config").refuse("zone_aware_lb_config: not supported"))
        }
    }
}
