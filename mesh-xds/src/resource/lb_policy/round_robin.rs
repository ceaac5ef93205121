//! Round robin.

use mesh_core::model::LbPolicy;
use prost::Name as _;
use prost_types::Any;

use super::{Chosen, Codec, Legacy, locality};
use crate::decode::field::{At, Result, fields};
use crate::decode::value::unpack;
use crate::proto::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy as ProtoLbPolicy, RoundRobinLbConfig};
use crate::proto::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;

pub(super) const CODEC: Codec = Codec {
    legacy: Some(Legacy { lb_policy: ProtoLbPolicy::RoundRobin, decode: decode_legacy }),
    message_name: RoundRobin::full_name,
    decode,
};

fn decode_legacy(at: &At<'_>, lb_config: Option<&LbConfig>) -> Result<LbPolicy> {
    if let Some(LbConfig::RoundRobinLbConfig(config)) = lb_config {
        let at = at.field("round_robin_lb_config");
        fields! {
            RoundRobinLbConfig = config, at;
            use {}
            ignore {}
            refuse { slow_start_config }
        }
    }
    Ok(LbPolicy::RoundRobin)
}

fn decode(at: &At<'_>, config: &Any) -> Result<Chosen> {
    let config = unpack(at, config)?;
    fields! {
        RoundRobin = &config, at;
        use { locality_lb_config }
        ignore {}
        refuse { slow_start_config }
    }
    locality::with_config(at, LbPolicy::RoundRobin, locality_lb_config.as_ref())
}
