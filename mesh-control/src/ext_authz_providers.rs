//! The services that decide about requests: what AuthorizationPolicies with the action `CUSTOM` name.
//!
//! A policy names an extension provider of the MeshConfig, and the provider a service of the mesh. Source: istiod
//! `pilot/pkg/extensionproviders`.

use crate::config::{ExtAuthzProvider, ProviderKind};
use crate::mesh::Mesh;
use crate::registry::{Port, Service};

/// A provider whose service can be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    /// How it is asked.
    pub(crate) provider: &'a ExtAuthzProvider,
    /// Its service.
    pub(crate) service: &'a Service,
    /// The service's port that is asked.
    pub(crate) port: &'a Port,
}

/// No service can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotFound {
    /// The MeshConfig has no provider of the name.
    #[error("the MeshConfig has no extension provider {0:?}")]
    Provider(String),
    /// The provider is one of traces, access logs or metrics.
    #[error("extension provider {name:?} is of the kind {kind}, which does not authorize requests")]
    Kind {
        /// Name of the provider.
        name: String,
        /// Its kind.
        kind: &'static str,
    },
    /// The registry does not have the service.
    #[error("no service is {service:?}, which extension provider {name:?} names")]
    Service {
        /// Name of the provider.
        name: String,
        /// `[NAMESPACE/]HOST`.
        service: String,
    },
    /// The provider names no namespace, and services of several have the host.
    #[error(
        "services of several namespaces are {service:?}, which extension provider {name:?} names: expected NAMESPACE/HOST"
    )]
    Ambiguous {
        /// Name of the provider.
        name: String,
        /// The host.
        service: String,
    },
    /// The service does not have the port.
    #[error("{service:?} has no port {port}, which extension provider {name:?} names")]
    Port {
        /// Name of the provider.
        name: String,
        /// `[NAMESPACE/]HOST`.
        service: String,
        /// The port.
        port: u16,
    },
}

/// The provider of a name, with its service. As in istiod, it may be one that is not visible to the namespaces of clients.
pub(crate) fn find<'a>(mesh: &'a Mesh, name: &str) -> Result<Found<'a>, NotFound> {
    let Some(extension) = mesh.config.mesh_config.extension_provider(name) else {
        return Err(NotFound::Provider(name.to_owned()));
    };
    let name = name.to_owned();
    let provider = match &extension.kind {
        ProviderKind::ExtAuthz(provider) => provider,
        ProviderKind::Telemetry(kind) => return Err(NotFound::Kind { name, kind }),
    };
    let service = provider.service.value.clone();
    let (namespace, host) =
        service.split_once('/').map_or((None, &*service), |(namespace, host)| (Some(namespace), host));
    let is_named = |found: &&Service| {
        found.host.as_str() == host && namespace.is_none_or(|namespace| found.namespace == namespace)
    };
    let mut services = mesh.registry.services().iter().filter(is_named);
    let found = match (services.next(), services.next()) {
        (Some(only), None) => only,
        (None, _) => return Err(NotFound::Service { name, service }),
        (Some(_), Some(_)) => return Err(NotFound::Ambiguous { name, service }),
    };
    match found.port(provider.port) {
        Some(port) => Ok(Found { provider, service: found, port }),
        None => Err(NotFound::Port { name, service, port: provider.port }),
    }
}
