//! From a configuration to the data plane, through the in-process transport and the real client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_control::config::Strictness;
use mesh_control::diagnostic::Source;
use mesh_control::load::Loaded;
use mesh_control::mesh::Mesh;
use mesh_control::server::serve;
use mesh_control::translate::{Node, Role};
use mesh_xds::client::applier::Change;
use mesh_xds::client::transport::in_process::pair;
use mesh_xds::client::{ClusterInterest, Interest, Notice, Options, Sink, run};
use tokio::sync::{mpsc, watch};

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

/// Sends on what the client does, and what goes wrong.
struct Recorder(mpsc::UnboundedSender<String>);

impl Sink for Recorder {
    fn apply(&mut self, change: Change, _now: Instant) {
        let text = match change {
            Change::SetCluster(cluster) => format!("cluster {}", cluster.name),
            Change::SetEndpoints { service_name, .. } => format!("endpoints {service_name}"),
            Change::SetRoutes(routes) => format!("routes {}", routes.name),
            Change::SetListener(listener) => format!("listener {}", listener.name),
            Change::RemoveListener(name) => format!("no listener {name}"),
            Change::RemoveRoutes(name) => format!("no routes {name}"),
            Change::RetireCluster(name) | Change::RemoveCluster(name) => format!("no cluster {name}"),
            Change::RemoveEndpoints(name) => format!("no endpoints {name}"),
        };
        let _ = self.0.send(text);
    }

    fn notice(&mut self, notice: Notice) {
        let text = match notice {
            Notice::Applied(report) if report.rejected.is_empty() => return,
            Notice::Connected | Notice::Settled => return,
            trouble => format!("{trouble:?}"),
        };
        let _ = self.0.send(text);
    }
}

/// What happens until this does.
async fn until(records: &mut mpsc::UnboundedReceiver<String>, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().is_none_or(|record| record != last) {
        let record = tokio::time::timeout(Duration::from_secs(60), records.recv()).await;
        all.push(record.ok().flatten().unwrap_or_else(|| panic!("no {last} after {all:?}")));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_library_follows_the_mesh() {
    let (meshes, receiver) = watch::channel(mesh(SERVICE, 1));
    let (transport, acceptor) = pair();
    let options = Options {
        node: Node::client(Role::Library, "default").to_xds(),
        listeners: Interest::Names(Arc::new(BTreeSet::from([Arc::from("a.example:80")]))),
        clusters: ClusterInterest::ByName,
    };
    let (sender, mut records) = mpsc::unbounded_channel();
    tokio::spawn(serve(acceptor, receiver));
    let client = tokio::spawn(run(transport, options, Recorder(sender)));
    let mut before = until(&mut records, "listener a.example:80").await;
    before.sort();
    let [cluster, endpoints, listener, routes] = before.as_slice() else { panic!("{before:?}") };
    assert_eq!([cluster, endpoints, routes].map(|it| it.split(' ').next_back()), [Some("outbound|80||a.example"); 3]);
    assert_eq!(listener, "listener a.example:80", "what is referred to comes first");

    meshes.send_replace(mesh(&SERVICE.replace("127.0.0.1", "127.0.0.2"), 2));
    assert_eq!(until(&mut records, "endpoints outbound|80||a.example").await.len(), 1);
    meshes.send_replace(mesh("", 3));
    assert_eq!(until(&mut records, "no listener a.example:80").await.len(), 1);
    client.abort();
}
