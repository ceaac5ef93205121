//! From a configuration to the data plane, through the in-process transport and the real client.

use std::sync::Arc;

use mesh_control::config::Strictness;
use mesh_control::diagnostic::Source;
use mesh_control::load::Loaded;
use mesh_control::mesh::Mesh;
use mesh_control::server::{Options, serve};
use mesh_control::translate::{Node, Role};
use mesh_core::model::RouteSource;
use mesh_core::rng::SplitMix64;
use mesh_core::store::Store;
use mesh_xds::client::transport::in_process::pair;
use mesh_xds::client::{Agent, Notice, Scope};
use mesh_xds::node;
use tokio::sync::watch;

const LISTENER: &str = "a.example:80";
const SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
";

fn mesh(text: &str, version: u64) -> Arc<Mesh> {
    let source = Arc::new(Source::new("a.yaml", text));
    let loaded = Loaded::from_sources(vec![source], Strictness::Strict);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    Arc::new(loaded.mesh.with_version(version))
}

#[tokio::test(start_paused = true)]
async fn a_library_follows_the_mesh() {
    let (meshes, receiver) = watch::channel(mesh(SERVICE, 1));
    let (transport, acceptor) = pair();
    let store = Arc::new(Store::new());
    let node = node::to_xds(&Node::client(Role::Library, "default"));
    let agent = Agent::new(transport, node, Scope::UsedListeners, Arc::clone(&store), SplitMix64::new(1));
    let _subscription = agent.subscriber().subscribe(&LISTENER.into());
    let mut settled = agent.settled();
    tokio::spawn(serve(acceptor, receiver, Arc::default(), Options::default()));
    tokio::spawn(agent.run(|notice| match notice {
        Notice::Applied(report) => assert_eq!(report.rejected, []),
        Notice::Connected | Notice::Settled => {}
        trouble => panic!("{trouble:?}"),
    }));
    settled.changed().await;
    let listener = Arc::clone(&store.listeners()[LISTENER]);
    let RouteSource::Rds(routes) = &listener.http_connection_manager().unwrap().routes else { panic!("{listener:?}") };
    assert!(store.route_slot(routes).load().is_some());
    assert_eq!(endpoints(&store), ["127.0.0.1:80"]);

    meshes.send_replace(mesh(&SERVICE.replace("127.0.0.1", "127.0.0.2"), 2));
    settled.changed().await;
    assert_eq!(endpoints(&store), ["127.0.0.2:80"]);
    meshes.send_replace(mesh("", 3));
    store.watch_listeners().changed().await;
    assert!(store.listeners().is_empty());
}

fn endpoints(store: &Store) -> Vec<String> {
    let cluster = store.cluster("outbound|80||a.example").expect("the route names it");
    cluster.endpoints().endpoints().iter().map(|endpoint| endpoint.address().to_string()).collect()
}
