//! Configuration from a control plane.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use http::Request;
use http_body_util::BodyExt as _;
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
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tower::ServiceExt as _;

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
        stream.responses.send(Ok(response(kind, version, address).into())).await.unwrap();
        version += 1;
    }
}

fn response(kind: ResourceType, version: u32, address: SocketAddr) -> DiscoveryResponse {
    let resource = match kind {
        ResourceType::Secret => unreachable!("no resource names a secret"),
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
async fn a_refused_listener_is_shown_with_its_predecessor() {
    let (transport, mut acceptor) = in_process::pair();
    let (change, changes) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut stream = acceptor.accept().await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        stream.requests.recv().await.unwrap();
        stream.responses.send(Ok(response(ResourceType::Listener, 1, address).into())).await.unwrap();
        changes.await.unwrap();
        let text = LISTENER.replace("stat_prefix: shop", "stat_prefix: shop\n    codec_type: HTTP3");
        let mut refused = response(ResourceType::Listener, 2, address);
        refused.resources = vec![pack(&from_text::<Listener>(&text, "listener").unwrap())];
        stream.responses.send(Ok(refused.into())).await.unwrap();
        while stream.requests.recv().await.is_some() {}
    });
    let mesh = Mesh::builder().control_plane(transport).build().await.unwrap();
    let mut events = mesh.events();
    change.send(()).unwrap();
    let ConfigEvent::Applied(applied) = events.next().await.unwrap() else { panic!("another event") };
    assert_eq!(applied.refused.len(), 1, "{applied:?}");
    let answer = async |target: &str| {
        let request = Request::get(target).body(String::new()).unwrap();
        let response = mesh.admin().oneshot(request).await.unwrap_or_else(|never| match never {});
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    let dump: serde_json::Value =
        serde_json::from_str(&answer("/config_dump?resource=dynamic_listeners").await).unwrap();
    let listener = &dump["configs"][0];
    assert_eq!(listener["active_state"]["version_info"], "1", "{dump:#}");
    let error = &listener["error_state"];
    assert_eq!((&error["version_info"], &error["failed_configuration"]["name"]), (&"2".into(), &"shop:80".into()));
    assert!(error["details"].as_str().unwrap().contains("codec_type: HTTP3: not supported"), "{error:#}");
    let ready = answer("/ready").await;
    assert!(ready.starts_with("LIVE\nlistener shop:80: the configuration is "), "{ready}");
    let stats = answer("/stats?filter=^listener_manager.lds").await;
    for line in ["update_attempt: 2", "update_success: 1", "update_rejected: 1", "version_text: \"1\""] {
        assert!(stats.contains(&format!("listener_manager.lds.{line}\n")), "{line} is not in {stats}");
    }
}

#[tokio::test]
async fn a_mesh_has_one_source_of_configuration() {
    let dir = ConfigDir::new();
    let (transport, _acceptor) = in_process::pair();
    let error = Mesh::builder().config_dir(dir.path()).control_plane(transport).build().await.unwrap_err();
    assert!(error.is_config(), "{error}");
    assert_eq!(error.to_string(), "configuration comes from one directory or one control plane, not from several");
}
