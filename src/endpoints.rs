//! Services whose endpoints come from code.

use std::{fmt, net::SocketAddr, sync::Arc};

use mesh_core::{
    model::{
        Cluster, DestinationService, Discovery, HttpProtocol, LoadAssignment, PathMatcher, Route, RouteAction,
        RouteConfiguration, RouteMatch, VirtualHost,
    },
    node,
    store::Store,
    target::Target,
};

use crate::background::rng;

/// The protocol of a service's endpoints. Istio's protocols of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS.
    Http2,
    /// gRPC, over HTTP/2 without TLS.
    Grpc,
}

/// A handle to the endpoints of one service, which can be replaced at any time. It is returned by
/// [`Mesh::endpoints`](crate::Mesh::endpoints). Clones refer to the same endpoints.
#[derive(Clone)]
pub struct Endpoints {
    service: Arc<str>,
    store: Arc<Store>,
}

impl Endpoints {
    pub(crate) fn new(target: &Target, store: Arc<Store>) -> Self {
        Self { service: cluster_name(target).into(), store }
    }

    /// Replaces all endpoints. New requests use the new endpoints; requests in flight are not affected. An endpoint that
    /// remains keeps its connections and its state.
    pub fn set(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let assignment = Arc::new(addresses.into_iter().collect::<LoadAssignment>());
        self.store.set_endpoints(&self.service, &assignment, &mut rng());
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoints").field(&self.service).finish()
    }
}

/// The name of the cluster of a target, which is Istio's name for a service without subset.
pub(crate) fn cluster_name(target: &Target) -> String {
    let port = target.port().map(|port| port.to_string()).unwrap_or_default();
    format!("outbound|{port}||{}", target.host())
}

/// The cluster of a target, with Istio's defaults.
pub(crate) fn cluster(target: &Target, protocol: Protocol, namespace: &str) -> Cluster {
    let name = cluster_name(target);
    let mut cluster =
        Cluster::with_istio_defaults(name.as_str(), Discovery::Eds { service_name: name.as_str().into() });
    cluster.http_protocol_options.protocol = match protocol {
        Protocol::Http => HttpProtocol::Http1,
        Protocol::Http2 | Protocol::Grpc => HttpProtocol::Http2,
    };
    cluster.service = node::resolve(target.host(), namespace).ok().map(|(host, namespace)| {
        let host: Arc<str> = host.as_str().into();
        Arc::new(DestinationService { name: Arc::clone(&host), host, namespace: namespace.into() })
    });
    cluster
}

/// The routes of a target: one route for all requests to its cluster, with Istio's defaults.
pub(crate) fn routes(target: &Target) -> RouteConfiguration {
    let name = cluster_name(target);
    let everything = RouteMatch::path(PathMatcher::Prefix("/".into()));
    let mut route = Route::new(everything, RouteAction::with_istio_defaults(name.as_str()));
    route.name = "default".into();
    RouteConfiguration::new(name.as_str(), vec![VirtualHost::new(target.to_string(), vec![route])])
}

#[cfg(all(test, feature = "istio"))]
mod tests {
    use mesh_core::model::{Cluster, RouteConfiguration};

    use super::*;
    use crate::Mesh;

    fn in_force(mesh: &Mesh, cluster: &str) -> (Cluster, RouteConfiguration) {
        let routes = mesh.store.routes();
        let [routes] = &*routes else { panic!("not one route configuration: {routes:?}") };
        let cluster = mesh.store.cluster(cluster).expect("the cluster is in force");
        (Cluster::clone(cluster.config()), RouteConfiguration::clone(routes.config()))
    }

    #[tokio::test]
    async fn a_service_from_code_is_configured_like_one_from_a_directory() {
        let dir = std::env::temp_dir().join(format!("mesh-endpoints-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, protocol) in [("HTTP", Protocol::Http), ("HTTP2", Protocol::Http2), ("GRPC", Protocol::Grpc)] {
            let yaml = format!(
                "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: echo}}
spec:
  hosts: [echo.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: a, protocol: {name}}}]
  endpoints: [{{address: 127.0.0.1, ports: {{a: 7}}}}]
"
            );
            std::fs::write(dir.join("echo.yaml"), yaml).unwrap();
            let target = "echo.default.svc.cluster.local:80";
            let address = ([127, 0, 0, 1], 7).into();
            let of_directory = Mesh::builder().config_dir(&dir).build().await.unwrap();
            let _channel = of_directory.channel(target).unwrap();
            let cluster = format!("outbound|80||{}", "echo.default.svc.cluster.local");
            let store = &of_directory.store;
            let (slot, routes) =
                (store.cluster_slot(&cluster.as_str().into()), store.route_slot(&cluster.as_str().into()));
            let (mut cluster_watch, mut route_watch) = (slot.watch(), routes.watch());
            while slot.load().is_none_or(|cluster| cluster.endpoints().endpoints().is_empty()) {
                cluster_watch.changed().await;
            }
            while routes.load().is_none() {
                route_watch.changed().await;
            }
            let of_code = Mesh::builder().endpoints(target, protocol, [address]).build().await.unwrap();
            let (expected, expected_routes) = in_force(&of_directory, &cluster);
            let (actual, mut actual_routes) = in_force(&of_code, &cluster);
            assert_eq!(actual, expected, "{name}");
            // Routes from code match every authority, those from a directory only the names of the service.
            actual_routes.virtual_hosts[0].domains.clone_from(&expected_routes.virtual_hosts[0].domains);
            actual_routes.ignore_port_in_host_matching = true;
            assert_eq!(actual_routes, expected_routes, "{name}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
