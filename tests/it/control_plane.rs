//! Configuration from a control plane.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use mesh::{ConfigEvent, Mesh};
use mesh_xds::{
    client::transport::in_process::{self, Acceptor, InProcess},
    json::from_text,
    proto::envoy::{
        config::{
            cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
            route::v3::RouteConfiguration,
        },
        service::discovery::v3::DiscoveryResponse,
    },
    resource::{ResourceType, pack},
};
use tokio::{sync::watch, time::timeout};

use crate::support::{ConfigDir, get, serve};

/// A control plane with one service, `shop:80`, whose only endpoint is at the newest address.
fn control_plane(addresses: watch::Receiver<SocketAddr>) -> InProcess {
    let (transport, acceptor) = in_process::pair();
    tokio::spawn(serve_discovery(acceptor, addresses));
    transport
}

async fn serve_discovery(mut acceptor: Acceptor, mut addresses: watch::Receiver<SocketAddr>) {
    let mut stream = acceptor.accept().await.unwrap();
    let (mut version, mut requested) = (1, BTreeMap::new());
    loop {
        let kind = tokio::select! {
            request = stream.requests.recv() => {
                let Some(request) = request else { return };
                assert_eq!(request.error, None);
                if let Some(node) = &request.node {
                    assert_eq!((&*node.id, &*node.cluster), ("sidecar~127.0.0.1~client.books~books.svc.cluster.local", ""));
                }
                let names = request.resource_names;
                // A request for the same names acknowledges the last response.
                if requested.insert(request.resource_type, names.clone()) == Some(names) {
                    continue;
                }
                request.resource_type
            }
            changed = addresses.changed() => {
                changed.unwrap();
                ResourceType::ClusterLoadAssignment
            }
        };
        let address = *addresses.borrow_and_update();
        stream.responses.send(Ok(response(kind, version, address))).await.unwrap();
        version += 1;
    }
}

fn response(kind: ResourceType, version: u32, address: SocketAddr) -> DiscoveryResponse {
    let resource = match kind {
        ResourceType::Listener => pack(&from_text::<Listener>(LISTENER, "listener").unwrap()),
        ResourceType::RouteConfiguration => pack(&from_text::<RouteConfiguration>(ROUTES, "routes").unwrap()),
        ResourceType::Cluster => pack(&from_text::<Cluster>(CLUSTER, "cluster").unwrap()),
        ResourceType::ClusterLoadAssignment => {
            let port = address.port();
            let text = format!(
                "{{cluster_name: shop, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
                 {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}"
            );
            pack(&from_text::<ClusterLoadAssignment>(&text, "endpoints").unwrap())
        }
    };
    DiscoveryResponse {
        version_info: version.to_string(),
        nonce: version.to_string(),
        type_url: kind.type_url(),
        resources: vec![resource],
        ..DiscoveryResponse::default()
    }
}

const LISTENER: &str = "
name: shop:80
api_listener:
  api_listener:
    '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
    stat_prefix: shop
    rds: {route_config_name: shop, config_source: {ads: {}}}
    http_filters:
    - name: router
      typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
";
const ROUTES: &str = "
name: shop
virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: shop}}]}]
";
const CLUSTER: &str = "{name: shop, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}";

#[tokio::test]
async fn the_configuration_of_a_control_plane_applies_and_may_change() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let (first, second) = (serve(&servers, "first").await, serve(&servers, "second").await);
    let (addresses, newest) = watch::channel(first);
    let mesh = Mesh::builder().namespace("books").control_plane(control_plane(newest)).build().await.unwrap();
    let mut events = mesh.events();
    let channel = mesh.channel("shop:80").unwrap();
    assert_eq!(get(&channel, "/a").await, (200, "first /a".to_owned()));

    addresses.send(second).unwrap();
    let applied = async {
        loop {
            let event = events.next().await.unwrap();
            if let ConfigEvent::Applied(applied) = event {
                return applied.changed;
            }
        }
    };
    let changed = timeout(Duration::from_secs(10), applied).await.unwrap();
    assert!(changed.iter().any(|name| name.ends_with(" shop")), "{changed:?}");
    assert_eq!(get(&channel, "/b").await, (200, "second /b".to_owned()));
}

#[tokio::test]
async fn a_mesh_has_one_source_of_configuration() {
    let dir = ConfigDir::new();
    let (transport, _acceptor) = in_process::pair();
    let error = Mesh::builder().config_dir(dir.path()).control_plane(transport).build().await.unwrap_err();
    assert!(error.is_config(), "{error}");
    assert_eq!(error.to_string(), "configuration comes from one directory or one control plane, not from several");
}
