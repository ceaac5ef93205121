//! Rules: from whom, to what, and under which conditions.

use super::attribute::Attribute;
use super::values::{Form, ValueMatch};
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Located, Node, Object};

/// A rule matches if one of its sources, one of its operations and all of its conditions match. Istio `Rule`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthorizationRule {
    /// Its position.
    pub position: Position,
    /// Who sends the request; empty means anyone.
    pub from: Vec<RuleSource>,
    /// What is requested; empty means anything.
    pub to: Vec<RuleOperation>,
    /// Conditions in addition.
    pub when: Vec<RuleCondition>,
}

/// A peer. All of the fields have to match. Istio `Source`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RuleSource {
    /// Identities of the peer's certificate without `spiffe://`, such as `cluster.local/ns/default/sa/reviews`.
    pub principals: ValueMatch,
    /// `ISSUER/SUBJECT` of the request's JSON Web Token.
    pub request_principals: ValueMatch,
    /// Namespaces of the peer's identity.
    pub namespaces: ValueMatch,
    /// Service accounts of the peer's identity: `NAMESPACE/NAME`, or `NAME` in the policy's namespace.
    pub service_accounts: ValueMatch,
    /// Trust domains of the peer's identity.
    pub trust_domains: ValueMatch,
    /// Addresses of the peer of the connection.
    pub ip_blocks: ValueMatch,
    /// Addresses of the client, also behind trusted proxies.
    pub remote_ip_blocks: ValueMatch,
}

/// What is requested. All of the fields have to match. Istio `Operation`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RuleOperation {
    /// Authorities, in any case, with their port if they have one.
    pub hosts: ValueMatch,
    /// Ports of the workload.
    pub ports: ValueMatch,
    /// Methods.
    pub methods: ValueMatch,
    /// Paths without their query, or templates.
    pub paths: ValueMatch,
}

/// A condition on an attribute. Istio `Condition`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuleCondition {
    /// The attribute.
    pub key: Attribute,
    /// The values that it has, and does not have.
    pub value: ValueMatch,
}

impl AuthorizationRule {
    /// Whether, as a DENY rule, it denies every connection to a port that is not HTTP, because only its HTTP attributes limit
    /// it. As istiod's warning, this does not consider the conditions.
    pub(super) fn denies_all_of_tcp(&self) -> bool {
        let is_tcp = |source: &RuleSource| {
            let RuleSource {
                principals,
                request_principals: _,
                namespaces,
                service_accounts,
                trust_domains,
                ip_blocks,
                remote_ip_blocks,
            } = source;
            [principals, namespaces, service_accounts, trust_domains, ip_blocks, remote_ip_blocks]
                .iter()
                .any(|values| !values.is_empty())
        };
        let from_http_only = !self.from.is_empty() && self.to.is_empty() && !self.from.iter().any(is_tcp);
        let to_http_only = !self.to.is_empty() && self.to.iter().all(|operation| operation.ports.is_empty());
        from_http_only || to_http_only
    }

    /// Refuses what a rule with action `CUSTOM` cannot have: its service is asked before a token is validated, and decides
    /// about identities itself.
    pub(super) fn check_custom(&self, cx: Context<'_>) {
        let refuse = |cx: Context<'_>, name: &str| {
            let message = format!("{name} is not supported with action CUSTOM");
            cx.refuse(self.position.clone(), message, "not supported with CUSTOM");
        };
        for (index, source) in self.from.iter().enumerate() {
            let cx = cx.field("from");
            let cx = cx.index(index);
            let cx = cx.field("source");
            for (name, values) in [
                ("principals", &source.principals),
                ("requestPrincipals", &source.request_principals),
                ("namespaces", &source.namespaces),
                ("serviceAccounts", &source.service_accounts),
                ("trustDomains", &source.trust_domains),
            ] {
                if !values.is_empty() {
                    refuse(cx.field(name), name);
                }
            }
        }
        for (index, condition) in self.when.iter().enumerate() {
            if condition.key.is_identity() {
                let cx = cx.field("when");
                let cx = cx.index(index);
                refuse(cx.field("key"), "a condition on an identity or a token");
            }
        }
    }
}

