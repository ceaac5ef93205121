//! What has been decided about a request, and how it is reported.

use std::{collections::BTreeMap, sync::Arc};

use super::{Rbac, engine::Engine};
use crate::value::{Metadata, MetadataValue};

/// Namespace of metadata that all filters share.
const COMMON_NAMESPACE: &str = "envoy.common";
/// Whether a policy with action `LOG` has matched.
const ACCESS_LOG_HINT: &str = "access_log_hint";

/// What policies have decided about a request.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'e> {
    engine: &'e Engine,
    /// Position of the policy that has matched.
    matched: Option<u32>,
    allowed: bool,
}

impl<'e> Decision<'e> {
    pub(super) fn new(engine: &'e Engine, matched: Option<u32>, allowed: bool) -> Self {
        Self { engine, matched, allowed }
    }

    /// Whether the request is allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The name of the first policy that matches; `None` if none does.
    #[must_use]
    pub fn policy(&self) -> Option<&'e str> {
        self.engine.policy_name(self.matched?).filter(|name| !name.is_empty())
    }

    /// The position of that policy in the order of names.
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        Some(self.matched? as usize)
    }
}

/// What a filter has decided about a request, as it is reported later. It is kept as it is and becomes metadata only
/// when metadata is read, so that a request that nothing reads metadata of allocates none.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The configuration that has decided.
    config: Arc<Rbac>,
    /// That of the chain, whose prefixes count if a route's has none.
    own: Arc<Rbac>,
    namespace: Namespace,
    mode: Mode,
    matched: Option<u32>,
    allowed: bool,
}

/// What was decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// A request. `envoy.filters.http.rbac`.
    Http,
    /// A connection. `envoy.filters.network.rbac`.
    Network,
}

/// Whether a decision was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It was. Envoy `rules`.
    Enforced,
    /// It is only reported. Envoy `shadow_rules`.
    Shadow,
}

impl Namespace {
    /// The namespace of the metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "envoy.filters.http.rbac",
            Self::Network => "envoy.filters.network.rbac",
        }
    }
}

impl Report {
    /// The report of a decision by `config`, of a filter whose configuration in the chain is `own`.
    #[must_use]
    pub fn new(config: &Arc<Rbac>, own: &Arc<Rbac>, namespace: Namespace, mode: Mode, decision: Decision<'_>) -> Self {
        let Decision { matched, allowed, .. } = decision;
        Self { config: Arc::clone(config), own: Arc::clone(own), namespace, mode, matched, allowed }
    }

    /// Whether the decision was carried out.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What was decided about.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// The decision.
    #[must_use]
    pub fn decision(&self) -> Option<Decision<'_>> {
        let engine = match self.mode {
            Mode::Enforced => self.config.rules.as_deref(),
            Mode::Shadow => self.config.shadow_rules.as_deref(),
        };
        Some(Decision::new(engine?, self.matched, self.allowed))
    }

    /// Adds the decision to metadata, under Envoy's names.
    pub fn write(&self, metadata: &mut Metadata) {
        let Some(decision) = self.decision() else { return };
        let (prefix, own, name) = match self.mode {
            Mode::Enforced => (&self.config.rules_stat_prefix, &self.own.rules_stat_prefix, "enforced_"),
            Mode::Shadow => (&self.config.shadow_rules_stat_prefix, &self.own.shadow_rules_stat_prefix, "shadow_"),
        };
        let prefix = if prefix.is_empty() { own } else { prefix };
        let mut fields = BTreeMap::new();
        let mut set = |field: &str, text: &str| {
            fields.insert(format!("{prefix}{name}{field}").into(), MetadataValue::String(text.into()));
        };
        if let Some(policy) = decision.policy() {
            set("effective_policy_id", policy);
        }
        set("engine_result", if self.allowed { "allowed" } else { "denied" });
        metadata.merge(self.namespace.as_str(), fields);
        let hint = decision.engine.access_log_hint(self.matched).filter(|_| self.mode == Mode::Enforced);
        if let Some(hint) = hint.map(MetadataValue::Bool) {
            metadata.merge(COMMON_NAMESPACE, BTreeMap::from([(ACCESS_LOG_HINT.into(), hint)]));
        }
    }
}
