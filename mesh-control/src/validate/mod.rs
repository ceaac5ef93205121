//! Checks between resources.
//!
//! Codes and meaning are those of `istioctl analyze`, as far as they apply without a cluster. A missing host, subset,
//! port or gateway is an error; a part without effect is a warning.
//!
//! Every kind has a module here with a function `check`, which reports mistakes in the resources of the kind.

mod addresses;
mod authorization_policy;
mod credential;
mod destination_rule;
mod endpoint_slice;
mod endpoints;
mod gateway;
mod peer_authentication;
mod request_authentication;
mod service;
mod service_entry;
mod sidecar;
mod unchecked;
mod virtual_service;
mod workload_entry;

use mesh_core::nearest::nearest;

use crate::config::{Completeness, Options, Visibility, for_each_kind};
use crate::diagnostic::Diagnostic;
use crate::host::{CLUSTER_DOMAIN, Host};
use crate::mesh::Mesh;

/// The input of the checks.
#[derive(Clone, Copy, Debug)]
struct Scope<'a> {
    mesh: &'a Mesh,
    /// The parts of the mesh that could not be read, and must not be reported as missing.
    completeness: &'a Completeness,
    options: &'a Options,
}

macro_rules! define_check_all {
    ($($(#[$doc:meta])+ $kind:ident $(= $name:literal)? { field: $field:ident, module: $module:ident, api: $api:ident })+) => {
        /// Checks the resources of every kind.
        fn check_all(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
            $($module::check(scope, diagnostics);)+
        }
    };
}
for_each_kind!(define_check_all);

/// All mistakes between resources, except those that are only due to resources that could not be read.
pub(crate) fn check(mesh: &Mesh, completeness: &Completeness, options: &Options) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    check_all(Scope { mesh, completeness, options }, &mut diagnostics);
    diagnostics
}

/// Advice for a host that does not exist: the declared host that is meant.
fn similar_host(host: &Host, scope: Scope<'_>) -> Option<String> {
    let services = scope.mesh.registry.services();
    let is_declared = |host: &Host| services.iter().any(|service| service.host == *host);
    let full = full_host(host);
    if let Some(full) = full.as_ref().filter(|full| is_declared(full)) {
        return Some(format!("did you mean \"{full}\"?"));
    }
    if let Some(name) = nearest(host.as_str(), services.iter().map(|service| service.host.as_str())) {
        return Some(format!("did you mean {name:?}?"));
    }
    full.map(|full| format!("the host of a service of another namespace is its full name, such as \"{full}\""))
}

/// The name of a service of which `NAME.NAMESPACE` or `NAME.NAMESPACE.svc` is the beginning. Clients complete names like
/// these; resources must have the full name.
fn full_host(host: &Host) -> Option<Host> {
    let text = host.as_str();
    let (name, namespace) = text.strip_suffix(".svc").unwrap_or(text).split_once('.')?;
    let is_short = !namespace.contains('.') && !host.is_wildcard() && !host.is_ip();
    is_short.then(|| Host::parse(&format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"), namespace).ok())?
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
