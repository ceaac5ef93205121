//! `AuthorizationPolicy`: who may send which requests to some workloads.
//!
//! Source: `security/v1beta1/authorization_policy.proto`, and istiod's validation of it. Istio leaves out a rule that it
//! cannot translate; here everything that cannot be enforced is refused with its position.
//!
//! `rule` has the rules and what they match, `values` the forms of their strings, `attribute` the keys of conditions.

mod attribute;
mod rule;
mod values;

pub use attribute::Attribute;
pub use rule::{AuthorizationRule, RuleCondition, RuleOperation, RuleSource};
pub use values::ValueMatch;

use super::Resource;
use super::metadata::Metadata;
use super::scalar::{Labels, labels};
use crate::diagnostic::{Code, Diagnostic, Position};
use crate::document::{Context, Located, Node, Object};

/// Annotation that makes a policy report what it would do, instead of doing it.
const DRY_RUN: &str = "istio.io/dry-run";

/// Who may send which requests to some workloads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthorizationPolicy {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Labels of the workloads; empty means all workloads of the namespace, and in the root namespace of the mesh.
    pub selector: Labels,
    /// What happens to a request that a rule matches.
    pub action: AuthorizationAction,
    /// Place of the action, or of the `spec` if the action is the default; of the provider's name if the action is `CUSTOM`.
    pub action_position: Position,
    /// The rules, of which one has to match. Without rules, no request matches.
    pub rules: Vec<AuthorizationRule>,
    /// Whether the policy only reports what it would do. Annotation `istio.io/dry-run`.
    pub is_dry_run: bool,
}

/// What happens to a request that a rule matches. Istio `AuthorizationPolicy.Action`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationAction {
    /// It is allowed, unless another policy denies it. Requests that match no policy with this action are denied, if
    /// there is one. The default.
    Allow,
    /// It is denied.
    Deny,
    /// It is marked for an audit.
    Audit,
    /// A service decides.
    Custom {
        /// Name of an extension provider of the mesh's configuration.
        provider: String,
    },
}

impl AuthorizationAction {
    /// The name of the value.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
            Self::Custom { .. } => "CUSTOM",
        }
    }
}

impl Resource for AuthorizationPolicy {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let selector = read_selector(&object);
        let action_mark = if object.has("action") { object.value_mark("action") } else { object.mark() };
        let (action, provider_position) = read_action(&object).unzip();
        let has_rules = object.has("rules") && !object.is_empty_list("rules");
        let rules: Vec<AuthorizationRule> = object.list("rules");
        let selects_by_reference = ["targetRef", "targetRefs"].into_iter().any(|name| object.has(name));
        object.unsupported(&["targetRef", "targetRefs"]);
        let action_position = provider_position.flatten().unwrap_or_else(|| cx.position(action_mark));
        let is_dry_run = action.as_ref().is_some_and(|action| read_dry_run(&metadata, action, cx));
        if let Some(action) = &action {
            check_rules(action, &rules, has_rules, &object);
        }
        object.finish();
        // Without its targets the policy would be about other workloads.
        let action = action.filter(|_| !selects_by_reference)?;
        Some(Self { metadata, selector, action, action_position, rules, is_dry_run })
    }
}

fn read_selector(object: &Object<'_>) -> Labels {
    let Some(node) = object.node("selector") else { return Labels::new() };
    let cx = object.cx.field("selector");
    let Some(selector) = Object::new(node, cx) else { return Labels::new() };
    let found = labels(&selector, "matchLabels").unwrap_or_default();
    if found.is_empty() {
        let message = "the selector has no labels, so it selects every workload of the namespace";
        cx.report(Diagnostic::warning(Code::SchemaValidation, cx.position(node.mark), message).label("no matchLabels"));
    }
    selector.finish();
    found
}

/// Names of [`AuthorizationAction`], before the provider is known.
#[derive(Clone, Copy)]
enum ActionName {
    Allow,
    Deny,
    Audit,
    Custom,
}

