//! Least request.

use std::num::NonZeroU32;

use mesh_core::model::LbPolicy;
use prost::Name as _;
use prost_types::Any;

use super::{Chosen, Codec, Legacy, locality};
use crate::decode::field::{At, Result, fields, is_set};
use crate::decode::value::{in_range, optional, unpack};
use crate::proto::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy as ProtoLbPolicy, LeastRequestLbConfig};
use crate::proto::envoy::config::core::v3::RuntimeDouble;
use crate::proto::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;

pub(super) const CODEC: Codec = Codec {
    legacy: Some(Legacy { lb_policy: ProtoLbPolicy::LeastRequest, decode: decode_legacy }),
    message_name: LeastRequest::full_name,
    decode,
};

fn decode_legacy(at: &At<'_>, lb_config: Option<&LbConfig>) -> Result<LbPolicy> {
    let Some(LbConfig::LeastRequestLbConfig(config)) = lb_config else { return Ok(LbPolicy::least_request()) };
    let at = at.field("least_request_lb_config");
    fields! {
        LeastRequestLbConfig = config, at;
        use { choice_count, active_request_bias }
        ignore {}
        refuse { slow_start_config }
    }
    least_request(&at, *choice_count, active_request_bias.as_ref())
}

fn decode(at: &At<'_>, config: &Any) -> Result<Chosen> {
    let config = unpack(at, config)?;
    fields! {
        LeastRequest = &config, at;
        use { choice_count, active_request_bias, locality_lb_config, selection_method }
        ignore {}
        refuse { slow_start_config, enable_full_scan }
    }
    if is_set(selection_method) {
        return Err(at.field("selection_method").refuse("not supported"));
    }
    let policy = least_request(at, *choice_count, active_request_bias.as_ref())?;
    locality::with_config(at, policy, locality_lb_config.as_ref())
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
