//! The API server of Kubernetes, through its real client. The server is a double that lists and watches.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use mesh_control::source::ConfigSource;
use mesh_control::source::kubernetes::{Kubernetes, KubernetesOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Instance, Place, check, kubernetes_objects};

/// Kinds that the double has, by their paths.
const KINDS: [(&str, &str, &str); 3] = [
    ("/api/v1", "services", "Service"),
    ("/api/v1", "pods", "Pod"),
    ("/apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
];

/// Objects and the history of their changes.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// The kind and the event; the version of an event is its index and 1.
    events: Vec<(String, Value)>,
}

impl State {
    fn set(&mut self, new: Vec<Value>) {
        let key = |object: &Value| format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"));
        let new: BTreeMap<_, _> = new.into_iter().map(|object| (key(&object), object)).collect();
        let gone: Vec<_> = self.objects.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(object) = self.objects.remove(&name) {
                self.record("DELETED", object);
            }
        }
        for (name, object) in new {
            if self.objects.get(&name) != Some(&object) {
                let event = if self.objects.contains_key(&name) { "MODIFIED" } else { "ADDED" };
                self.objects.insert(name, object.clone());
                self.record(event, object);
            }
        }
    }

    fn record(&mut self, event: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!((self.events.len() + 1).to_string());
        let kind = text(&object, "/kind");
        self.events.push((kind, json!({"type": event, "object": object})));
    }

    fn list(&self, kind: &str) -> Value {
        let items: Vec<_> = self.objects.values().filter(|object| text(object, "/kind") == kind).collect();
        json!({"apiVersion": "v1", "kind": format!("{kind}List"), "items": items,
            "metadata": {"resourceVersion": self.events.len().to_string()}})
    }
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The double. It runs until the runtime of the test ends.
struct ApiServer {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<()>,
    kubeconfig: PathBuf,
}

impl ApiServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let kubeconfig = std::env::temp_dir().join(format!("mesh-control-kubeconfig-{}", std::process::id()));
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
        std::fs::write(&kubeconfig, config.to_string()).expect("it can be written");
        let (state, (changes, receiver)) = (Arc::<Mutex<State>>::default(), watch::channel(()));
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, changes) = (Arc::clone(&served), receiver.clone());
                // A connection that the client has closed is no failure.
                tokio::spawn(async move { serve(stream, &state, changes).await.ok() });
            }
        });
        Self { state, changes, kubeconfig }
    }
}

/// Answers the requests of a connection.
async fn serve(stream: TcpStream, state: &Mutex<State>, mut changes: watch::Receiver<()>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while stream.read_line(&mut line).await? > 2 {
            head.push_str(&std::mem::take(&mut line));
        }
        let Some(target) = head.split(' ').nth(1) else { return Ok(()) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let kind = KINDS.iter().find(|(api, plural, _)| path == format!("{api}/{plural}"));
        match kind {
            Some((_, _, kind)) if query.contains("watch=true") => {
                let since = query.split("resourceVersion=").nth(1).and_then(|rest| rest.split('&').next());
                let mut next: usize = since.and_then(|since| since.parse().ok()).unwrap_or(0);
                stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
                    )
                    .await?;
                loop {
                    let mut text = String::new();
                    {
                        let state = state.lock().expect("no panic");
                        for (_, event) in state.events[next..].iter().filter(|(own, _)| own == kind) {
                            let _ = writeln!(text, "{event}");
                        }
                        next = state.events.len();
                    }
                    if !text.is_empty() {
                        stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?;
                    }
                    if changes.changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
            Some((_, _, kind)) => {
                let list = state.lock().expect("no panic").list(kind);
                respond(&mut stream, 200, &list).await?;
            }
            None => match resources(path) {
                Some(list) => respond(&mut stream, 200, &list).await?,
                None => {
                    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404,
                        "reason": "NotFound", "message": "not found"});
                    respond(&mut stream, 404, &status).await?;
                }
            },
        }
    }
}

/// The kinds of an API.
fn resources(path: &str) -> Option<Value> {
    let own = KINDS.iter().filter(|(api, ..)| path == *api);
    let list: Vec<_> = own
        .map(|(_, plural, kind)| {
            json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["list", "watch"]})
        })
        .collect();
    let version = path.strip_prefix("/apis/").unwrap_or("v1");
    (!list.is_empty()).then(|| json!({"kind": "APIResourceList", "groupVersion": version, "resources": list}))
}

async fn respond(stream: &mut BufReader<TcpStream>, status: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await
}

struct Cluster {
    server: ApiServer,
    source: Option<Kubernetes>,
}

impl Place for Cluster {
    const HOST: &'static str = "reviews.default.svc.cluster.local";

    fn source(&mut self) -> Box<dyn ConfigSource> {
        Box::new(self.source.take().expect("it is asked for once"))
    }

    fn set(&mut self, instances: &[Instance]) {
        let objects = kubernetes_objects(instances).into_iter();
        let objects = objects.map(|(_, text)| serde_json::from_str(&text).expect("it is JSON")).collect();
        self.server.state.lock().expect("no panic").set(objects);
        self.server.changes.send_replace(());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.server.kubeconfig);
    }
}

#[tokio::test]
async fn traffic_follows_the_api_server() {
    let server = ApiServer::start().await;
    let mut options = KubernetesOptions::default();
    options.kubeconfig = Some(server.kubeconfig.clone());
    options.writes_status = false;
    let source = Kubernetes::connect(options).await.expect("the kubeconfig is valid");
    check(Cluster { server, source: Some(source) }).await;
}
