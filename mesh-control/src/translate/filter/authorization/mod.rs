//! Access control of AuthorizationPolicies, by filters of Envoy.
//!
//! There is one filter for each action that a policy for the node has: `AUDIT`, `DENY`, `ALLOW`, in this order. Each rule of a
//! policy is a policy of the filter, called `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`. What a policy with the annotation for dry runs
//! would do is a shadow policy.
//!
//! In front of the filters that authenticate users are those of the action `CUSTOM`, see `custom`.
//!
//! `rule` translates a rule, `generate` the values of its attributes, `trust_domains` replaces aliases. Source: istiod's
//! `pilot/pkg/security/authz`.

mod custom;
mod ext_authz;
mod generate;
mod rule;
#[cfg(test)]
mod tests;
mod trust_domains;

use std::collections::BTreeMap;

use super::{Side, TcpChain, http_filter, network_filter};
use crate::config::{AuthorizationAction, AuthorizationPolicy, Metadata, selects};
use crate::translate::proto::{any, http, http_rbac, listener, network_rbac, rbac};
use crate::translate::view::View;
use generate::Protocol;
use mesh_core::node::Role;
use rbac::rbac::Action;
use trust_domains::TrustDomains;

pub(in crate::translate) use custom::checking_service;
pub(super) use custom::{add_http as add_custom_http, add_network as add_custom_network};
pub(super) use ext_authz::NAME as EXT_AUTHZ_NAME;

/// Name of the filters of requests.
pub(super) const HTTP_NAME: &str = "envoy.filters.http.rbac";
/// Name of the filters of connections.
const NETWORK_NAME: &str = "envoy.filters.network.rbac";
/// Prefix of the statistics of the filters of connections.
const NETWORK_STAT_PREFIX: &str = "tcp.";

/// Adds the filters of connection managers that serve the node, or the edge of the mesh.
pub(super) fn add_http(view: &View<'_>, side: Side, filters: &mut Vec<http::HttpFilter>) {
    for built in build(view, side, Protocol::Http) {
        let shadow_rules_stat_prefix = built.shadow_stat_prefix();
        let config = http_rbac::Rbac {
            rules: built.rules,
            shadow_rules: built.shadow_rules,
            shadow_rules_stat_prefix,
            ..http_rbac::Rbac::default()
        };
        // gRPC requires names that are unique.
        let suffix = match built.action {
            Action::Deny if view.node.role == Role::Library => ".DENY",
            Action::Log if view.node.role == Role::Library => ".AUDIT",
            Action::Allow | Action::Deny | Action::Log => "",
        };
        filters.push(http_filter(&format!("{HTTP_NAME}{suffix}"), any(&config)));
    }
}

/// Adds the filters of chains that pass on connections to the node, or at the edge of the mesh.
pub(super) fn add_network(view: &View<'_>, side: Side, _: &TcpChain<'_>, filters: &mut Vec<listener::Filter>) {
    for built in build(view, side, Protocol::Tcp) {
        let shadow_rules_stat_prefix = built.shadow_stat_prefix();
        let config = network_rbac::Rbac {
            rules: built.rules,
            shadow_rules: built.shadow_rules,
            shadow_rules_stat_prefix,
            stat_prefix: NETWORK_STAT_PREFIX.to_owned(),
            ..network_rbac::Rbac::default()
        };
        filters.push(network_filter(NETWORK_NAME, any(&config)));
    }
}

/// The policies of one action.
struct Built {
    action: Action,
    rules: Option<rbac::Rbac>,
    shadow_rules: Option<rbac::Rbac>,
}

impl Built {
    /// As istiod, the prefix of `ALLOW` also without shadow policies.
    fn shadow_stat_prefix(&self) -> String {
        match self.shadow_rules.as_ref().map_or(Action::Allow, |_| self.action) {
            Action::Allow => "istio_dry_run_allow_",
            Action::Deny => "istio_dry_run_deny_",
            Action::Log => "",
        }
        .to_owned()
    }
}

fn build(view: &View<'_>, side: Side, protocol: Protocol) -> Vec<Built> {
    if side == Side::Outbound {
        return Vec::new();
    }
    let policies = selected(view);
    let trust_domains = TrustDomains::of(view);
    let actions = [
        (Action::Log, AuthorizationAction::Audit),
        (Action::Deny, AuthorizationAction::Deny),
        (Action::Allow, AuthorizationAction::Allow),
    ];
    let built = actions.into_iter().filter_map(|(action, of_policy)| {
        let policies: Vec<_> = policies.iter().copied().filter(|policy| policy.action == of_policy).collect();
        (!policies.is_empty()).then(|| build_action(&policies, action, protocol, &trust_domains))
    });
    built.collect()
}

/// The policies for the node: those of the mesh, then those of its namespace.
fn selected<'a>(view: &View<'a>) -> Vec<&'a AuthorizationPolicy> {
    let all = &view.mesh.config.authorization_policies;
    let root = view.mesh.config.mesh_config.root_namespace();
    let own = Some(view.node.namespace.as_str()).filter(|namespace| *namespace != root);
    let namespaces = std::iter::once(root).chain(own);
    let of = |namespace| all.iter().filter(move |policy| policy.metadata.namespace == namespace);
    namespaces.flat_map(of).filter(|policy| selects(&policy.selector, &view.node.labels)).collect()
}

/// Name of the filter's policy of a rule.
fn rule_name(metadata: &Metadata, index: usize) -> String {
    format!("ns[{}]-policy[{}]-rule[{index}]", metadata.namespace, metadata.name)
}

fn build_action(
    policies: &[&AuthorizationPolicy],
    action: Action,
    protocol: Protocol,
    trust_domains: &TrustDomains,
) -> Built {
    let mut built = Built { action, rules: None, shadow_rules: None };
    for policy in policies {
        let rules = if policy.is_dry_run { &mut built.shadow_rules } else { &mut built.rules };
        let new = || rbac::Rbac { action: action.into(), policies: BTreeMap::new(), audit_logging_options: None };
        let rules = rules.get_or_insert_with(new);
        let metadata = &policy.metadata;
        let name = |index| rule_name(metadata, index);
        for (index, rule) in policy.rules.iter().enumerate() {
            let translated = rule::translate(rule, &metadata.namespace, action, protocol, trust_domains);
            rules.policies.extend(translated.map(|translated| (name(index), translated)));
        }
        if policy.rules.is_empty() {
            rules.policies.insert(name(0), rule::matches_nothing());
        }
    }
    built
}
