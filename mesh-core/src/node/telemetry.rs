//! The identity of a node in telemetry: its workload and its service.

use std::sync::Arc;

use super::{CLUSTER_ID, Node, Role};
use crate::model::{DestinationService, Workload};

/// Name of a gateway that serves no service: that of Istio's own gateway.
const DEFAULT_GATEWAY: &str = "istio-ingressgateway";

impl Node {
    /// The node's workload. Without a service it has no name, unless it is a gateway.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let service = match (&self.service, self.role) {
            (Some(host), _) => host.kubernetes_service().map_or(host.as_str(), |(name, _)| name),
            (None, Role::Gateway) => DEFAULT_GATEWAY,
            (None, Role::Sidecar(_) | Role::Library) => "",
        };
        let mut workload = Workload::from_labels(service, &self.namespace, &self.labels);
        workload.cluster = CLUSTER_ID.into();
        workload
    }

    /// The service of requests to the node, named as in the metadata of clusters, so that both ends of a request count
    /// it under one `destination_service_name`. Istio names a service of a ServiceEntry by its host; short names belong
    /// to services of Kubernetes.
    #[must_use]
    pub fn destination_service(&self) -> Option<DestinationService> {
        let host: Arc<str> = self.service.as_ref()?.as_str().into();
        Some(DestinationService { name: Arc::clone(&host), host, namespace: self.namespace.as_str().into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Labels;

    #[test]
    fn a_node_reports_as_the_workload_that_its_service_and_labels_make() {
        let versioned = Labels::from([("version".to_owned(), "v2".to_owned())]);
        for (node, workload, service) in [
            (
                Node::new(Role::Library, Some("reviews.books"), None, versioned).unwrap(),
                "reviews-v2",
                Some("reviews.books.svc.cluster.local"),
            ),
            (
                Node::new(Role::Library, Some("api.books.example"), None, Labels::new()).unwrap(),
                "api.books.example",
                Some("api.books.example"),
            ),
            (Node::client(Role::Gateway, "edge"), DEFAULT_GATEWAY, None),
            (Node::client(Role::Library, "books"), "", None),
        ] {
            let found = node.workload();
            assert_eq!((&*found.name, &*found.namespace, &*found.cluster), (workload, &*node.namespace, CLUSTER_ID));
            let host = service.map(Arc::from);
            let named = node.destination_service();
            assert_eq!(named.as_ref().map(|service| &service.host), host.as_ref());
            assert_eq!(named.as_ref().map(|service| &service.name), host.as_ref());
        }
    }
}
