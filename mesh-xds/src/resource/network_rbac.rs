//! `envoy.extensions.filters.network.rbac.v3`: access control of connections.

use mesh_core::filter::rbac::{NetworkRbac, Rbac};

use super::field::{At, Result, fields};
use super::value::{duration, enumeration, optional};
use crate::filter::{RbacScope, decode_rbac_engine};
use crate::proto::envoy::extensions::filters::network::rbac::v3 as proto;

pub(super) fn decode(at: &At<'_>, message: &proto::Rbac) -> Result<NetworkRbac> {
    fields! {
        proto::Rbac = message, at;
        use {
            rules, matcher, shadow_rules, shadow_matcher, shadow_rules_stat_prefix, stat_prefix, enforcement_type,
            delay_deny,
        }
        ignore {}
        refuse {}
    }
    let at_type = at.field("enforcement_type");
    match enumeration(&at_type, *enforcement_type)? {
        proto::rbac::EnforcementType::OneTimeOnFirstByte => {}
        proto::rbac::EnforcementType::Continuous => {
            at_type.ignore("the facts about a connection do not change, so one decision is enough");
        }
    }
    let scope = RbacScope::Connection;
    let enforced = decode_rbac_engine(at, ["rules", "matcher"], rules.as_ref(), matcher.as_ref(), scope);
    let names = ["shadow_rules", "shadow_matcher"];
    let shadow = decode_rbac_engine(at, names, shadow_rules.as_ref(), shadow_matcher.as_ref(), scope);
    let mut policies = Rbac::default();
    (policies.rules, policies.shadow_rules) = at.both(enforced, shadow)?;
    policies.shadow_rules_stat_prefix = shadow_rules_stat_prefix.as_str().into();
    let mut model = NetworkRbac::new(policies, stat_prefix.as_str());
    model.delay_deny = optional(&at.field("delay_deny"), delay_deny.as_ref(), duration)?.unwrap_or_default();
    Ok(model)
}
