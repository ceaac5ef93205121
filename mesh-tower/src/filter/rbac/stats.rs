//! Statistics of access control.

use std::sync::Arc;

use mesh_core::{
    filter::rbac::{Decision, Engine, Mode, Rbac},
    telemetry::Counter,
};

/// Envoy `rbac.allowed` and the like, below the prefix of a connection manager or a network filter.
#[derive(Debug)]
pub(crate) struct RbacStats {
    enforced: Outcomes,
    shadow: Outcomes,
    /// By the position of the policy; empty if they are not kept.
    enforced_policies: Vec<Outcomes>,
    shadow_policies: Vec<Outcomes>,
}

#[derive(Debug)]
struct Outcomes {
    allowed: Arc<Counter>,
    denied: Arc<Counter>,
}

impl RbacStats {
    /// `counter` registers a counter by its name.
    pub(crate) fn new(config: &Rbac, counter: impl Fn(String) -> Arc<Counter>) -> Self {
        let outcomes = |base: &str, kind: &str| Outcomes {
            allowed: counter(join(base, &format!("{kind}allowed"))),
            denied: counter(join(base, &format!("{kind}denied"))),
        };
        let policies = |base: &str, engine: Option<&Arc<Engine>>, kind: &str| -> Vec<Outcomes> {
            let engine = engine.filter(|_| config.track_per_rule_stats);
            let names = engine.into_iter().flat_map(|engine| engine.policy_names());
            names.map(|name| outcomes(&join(base, &format!("policy.{name}")), kind)).collect()
        };
        let rules = join("rbac", &config.rules_stat_prefix);
        let shadow = join("rbac", &config.shadow_rules_stat_prefix);
        Self {
            enforced: outcomes(&rules, ""),
            shadow: outcomes(&shadow, "shadow_"),
            enforced_policies: policies(&rules, config.rules.as_ref(), ""),
            shadow_policies: policies(&shadow, config.shadow_rules.as_ref(), "shadow_"),
        }
    }

    /// Counts a decision; that of its policy only if the policies are those of the configuration of the chain.
    pub(crate) fn count(&self, mode: Mode, decision: Decision<'_>, counts_policies: bool) {
        let (all, policies) = match mode {
            Mode::Enforced => (&self.enforced, &self.enforced_policies),
            Mode::Shadow => (&self.shadow, &self.shadow_policies),
        };
        all.count(decision.is_allowed());
        let position = decision.position().filter(|_| counts_policies);
        if let Some(policy) = position.and_then(|position| policies.get(position)) {
            policy.count(decision.is_allowed());
        }
    }
}

impl Outcomes {
    fn count(&self, allowed: bool) {
        if allowed { self.allowed.inc() } else { self.denied.inc() }
    }
}

/// Joins parts of a name with a dot, as Envoy does: an empty part adds nothing.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    match (prefix.trim_end_matches('.'), name) {
        ("", name) => name.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}.{name}"),
    }
}
