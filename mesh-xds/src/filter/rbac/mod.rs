//! Role-based access control: `envoy.extensions.filters.http.rbac.v3`.
//!
//! `rules` decodes policies, `matcher` what is given in place of policies. The filters of requests and of connections share them.

mod matcher;
mod rules;

use std::sync::Arc;

use mesh_core::filter::rbac::{Engine, Rbac};

pub(crate) use rules::Scope;

use super::Decode;
use crate::decode::field::{At, Result, fields};
use crate::decode::value::optional;
use crate::proto::envoy::config::rbac::v3 as proto_rules;
use crate::proto::envoy::extensions::filters::http::rbac::v3 as proto;
use crate::proto::xds::r#type::matcher::v3::Matcher;

/// Policies, or a matcher in their place, in the fields of these names. Envoy takes the
/// matcher if both are given; that is refused, as it is most likely a mistake.
pub(crate) fn decode_either(
    at: &At<'_>,
    names: [&str; 2],
    rules: Option<&proto_rules::Rbac>,
    matcher: Option<&Matcher>,
    scope: Scope,
) -> Result<Option<Arc<Engine>>> {
    if rules.is_some() && matcher.is_some() {
        return Err(at.field(names[1]).refuse(format_args!("cannot be set together with {}", names[0])));
    }
    if let Some(matcher) = matcher {
        return matcher::decode_matcher(&at.field(names[1]), matcher, scope).map(Some);
    }
    optional(&at.field(names[0]), rules, |at, rules| rules::decode_engine(at, rules, scope))
}

impl Decode for Rbac {
    type Message = proto::Rbac;
    type PerRouteMessage = proto::RbacPerRoute;

    fn decode(at: &At<'_>, message: &proto::Rbac) -> Result<Self> {
        fields! {
            proto::Rbac = message, at;
            use {
                rules, rules_stat_prefix, matcher, shadow_rules, shadow_matcher, shadow_rules_stat_prefix,
                track_per_rule_stats,
            }
            ignore {}
            refuse {}
        }
        let scope = Scope::Request;
        let enforced = decode_either(at, ["rules", "matcher"], rules.as_ref(), matcher.as_ref(), scope);
        let names = ["shadow_rules", "shadow_matcher"];
        let shadow = decode_either(at, names, shadow_rules.as_ref(), shadow_matcher.as_ref(), scope);
        let mut model = Self::default();
        (model.rules, model.shadow_rules) = at.both(enforced, shadow)?;
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