impl FromNode for AuthorizationRule {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let list = |name| {
            if object.is_empty_list(name) {
                cx.field(name).invalid(object.key_mark(name), format!("{name} is empty"), "expected at least one item");
            }
        };
        list("from");
        list("to");
        let from = object.list::<Wrapped<RuleSource>>("from").into_iter().map(|wrapped| wrapped.0).collect();
        let to = object.list::<Wrapped<RuleOperation>>("to").into_iter().map(|wrapped| wrapped.0).collect();
        let rule = Self { position: object.position(), from, to, when: object.list("when") };
        object.finish();
        Some(rule)
    }
}

/// `{source: ...}` or `{operation: ...}`.
struct Wrapped<T>(T);

/// What is in a [`Wrapped`].
trait Inner: FromNode {
    const FIELD: &'static str;
}

impl Inner for RuleSource {
    const FIELD: &'static str = "source";
}

impl Inner for RuleOperation {
    const FIELD: &'static str = "operation";
}

impl<T: Inner> FromNode for Wrapped<T> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let inner = object.required(T::FIELD);
        object.finish();
        inner.map(Self)
    }
}

impl FromNode for RuleSource {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let read = |name, not_name, form| ValueMatch::read(&object, name, not_name, form);
        let source = Self {
            principals: read("principals", "notPrincipals", Form::Text),
            request_principals: read("requestPrincipals", "notRequestPrincipals", Form::Text),
            namespaces: read("namespaces", "notNamespaces", Form::Namespace),
            service_accounts: read("serviceAccounts", "notServiceAccounts", Form::ServiceAccount),
            trust_domains: read("trustDomains", "notTrustDomains", Form::TrustDomain),
            ip_blocks: read("ipBlocks", "notIpBlocks", Form::Ip),
            remote_ip_blocks: read("remoteIpBlocks", "notRemoteIpBlocks", Form::Ip),
        };
        let names_accounts = !source.service_accounts.is_empty();
        for (name, not_name, values) in
            [("principals", "notPrincipals", &source.principals), ("namespaces", "notNamespaces", &source.namespaces)]
        {
            if names_accounts && !values.is_empty() {
                let name = if values.values.is_empty() { not_name } else { name };
                let message = format!("{name} cannot be set together with serviceAccounts");
                cx.field(name).invalid(object.key_mark(name), message, "expected one of them");
            }
        }
        refuse_empty(&object, "source");
        object.finish();
        Some(source)
    }
}

impl FromNode for RuleOperation {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let read = |name, not_name, form| ValueMatch::read(&object, name, not_name, form);
        let operation = Self {
            hosts: read("hosts", "notHosts", Form::Text),
            ports: read("ports", "notPorts", Form::Port),
            methods: read("methods", "notMethods", Form::Text),
            paths: read("paths", "notPaths", Form::Path),
        };
        refuse_empty(&object, "operation");
        object.finish();
        Some(operation)
    }
}

/// Refuses a source or an operation without any value: it would match everything. Also a list without values, which reads
/// as if it matched nothing.
fn refuse_empty(object: &Object<'_>, name: &str) {
    if !object.has_any_field() {
        object.cx.invalid(object.mark(), format!("{name} is empty"), "expected at least one field");
    }
    object.for_each_empty_list(|field, mark| {
        let message = format!("{field} is empty, which is the same as if it were not there");
        object.cx.field(field).invalid(mark, message, "expected at least one value");
    });
}

impl FromNode for RuleCondition {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let key: Option<Located<Attribute>> = object.required("key");
        let form = key.as_ref().map_or(Form::Text, |key| key.form());
        let value = ValueMatch::read(&object, "values", "notValues", form);
        if value.is_empty() {
            cx.invalid(object.mark(), "the condition has neither values nor notValues", "expected one of them");
        }
        object.finish();
        Some(Self { key: key?.value, value })
    }
}
