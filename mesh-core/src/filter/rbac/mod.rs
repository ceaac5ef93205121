//! Role-based access control: which requests and connections are allowed.
//!
//! A configuration has enforced policies, shadow policies that only report what they would do, or both. A policy matches a
//! request that has one of its permissions and one of its principals ([`Rules`]). When the configuration arrives, policies
//! are compiled to an [`Engine`], which finds the policies that are about a request by an index (`index`). It evaluates
//! them on a [`Subject`], which is one canonical form of the request: routes, policies and endpoints see the same path.
//!
//! The semantics are Envoy's, with these differences:
//!
//! - a header that is repeated is judged line by line and as a whole. A condition that can lead to a denial holds if one of
//!   these values matches, one that can lead to a permission only if all do. Envoy takes the first line that matches;
//! - only a *verified* certificate gives a peer an identity;
//! - an address of IPv4 that is mapped to IPv6 is an address of IPv4.
//!
//! gRPC (gRFC A41) has the same semantics for what both can configure, except that `LOG` is ignored there.
//!
//! In place of policies, a configuration may have rules with an action each, of which the first that matches decides
//! ([`OrderedRule`]).
//!
//! Envoy `config.rbac.v3`, `filters.http.rbac.v3` and `filters.network.rbac.v3`; gRFC A41, gRFC A59. Conditions in CEL and
//! filter state are not supported.

mod audit;
mod decision;
mod engine;
mod index;
mod network;
mod rules;
mod subject;
mod uri_template;

use std::sync::Arc;

pub use audit::{Audit, AuditCondition, AuditEntry, AuditLogger};
pub use decision::{Decision, Mode, Namespace, Report};
pub use engine::Engine;
pub use network::NetworkRbac;
pub use rules::{Action, Condition, OrderedRule, Policy, Rules, SanMatcher};
pub use subject::Subject;
pub use uri_template::{InvalidTemplate, UriTemplate};

/// The filter in a chain, and for routes. Without policies it allows everything. Envoy `filters.http.rbac.v3.RBAC`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Rbac {
    /// The policies that are enforced.
    pub rules: Option<Arc<Engine>>,
    /// The policies that only report what they would do.
    pub shadow_rules: Option<Arc<Engine>>,
    /// Prefix of the statistics and metadata of `rules`. Default none.
    pub rules_stat_prefix: Arc<str>,
    /// Prefix of the statistics and metadata of `shadow_rules`. Default none.
    pub shadow_rules_stat_prefix: Arc<str>,
    /// Whether statistics are kept for each policy. Default false.
    pub track_per_rule_stats: bool,
}

impl Rbac {
    /// A filter that enforces policies.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules: Some(Arc::new(Engine::new(rules))), ..Self::default() }
    }

    /// Adds policies that only report what they would do.
    #[must_use]
    pub fn with_shadow_rules(mut self, rules: Rules) -> Self {
        self.shadow_rules = Some(Arc::new(Engine::new(rules)));
        self
    }
}

#[cfg(test)]
mod tests;
