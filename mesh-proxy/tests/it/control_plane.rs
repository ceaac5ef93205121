//! A proxy whose bootstrap names a control plane, which fails in the ways that control planes do.

use std::{path::Path, pin::Pin, sync::Mutex};

use mesh_xds::{
    json::from_text,
    proto::envoy::{
        config::listener::v3::Listener,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
        },
    },
    resource::{ResourceType, pack},
};
use prost_types::Any;
use tokio::{
    net::UnixListener,
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::tokio_stream::{Stream, wrappers::ReceiverStream, wrappers::UnixListenerStream},
    transport::Server,
};

use crate::process::{Directory, Proxy, get};

#[test]
fn a_proxy_keeps_its_configuration_whatever_its_control_plane_does() {
    let directory = Directory::new("control-plane");
    let socket = directory.0.join("xds.sock");
    let proxy = Proxy::start(&["--config-yaml", &bootstrap(&socket)]);
    let admin = proxy.address_in("admin endpoint: listening");
    assert!(get(admin, "/ready").starts_with("HTTP/1.1 503"), "there is no control plane yet");

    let plane = Plane::start(&socket, &[listener("one")]);
    let address = proxy.address_in("listener main: listening");
    proxy.line_with("ready");
    assert!(get(address, "/").ends_with("one"));
    assert!(plane.next_request().node.unwrap().user_agent_name == "mesh-proxy");
    assert!(get(admin, "/stats").contains("control_plane.connected_state: 1"));

    plane.set(&[listener("two")]);
    proxy.line_with("listener main: configuration changed");
    assert!(get(address, "/").ends_with("two"));

    let broken = r#"{"name": "main", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}"#;
    plane.set(&[listener_of(broken)]);
    assert!(plane.refusal().contains("listener main: filter_chains: is empty"));
    assert!(get(address, "/").ends_with("two"), "the last good one stays");
    let mut garbage = listener("three");
    garbage.value.truncate(40);
    plane.set(&[garbage]);
    assert!(plane.refusal().contains("malformed message"));
    assert!(get(address, "/").ends_with("two"), "what cannot be read removes nothing");

    drop(plane);
    proxy.line_with("control plane: ");
    assert!(get(address, "/").ends_with("two"), "a control plane that is away changes nothing");
    assert!(get(admin, "/stats").contains("control_plane.connected_state: 0"));
    std::fs::remove_file(&socket).unwrap();
    let plane = Plane::start(&socket, &[listener("four")]);
    proxy.line_with("listener main: configuration changed");
    assert!(get(address, "/").ends_with("four"), "it is found again");
    plane.set(&[]);
    proxy.line_with("listener main: removed");
}

fn bootstrap(socket: &Path) -> String {
    format!(
        r#"
node: {{id: test, cluster: test}}
dynamic_resources:
  ads_config: {{api_type: GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]}}
  lds_config: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}
static_resources:
  clusters:
  - name: xds
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: xds
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: "{}"}}}}}}}}]}}]
"#,
        socket.display()
    )
}

/// The listener `main`, which answers all requests with `body`.
fn listener(body: &str) -> Any {
    listener_of(&format!(
        r#"
name: main
address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
filter_chains:
- filters:
  - name: http
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: in
      route_config:
        virtual_hosts:
        - {{name: v, domains: ["*"], routes: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: {body}}}}}}}]}}
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#
    ))
}

fn listener_of(text: &str) -> Any {
    pack(&from_text::<Listener>(text, "test").unwrap())
}

/// A control plane at a unix socket, which sends the listeners that it has.
struct Plane {
    listeners: watch::Sender<Vec<Any>>,
    requests: Mutex<mpsc::UnboundedReceiver<DiscoveryRequest>>,
    runtime: Option<Runtime>,
}

impl Plane {
    fn start(socket: &Path, listeners: &[Any]) -> Self {
        let runtime = Runtime::new().unwrap();
        let (listeners, changes) = watch::channel(listeners.to_vec());
        let (log, requests) = mpsc::unbounded_channel();
        let incoming = {
            let _in_runtime = runtime.enter();
            UnixListenerStream::new(UnixListener::bind(socket).unwrap())
        };
        let service = AggregatedDiscoveryServiceServer::new(Service { changes, log });
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { listeners, requests: Mutex::new(requests), runtime: Some(runtime) }
    }

    fn set(&self, listeners: &[Any]) {
        self.listeners.send_replace(listeners.to_vec());
    }

    /// The next request that it has received.
    fn next_request(&self) -> DiscoveryRequest {
        self.requests.lock().unwrap().blocking_recv().unwrap()
    }

    /// The reason of the next request that refuses a response.
    fn refusal(&self) -> String {
        loop {
            if let Some(status) = self.next_request().error_detail {
                return status.message;
            }
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Service {
    changes: watch::Receiver<Vec<Any>>,
    log: mpsc::UnboundedSender<DiscoveryRequest>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (sender, responses) = mpsc::channel(16);
        let (mut requests, mut changes, log) = (request.into_inner(), self.changes.clone(), self.log.clone());
        changes.mark_changed();
        tokio::spawn(async move {
            for version in 1.. {
                loop {
                    tokio::select! {
                        message = requests.message() => match message {
                            Ok(Some(message)) => drop(log.send(message)),
                            Ok(None) | Err(_) => return,
                        },
                        changed = changes.changed() => match changed {
                            Ok(()) => break,
                            Err(_) => return,
                        },
                    }
                }
                let resources = changes.borrow_and_update().clone();
                let (version_info, type_url) = (format!("{version}"), ResourceType::Listener.type_url());
                let nonce = version_info.clone();
                let response = DiscoveryResponse { version_info, nonce, type_url, resources, ..Default::default() };
                if sender.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("state of the world only"))
    }
}
