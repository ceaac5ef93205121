//! Random.

use mesh_core::model::LbPolicy;
use prost::Name as _;
use prost_types::Any;

use super::{Chosen, Codec, Legacy, locality};
use crate::decode::field::{At, Result};
use crate::decode::value::unpack;
use crate::proto::envoy::config::cluster::v3::cluster::LbPolicy as ProtoLbPolicy;
use crate::proto::envoy::extensions::load_balancing_policies::random::v3::Random;

pub(super) const CODEC: Codec = Codec {
    legacy: Some(Legacy { lb_policy: ProtoLbPolicy::Random, decode: |_, _| Ok(LbPolicy::Random) }),
    message_name: Random::full_name,
    decode,
};

fn decode(at: &At<'_>, config: &Any) -> Result<Chosen> {
    let Random { locality_lb_config } = unpack(at, config)?;
    locality::with_config(at, LbPolicy::Random, locality_lb_config.as_ref())
}
