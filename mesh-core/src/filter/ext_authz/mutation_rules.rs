//! Which headers of a request the service may change. Envoy `config.common.mutation_rules.v3.HeaderMutationRules`.

use crate::value::{HeaderKey, SafeRegex};

/// Which headers of a request the service may change. The default is Envoy's, if rules are configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "one per boolean field of Envoy's message, under its name")]
pub struct MutationRules {
    /// The authority, the method and the scheme. Default false.
    pub allow_all_routing: bool,
    /// Headers that begin with `x-envoy`. Default false.
    pub allow_envoy: bool,
    /// No pseudo-headers. Default false.
    pub disallow_system: bool,
    /// No headers at all. Default false.
    pub disallow_all: bool,
    /// These may be changed, whatever else is set, except for [`Self::disallow_expression`].
    pub allow_expression: Option<SafeRegex>,
    /// These may not be changed, whatever else is set.
    pub disallow_expression: Option<SafeRegex>,
    /// Refuse a response with a change that is not allowed, instead of leaving the change out. Default false.
    pub disallow_is_error: bool,
}

impl MutationRules {
    /// Whether a header may be changed.
    pub(super) fn allow(&self, key: &HeaderKey) -> bool {
        let name = match key {
            HeaderKey::Method => ":method",
            HeaderKey::Authority => ":authority",
            HeaderKey::Path => ":path",
            HeaderKey::Scheme => ":scheme",
            HeaderKey::Field(name) => name.as_str(),
        };
        let matches = |expression: &Option<SafeRegex>| expression.as_ref().is_some_and(|regex| regex.matches(name));
        if matches(&self.disallow_expression) {
            return false;
        }
        if matches(&self.allow_expression) {
            return true;
        }
        let is_routing = matches!(key, HeaderKey::Method | HeaderKey::Authority | HeaderKey::Scheme);
        let is_system = !matches!(key, HeaderKey::Field(_));
        !(self.disallow_all
            || (self.disallow_system && is_system)
            || (!self.allow_all_routing && is_routing)
            || (!self.allow_envoy && name.starts_with("x-envoy")))
    }
}
