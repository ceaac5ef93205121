//! Sidecars that compete for a workload.

use std::collections::HashMap;

use crate::config::{Config, Labels, Sidecar, selects};
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let mut namespaces: HashMap<&str, Vec<&Sidecar>> = HashMap::new();
    for sidecar in &config.sidecars {
        namespaces.entry(&sidecar.metadata.namespace).or_default().push(sidecar);
    }
    for (namespace, sidecars) in namespaces {
        let workloads = workloads(config, namespace);
        for sidecar in &sidecars {
            let mut others = sidecars.iter().filter(|other| !std::ptr::eq(**other, *sidecar));
            if let Some(other) = others.find(|other| compete(sidecar, other, &workloads)) {
                diagnostics.push(conflict(sidecar, other));
            }
        }
    }
}

fn conflict(sidecar: &Sidecar, other: &Sidecar) -> Diagnostic {
    let (code, message) = match sidecar.workload_selector {
        Some(_) => (Code::ConflictingSidecarWorkloadSelectors, "selects the same workload as"),
        None => (Code::MultipleSidecarsWithoutWorkloadSelectors, "selects all workloads of the namespace, as does"),
    };
    Diagnostic::error(code, sidecar.metadata.position.clone(), format!("{message} {}", other.metadata.resource()))
        .at(sidecar.metadata.resource(), "spec.workloadSelector")
        .label("a workload can have one Sidecar only")
        .help(format!("the other one is at {}", other.metadata.position))
}

/// Labels of the workloads that the configuration knows of in a namespace.
fn workloads<'a>(config: &'a Config, namespace: &str) -> Vec<&'a Labels> {
    let entries = config.workload_entries.iter().filter(|entry| entry.metadata.namespace == namespace);
    let services = config.service_entries.iter().filter(|entry| entry.metadata.namespace == namespace);
    entries
        .map(|entry| &entry.workload.labels)
        .chain(services.flat_map(|entry| entry.endpoints.iter().map(|endpoint| &endpoint.labels)))
        .collect()
}

fn compete(a: &Sidecar, b: &Sidecar, workloads: &[&Labels]) -> bool {
    match (&a.workload_selector, &b.workload_selector) {
        (None, None) => true,
        (Some(a), Some(b)) => a == b || workloads.iter().any(|labels| selects(a, labels) && selects(b, labels)),
        _ => false,
    }
}
