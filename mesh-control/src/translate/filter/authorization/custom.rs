//! The action `CUSTOM`: a service decides about the requests that a rule matches.
//!
//! A filter with shadow policies finds out which requests these are. It denies nothing, but leaves the name of the rule in the
//! dynamic metadata of the request, which makes the filter that asks the service do so.
//!
//! If there is no service to ask, the requests that a rule matches are denied. Connections that are not HTTP are checked by
//! providers with gRPC. Those that a rule matches are denied if the provider is asked over HTTP, which has no form for
//! connections: istiod lets them pass. As in istiod, what a rule says about requests is left out for connections, so that
//! it matches more of them, never less.

use std::collections::BTreeMap;

use super::generate::Protocol;
use super::trust_domains::TrustDomains;
use super::{HTTP_NAME, NETWORK_NAME, NETWORK_STAT_PREFIX, ext_authz, rule, rule_name, selected};
use crate::config::{AuthorizationAction, AuthorizationPolicy};
use crate::ext_authz_providers::{self, Found};
use crate::registry::Service;
use crate::translate::filter::{Side, TcpChain, http_filter, network_filter};
use crate::translate::proto::{any, http, http_rbac, listener, network_rbac, rbac};
use crate::translate::view::View;
use mesh_core::node::Role;
use rbac::rbac::Action;

/// Prefix of the metadata and statistics of the shadow policies.
const SHADOW_PREFIX: &str = "istio_ext_authz_";
/// What the names of the policies begin with.
pub(super) const POLICY_PREFIX: &str = "istio-ext-authz-";
/// What the names of policies end with that deny because no service can be asked.
const BAD_ACTION: &str = "-deny-due-to-bad-CUSTOM-action";
/// What the names of policies end with that deny because connections are not checked.
const UNCHECKED: &str = "-deny-due-to-unchecked-connections";

/// Adds the filters that ask a service about requests.
pub(in crate::translate::filter) fn add_http(view: &View<'_>, side: Side, filters: &mut Vec<http::HttpFilter>) {
    let policies = policies(view);
    if side == Side::Outbound || policies.is_empty() {
        return;
    }
    // gRPC requires names that are unique.
    let suffix = if view.node.role == Role::Library { ".CUSTOM" } else { "" };
    let name = format!("{HTTP_NAME}{suffix}");
    let Some(found) = provider(view, &policies) else {
        let config = http_rbac::Rbac {
            rules: Some(rules(view, &policies, Protocol::Http, BAD_ACTION)),
            ..http_rbac::Rbac::default()
        };
        filters.push(http_filter(&name, any(&config)));
        return;
    };
    let config = http_rbac::Rbac {
        shadow_rules: Some(rules(view, &policies, Protocol::Http, "")),
        shadow_rules_stat_prefix: SHADOW_PREFIX.to_owned(),
        ..http_rbac::Rbac::default()
    };
    filters.push(http_filter(&name, any(&config)));
    filters.push(http_filter(ext_authz::NAME, any(&ext_authz::config(&found, &shadow_key()))));
}

/// Where the dynamic metadata has the name of the rule that matches.
fn shadow_key() -> String {
    format!("{SHADOW_PREFIX}shadow_effective_policy_id")
}

/// Adds the filters that ask a service about connections, or else the one that denies those that would have to be checked.
pub(in crate::translate::filter) fn add_network(
    view: &View<'_>,
    side: Side,
    _: &TcpChain<'_>,
    filters: &mut Vec<listener::Filter>,
) {
    let policies = policies(view);
    if side == Side::Outbound || policies.is_empty() {
        return;
    }
    let found = provider(view, &policies);
    if let Some(ext_authz) = found.as_ref().and_then(|found| ext_authz::network_config(found, &shadow_key())) {
        let config = network_rbac::Rbac {
            shadow_rules: Some(rules(view, &policies, Protocol::Tcp, "")),
            shadow_rules_stat_prefix: SHADOW_PREFIX.to_owned(),
            stat_prefix: NETWORK_STAT_PREFIX.to_owned(),
            ..network_rbac::Rbac::default()
        };
        filters.push(network_filter(NETWORK_NAME, any(&config)));
        filters.push(network_filter(ext_authz::NETWORK_NAME, any(&ext_authz)));
        return;
    }
    let config = network_rbac::Rbac {
        rules: Some(rules(view, &policies, Protocol::Tcp, UNCHECKED)),
        stat_prefix: NETWORK_STAT_PREFIX.to_owned(),
        ..network_rbac::Rbac::default()
    };
    filters.push(network_filter(NETWORK_NAME, any(&config)));
}

/// The service that the node asks, if it is none of those that the node may call anyway.
pub(in crate::translate) fn checking_service<'a>(view: &View<'a>) -> Option<&'a Service> {
    let service = provider(view, &policies(view))?.service;
    let is_known = view.services.iter().any(|known| known.host == service.host);
    (!is_known).then_some(service)
}

/// The policies for the node, with the names of their providers.
fn policies<'a>(view: &View<'a>) -> Vec<(&'a str, &'a AuthorizationPolicy)> {
    let custom = |policy: &'a AuthorizationPolicy| match &policy.action {
        AuthorizationAction::Custom { provider } => Some((provider.as_str(), policy)),
        AuthorizationAction::Allow | AuthorizationAction::Deny | AuthorizationAction::Audit => None,
    };
    selected(view).into_iter().filter_map(custom).collect()
}

/// The provider of all the policies. As in istiod, a workload has one at most.
fn provider<'a>(view: &View<'a>, policies: &[(&str, &AuthorizationPolicy)]) -> Option<Found<'a>> {
    let (name, _) = policies.first()?;
    let is_only = policies.iter().all(|(other, _)| other == name);
    ext_authz_providers::find(view.mesh, name).ok().filter(|_| is_only)
}

fn rules(view: &View<'_>, policies: &[(&str, &AuthorizationPolicy)], protocol: Protocol, suffix: &str) -> rbac::Rbac {
    let trust_domains = TrustDomains::of(view);
    let mut rules = rbac::Rbac { action: Action::Deny.into(), policies: BTreeMap::new(), audit_logging_options: None };
    for (_, policy) in policies {
        let metadata = &policy.metadata;
        for (index, rule) in policy.rules.iter().enumerate() {
            let translated = rule::translate(rule, &metadata.namespace, Action::Deny, protocol, &trust_domains);
            let name = format!("{POLICY_PREFIX}{}{suffix}", rule_name(metadata, index));
            rules.policies.extend(translated.map(|translated| (name, translated)));
        }
    }
    rules
}
