//! Checks between resources.
//!
//! Codes and meaning are those of `istioctl analyze`, as far as they apply without a cluster. A missing host, subset,
//! port or gateway is an error; a part without effect is a warning.
//!
//! Every kind has a module here with a function `check`, which reports mistakes in the resources of the kind.

mod destination_rule;
mod gateway;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload_entry;

use mesh_core::nearest::nearest;

use crate::config::{Completeness, Visibility, for_each_kind};
use crate::diagnostic::Diagnostic;
use crate::host::Host;
use crate::mesh::Mesh;
use crate::registry::Registry;

/// The input of the checks.
#[derive(Clone, Copy, Debug)]
struct Scope<'a> {
    mesh: &'a Mesh,
    /// The parts of the mesh that could not be read, and must not be reported as missing.
    completeness: &'a Completeness,
}

macro_rules! define_check_all {
    ($($(#[$doc:meta])+ $kind:ident { field: $field:ident, module: $module:ident, api: $api:ident })+) => {
        /// Checks the resources of every kind.
        fn check_all(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
            $($module::check(scope, diagnostics);)+
        }
    };
}
for_each_kind!(define_check_all);

/// All mistakes between resources, except those that are only due to resources that could not be read.
pub(crate) fn check(mesh: &Mesh, completeness: &Completeness) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    check_all(Scope { mesh, completeness }, &mut diagnostics);
    diagnostics
}

/// Advice for a host that does not exist: the declared host with the most similar name.
fn similar_host(host: &Host, registry: &Registry) -> Option<String> {
    let names = registry.services().iter().map(|service| service.host.as_str());
    nearest(host.as_str(), names).map(|name| format!("did you mean {name:?}?"))
}

/// Whether some namespace sees both of two resources, given as visibility and owner.
fn overlaps(a: (&[Visibility], &str), b: (&[Visibility], &str)) -> bool {
    let namespaces = |(list, owner): (&[Visibility], &str)| -> Option<Vec<String>> {
        if list.is_empty() || list.contains(&Visibility::All) {
            return None;
        }
        let name = |entry: &Visibility| match entry {
            Visibility::Own => Some(owner.to_owned()),
            Visibility::Namespace(name) => Some(name.clone()),
            Visibility::All | Visibility::None => None,
        };
        Some(list.iter().filter_map(name).collect())
    };
    match (namespaces(a), namespaces(b)) {
        (None, None) => true,
        (Some(list), None) | (None, Some(list)) => !list.is_empty(),
        (Some(a), Some(b)) => a.iter().any(|name| b.contains(name)),
    }
}
