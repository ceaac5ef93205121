//! What contradicts itself only when several resources are looked at together.
//!
//! Codes and meaning are those of `istioctl analyze`, as far as they make sense without a cluster. What would send
//! requests nowhere (a missing host, subset, port or gateway) is an error; what has no effect is a warning.

mod gateways;
mod routes;
mod rules;
mod services;
mod sidecars;

use crate::config::{Config, Gaps, nearest};
use crate::diagnostic::Diagnostic;
use crate::host::Host;
use crate::registry::Registry;
use crate::rules::DestinationRules;

/// All problems between resources that are no consequence of what could not be read.
pub(crate) fn check(config: &Config, gaps: &Gaps) -> Vec<Diagnostic> {
    let registry = Registry::from_config(config);
    let destination_rules = DestinationRules::from_config(config);
    let mut diagnostics = Vec::new();
    if !gaps.is_partial("ServiceEntry") && !gaps.is_partial("WorkloadEntry") {
        services::check(config, &mut diagnostics);
    }
    rules::check(config, &registry, &mut diagnostics);
    let targets = routes::Targets { registry: &registry, rules: &destination_rules, gaps };
    routes::check(config, targets, &mut diagnostics);
    gateways::check(config, gaps, &mut diagnostics);
    if !gaps.is_partial("Sidecar") {
        sidecars::check(config, &registry, &mut diagnostics);
    }
    diagnostics
}

/// Advice for a host that is not there: the declared one with the most similar name.
fn similar_host(host: &Host, registry: &Registry) -> Option<String> {
    let names = registry.services().iter().map(|service| service.host.as_str());
    nearest(host.as_str(), names).map(|name| format!("did you mean {name:?}?"))
}
