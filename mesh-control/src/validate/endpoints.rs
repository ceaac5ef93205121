//! Endpoints with the Service of the same name.

use super::{Scope, addresses};
use crate::diagnostic::Diagnostic;

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for endpoints in &scope.mesh.config.endpoints {
        let sets: Vec<_> = endpoints.subsets.iter().collect();
        addresses::check(&endpoints.metadata, &endpoints.metadata.name, &sets, scope, diagnostics);
    }
}
