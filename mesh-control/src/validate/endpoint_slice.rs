//! EndpointSlices with the Service that they belong to.

use super::{Scope, addresses};
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(scope: Scope<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for slice in &scope.mesh.config.endpoint_slices {
        match slice.service() {
            Some(service) => addresses::check(&slice.metadata, service, &[&slice.addresses], scope, diagnostics),
            None => diagnostics.push(
                Diagnostic::warning(Code::NoEffect, slice.metadata.position.clone(), "the slice names no Service")
                    .at(slice.metadata.resource(), "metadata.labels")
                    .label("the addresses have no effect")
                    .help("set the label kubernetes.io/service-name to the name of the Service"),
            ),
        }
    }
}