/// The action, and the place of its provider.
fn read_action(object: &Object<'_>) -> Option<(AuthorizationAction, Option<Position>)> {
    let table = [
        ("ALLOW", 0, Some(ActionName::Allow)),
        ("DENY", 1, Some(ActionName::Deny)),
        ("AUDIT", 2, Some(ActionName::Audit)),
        ("CUSTOM", 3, Some(ActionName::Custom)),
    ];
    let name = match object.node("action") {
        None => Some(ActionName::Allow),
        Some(node) => object.cx.field("action").enumeration(node, &table),
    };
    let provider = read_provider(object);
    let action = match name? {
        ActionName::Allow => AuthorizationAction::Allow,
        ActionName::Deny => AuthorizationAction::Deny,
        ActionName::Audit => AuthorizationAction::Audit,
        ActionName::Custom => {
            if !object.has("provider") {
                let message = "provider is missing: action CUSTOM needs the name of an extension provider";
                object.cx.field("provider").invalid(object.key_mark("action"), message, "needs provider.name");
            }
            return provider.map(|it| (AuthorizationAction::Custom { provider: it.value }, Some(it.position)));
        }
    };
    if object.has("provider") {
        let message = format!("provider cannot be set with action {}", action.as_str());
        object.cx.field("provider").invalid(object.key_mark("provider"), message, "expected action CUSTOM");
    }
    Some((action, None))
}

/// Istio `ExtensionProvider`: the name of one.
fn read_provider(object: &Object<'_>) -> Option<Located<String>> {
    let cx = object.cx.field("provider");
    let provider = Object::new(object.node("provider")?, cx)?;
    let name: Option<Located<String>> = provider.required("name");
    provider.finish();
    let name = name?;
    if name.is_empty() {
        cx.field("name").refuse(name.position, "name is empty", "expected the name of an extension provider");
        return None;
    }
    Some(name)
}

/// The annotation has one of the values that Go's `strconv.ParseBool` accepts.
fn read_dry_run(metadata: &Metadata, action: &AuthorizationAction, cx: Context<'_>) -> bool {
    let Some(value) = metadata.annotations.get(DRY_RUN) else { return false };
    let position = metadata.position.clone();
    if !matches!(action, AuthorizationAction::Allow | AuthorizationAction::Deny) {
        let message = format!("annotation {DRY_RUN} is for actions ALLOW and DENY, not for {}", action.as_str());
        cx.refuse(position, message, "remove the annotation");
        return false;
    }
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        other => {
            let message = format!("annotation {DRY_RUN} has the value {other:?}: must be \"true\" or \"false\"");
            cx.refuse(position, message, "has an invalid annotation");
            false
        }
    }
}

/// What an action requires of the rules, and what is likely to be a mistake.
fn check_rules(action: &AuthorizationAction, rules: &[AuthorizationRule], has_rules: bool, object: &Object<'_>) {
    let cx = object.cx.field("rules");
    let needs_rules = matches!(action, AuthorizationAction::Deny | AuthorizationAction::Custom { .. });
    if needs_rules && !has_rules {
        let message = format!(
            "action {} without rules has no effect, because no request matches: add an empty rule `{{}}` for every request",
            action.as_str()
        );
        cx.invalid(object.key_mark("action"), message, "needs rules");
    }
    for (index, rule) in rules.iter().enumerate() {
        let cx = cx.index(index);
        match action {
            AuthorizationAction::Custom { .. } => rule.check_custom(cx),
            AuthorizationAction::Deny if rule.denies_all_of_tcp() => {
                let message =
                    "the rule denies all connections to ports that are not HTTP, because it has HTTP attributes only";
                let warning = Diagnostic::warning(Code::SchemaValidation, rule.position.clone(), message);
                cx.report(warning.label("matches every TCP connection").help("name the ports with to.operation.ports"));
            }
            _ => {}
        }
    }
}
