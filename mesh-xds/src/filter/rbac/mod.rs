//! Role-based access control: `envoy.extensions.filters.http.rbac.v3`.
//!
//! `rules` decodes the policies, which the filters of requests and of connections share.

mod rules;

use mesh_core::filter::rbac::Rbac;

pub(crate) use rules::{Scope, decode_engine};

use super::Decode;
use crate::decode::field::{At, Result, fields};
use crate::decode::value::optional;
use crate::proto::envoy::extensions::filters::http::rbac::v3 as proto;

impl Decode for Rbac {
    type Message = proto::Rbac;
    type PerRouteMessage = proto::RbacPerRoute;

    fn decode(at: &At<'_>, message: &proto::Rbac) -> Result<Self> {
        fields! {
            proto::Rbac = message, at;
            use {
                rules, rules_stat_prefix, shadow_rules, shadow_rules_stat_prefix, track_per_rule_stats,
            }
            ignore {}
            refuse { matcher, shadow_matcher }
        }
        let engine = |name, rules: &Option<_>| {
            optional(&at.field(name), rules.as_ref(), |at, rules| decode_engine(at, rules, Scope::Request))
        };
        let mut model = Self::default();
        (model.rules, model.shadow_rules) = at.both(engine("rules", rules), engine("shadow_rules", shadow_rules))?;
        model.rules_stat_prefix = rules_stat_prefix.as_str().into();
        model.shadow_rules_stat_prefix = shadow_rules_stat_prefix.as_str().into();
        model.track_per_rule_stats = *track_per_rule_stats;
        Ok(model)
    }

    /// Without a configuration, the route allows every request.
    fn decode_per_route(at: &At<'_>, message: &proto::RbacPerRoute) -> Result<Self> {
        let proto::RbacPerRoute { rbac } = message;
        let at = at.field("rbac");
        let model = optional(&at, rbac.as_ref(), Self::decode)?.unwrap_or_default();
        if model.track_per_rule_stats {
            return Err(at.field("track_per_rule_stats").refuse("not supported in a route"));
        }
        Ok(model)
    }
}
