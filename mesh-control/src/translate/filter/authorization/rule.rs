//! One rule: its operations become permissions, its sources principals, and its conditions are added to each of them.

use super::generate::{self, PermissionAttribute, PrincipalAttribute, Protocol, Result};
use super::trust_domains::TrustDomains;
use crate::config::{Attribute, AuthorizationRule, RuleOperation, RuleSource, ValueMatch};
use crate::translate::proto::rbac::{
    Permission, Policy, Principal,
    permission::{self, Rule},
    principal::{self, Identifier},
    rbac::Action,
};

/// A policy that no request matches: what a policy without rules means.
pub(super) fn matches_nothing() -> Policy {
    let never = Rule::NotRule(Box::new(permission(Rule::Any(true))));
    let nobody = Identifier::NotId(Box::new(principal(Identifier::Any(true))));
    Policy { permissions: vec![permission(never)], principals: vec![principal(nobody)], ..Policy::default() }
}

/// The policy of a rule; `None` if it allows something by an attribute that its ports do not have.
pub(super) fn translate(
    rule: &AuthorizationRule,
    namespace: &str,
    action: Action,
    protocol: Protocol,
    trust_domains: &TrustDomains,
) -> Option<Policy> {
    let translator = Translator { namespace, is_strict: action == Action::Allow, protocol, trust_domains };
    let any_operation = [RuleOperation::default()];
    let operations = if rule.to.is_empty() { &any_operation[..] } else { &rule.to };
    let permissions = operations.iter().map(|operation| translator.permission(operation, rule));
    let permissions = permissions.collect::<Result<_>>().ok()?;
    let any_source = [RuleSource::default()];
    let sources = if rule.from.is_empty() { &any_source[..] } else { &rule.from };
    let principals = sources.iter().map(|source| translator.principal(source, rule)).collect::<Result<_>>().ok()?;
    Some(Policy { permissions, principals, ..Policy::default() })
}

struct Translator<'a> {
    /// That of the policy.
    namespace: &'a str,
    /// Whether a rule is left out if a part of it cannot be enforced: a rule without that part would allow more. Without a
    /// part, a rule that denies denies more.
    is_strict: bool,
    protocol: Protocol,
    trust_domains: &'a TrustDomains,
}

impl Translator<'_> {
    fn permission(&self, operation: &RuleOperation, rule: &AuthorizationRule) -> Result<Permission> {
        use PermissionAttribute as Of;
        let RuleOperation { hosts, ports, methods, paths } = operation;
        let own = [(Of::Host, hosts), (Of::Method, methods), (Of::Path, paths), (Of::DestinationPort, ports)];
        let conditions = rule.when.iter().filter_map(|condition| {
            let attribute = match &condition.key {
                Attribute::DestinationIp => Of::DestinationIp,
                Attribute::DestinationPort => Of::DestinationPort,
                Attribute::ConnectionSni => Of::ConnectionSni,
                Attribute::EnvoyMetadata { filter, key } => Of::EnvoyMetadata { filter, key },
                _ => return None,
            };
            Some((attribute, &condition.value))
        });
        let mut all = Vec::new();
        for (attribute, value) in own.into_iter().chain(conditions) {
            let generate = |values: &[String]| self.generated(attribute.permissions(values, self.protocol));
            let (one_of, none_of) = (generate(&value.values)?, generate(&value.not_values)?);
            let or = |rules| if attribute.is_one() { first(rules) } else { Some(any_of(rules)) };
            all.extend(Some(one_of).filter(|rules| !rules.is_empty()).and_then(or));
            let none = Some(none_of).filter(|rules| !rules.is_empty()).and_then(or);
            all.extend(none.map(|rule| permission(Rule::NotRule(Box::new(rule)))));
        }
        if all.is_empty() {
            all.push(permission(Rule::Any(true)));
        }
        Ok(permission(Rule::AndRules(permission::Set { rules: all })))
    }

    fn principal(&self, source: &RuleSource, rule: &AuthorizationRule) -> Result<Principal> {
        use PrincipalAttribute as Of;
        let RuleSource {
            principals,
            request_principals,
            namespaces,
            service_accounts,
            trust_domains,
            ip_blocks,
            remote_ip_blocks,
        } = source;
        let own = [
            (Of::Principal, principals),
            (Of::RequestPrincipal, request_principals),
            (Of::ServiceAccount { namespace: self.namespace }, service_accounts),
            (Of::TrustDomain, trust_domains),
            (Of::Namespace, namespaces),
            (Of::RemoteIp, remote_ip_blocks),
            (Of::SourceIp, ip_blocks),
        ];
        let conditions = rule.when.iter().filter_map(|condition| {
            let attribute = match &condition.key {
                Attribute::SourceIp => Of::SourceIp,
                Attribute::RemoteIp => Of::RemoteIp,
                Attribute::SourceNamespace => Of::Namespace,
                Attribute::SourceTrustDomain => Of::TrustDomain,
                Attribute::SourceServiceAccount => Of::ServiceAccount { namespace: self.namespace },
                Attribute::SourcePrincipal => Of::Principal,
                Attribute::RequestPrincipal => Of::RequestPrincipal,
                Attribute::RequestAudiences => Of::Claim(generate::AUDIENCES),
                Attribute::RequestPresenter => Of::Claim(generate::PRESENTER),
                Attribute::RequestHeader(name) => Of::Header(name),
                Attribute::RequestClaim(path) => Of::ClaimAt(path),
                Attribute::DestinationIp
                | Attribute::DestinationPort
                | Attribute::ConnectionSni
                | Attribute::EnvoyMetadata { .. } => return None,
            };
            Some((attribute, &condition.value))
        });
        let mut all = Vec::new();
        for (attribute, value) in own.into_iter().chain(conditions) {
            let value = self.with_aliases(&attribute, value);
            let generate = |values: &[String]| self.generated(attribute.principals(values, self.protocol));
            let (one_of, none_of) = (generate(&value.values)?, generate(&value.not_values)?);
            let or = |ids| if attribute.is_one() { first(ids) } else { Some(generate::one_of(ids)) };
            all.extend(Some(one_of).filter(|ids| !ids.is_empty()).and_then(or));
            let none = Some(none_of).filter(|ids| !ids.is_empty()).and_then(or);
            all.extend(none.map(|id| principal(Identifier::NotId(Box::new(id)))));
        }
        if all.is_empty() {
            all.push(principal(Identifier::Any(true)));
        }
        Ok(principal(Identifier::AndIds(principal::Set { ids: all })))
    }

    /// What was generated. What cannot be enforced is left out, unless the whole rule must be.
    fn generated<T>(&self, generated: Result<Vec<T>>) -> Result<Vec<T>> {
        if self.is_strict { generated } else { Ok(generated.unwrap_or_default()) }
    }

    fn with_aliases(&self, attribute: &PrincipalAttribute<'_>, value: &ValueMatch) -> ValueMatch {
        let expand: fn(&TrustDomains, &[String]) -> Vec<String> = match attribute {
            PrincipalAttribute::Principal => TrustDomains::expand_principals,
            PrincipalAttribute::TrustDomain => TrustDomains::expand,
            _ => return value.clone(),
        };
        let mut value = value.clone();
        value.values = expand(self.trust_domains, &value.values);
        value.not_values = expand(self.trust_domains, &value.not_values);
        value
    }
}

fn first<T>(list: Vec<T>) -> Option<T> {
    list.into_iter().next()
}

fn any_of(rules: Vec<Permission>) -> Permission {
    permission(Rule::OrRules(permission::Set { rules }))
}

pub(super) fn permission(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

pub(super) fn principal(identifier: Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}
