//! Who this program is.

use std::sync::Arc;

use mesh_control::{
    config::Labels,
    translate::{Node, Role},
};
use mesh_core::model::{DestinationService, Workload};
use mesh_tower::telemetry::Telemetry;

use crate::error::{Error, Kind};

/// The node of `service`; a name without a namespace is one of `namespace`.
pub(crate) fn node(service: &str, namespace: Option<&str>, labels: Labels) -> Result<Node, Error> {
    let qualified = match namespace {
        Some(namespace) if !service.contains('.') => format!("{service}.{namespace}"),
        Some(_) | None => service.to_owned(),
    };
    let node = Node::of_service(Role::Library, &qualified, labels);
    Ok(node.map_err(|source| Kind::Service { service: service.to_owned(), source })?)
}

/// Counts what `node` does in its name.
pub(crate) fn telemetry(node: &Node) -> Telemetry {
    let service = destination_service(node);
    let name = service.as_ref().map_or("", |service| &service.name);
    Telemetry {
        workload: Some(Arc::new(Workload::from_labels(name, &node.namespace, &node.labels))),
        service: service.map(Arc::new),
        ..Telemetry::default()
    }
}

/// The service that requests to `node` ask for.
pub(crate) fn destination_service(node: &Node) -> Option<DestinationService> {
    let host = node.service.as_ref()?;
    let (name, namespace) = host.kubernetes_service().unwrap_or((host.as_str(), &node.namespace));
    Some(DestinationService { host: host.as_str().into(), name: name.into(), namespace: namespace.into() })
}
