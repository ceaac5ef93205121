//! A control plane over gRPC for the tests: it serves the resources that it has, and what changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use mesh::GrpcBootstrap;
use mesh_xds::{
    json::from_text,
    proto::envoy::{
        config::{
            cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
            route::v3::RouteConfiguration,
        },
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
        },
    },
    resource::{ResourceType, name, pack},
};
use prost_types::Any;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::tokio_stream::{Stream, wrappers::ReceiverStream, wrappers::TcpListenerStream},
    transport::Server,
};

type Resources = BTreeMap<(ResourceType, String), Any>;

/// A control plane.
pub(crate) struct Ads {
    pub(crate) address: SocketAddr,
    resources: watch::Sender<Resources>,
    requests: Arc<Mutex<Vec<DiscoveryRequest>>>,
    serving: JoinHandle<()>,
}

impl Drop for Ads {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Ads {
    pub(crate) async fn start(resources: impl IntoIterator<Item = Any>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), resources).await
    }

    pub(crate) async fn start_at(address: SocketAddr, resources: impl IntoIterator<Item = Any>) -> Self {
        let socket = TcpListener::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let (resources, changes) = watch::channel(by_name(resources));
        let requests = Arc::<Mutex<Vec<DiscoveryRequest>>>::default();
        let service = AggregatedDiscoveryServiceServer::new(Service { changes, requests: Arc::clone(&requests) });
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(socket));
        let serving = tokio::spawn(async move { drop(serving.await) });
        Self { address, resources, requests, serving }
    }

    /// Adds or replaces resources.
    pub(crate) fn set(&self, resources: impl IntoIterator<Item = Any>) {
        self.resources.send_modify(|all| all.extend(by_name(resources)));
    }

    /// Removes a resource.
    pub(crate) fn remove(&self, kind: ResourceType, name: &str) {
        self.resources.send_modify(|all| drop(all.remove(&(kind, name.to_owned()))));
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<DiscoveryRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until a request has been received for which `is_wanted` holds.
    pub(crate) async fn received(&self, is_wanted: impl Fn(&DiscoveryRequest) -> bool) -> DiscoveryRequest {
        loop {
            if let Some(request) = self.requests().into_iter().find(&is_wanted) {
                return request;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// A bootstrap with this control plane only.
    pub(crate) fn bootstrap(&self) -> GrpcBootstrap {
        bootstrap(&[self.address])
    }
}

/// A bootstrap with control planes at these addresses, in order of preference.
pub(crate) fn bootstrap(addresses: &[SocketAddr]) -> GrpcBootstrap {
    let server =
        |address| format!("{{\"server_uri\": \"{address}\", \"channel_creds\": [{{\"type\": \"insecure\"}}]}}");
    let servers: Vec<String> = addresses.iter().map(server).collect();
    let text = format!(
        "{{\"xds_servers\": [{}], \"node\": {{\"id\": \"test\"}}, \
         \"server_listener_resource_name_template\": \"inbound/%s\"}}",
        servers.join(", ")
    );
    GrpcBootstrap::from_json(&text).unwrap()
}

fn by_name(resources: impl IntoIterator<Item = Any>) -> Resources {
    let key = |any: &Any| (ResourceType::from_type_url(&any.type_url).unwrap(), name(any));
    resources.into_iter().map(|any| (key(&any), any)).collect()
}

/// The listener, routes, cluster and endpoints of a service.
pub(crate) fn service(service: &str, endpoint: SocketAddr) -> Vec<Any> {
    vec![listener(service, service), routes(service, service), cluster(service), endpoints(service, endpoint)]
}

/// An API listener with the routes of this name.
pub(crate) fn listener(name: &str, routes: &str) -> Any {
    let http = http_connection_manager(&format!("rds: {{route_config_name: {routes}, config_source: {{ads: {{}}}}}}"));
    pack(&from_text::<Listener>(&format!("{{name: {name}, api_listener: {{api_listener: {http}}}}}"), "").unwrap())
}

/// A listener of a server.
pub(crate) fn server_listener(address: SocketAddr) -> Any {
    let routes = "route_config: {virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, \
                  non_forwarding_action: {}}]}]}";
    let (ip, port, http) = (address.ip(), address.port(), http_connection_manager(routes));
    let text = format!(
        "{{name: 'inbound/{address}', address: {{socket_address: {{address: {ip}, port_value: {port}}}}}, \
         filter_chains: [{{filters: [{{name: http, typed_config: {http}}}]}}]}}"
    );
    pack(&from_text::<Listener>(&text, "").unwrap())
}

fn http_connection_manager(routes: &str) -> String {
    format!(
        "{{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3\
         .HttpConnectionManager, stat_prefix: test, {routes}, http_filters: [{{name: router, typed_config: \
         {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}"
    )
}

/// Routes of all requests to `cluster`.
pub(crate) fn routes(name: &str, cluster: &str) -> Any {
    let text = format!(
        "{{name: {name}, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, \
         route: {{cluster: {cluster}}}}}]}}]}}"
    );
    pack(&from_text::<RouteConfiguration>(&text, "").unwrap())
}

/// A cluster that takes its endpoints from the resource of its name.
pub(crate) fn cluster(name: &str) -> Any {
    let text = format!("{{name: {name}, type: EDS, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}}}");
    pack(&from_text::<Cluster>(&text, "").unwrap())
}

/// One endpoint.
pub(crate) fn endpoints(name: &str, address: SocketAddr) -> Any {
    let (ip, port) = (address.ip(), address.port());
    let text = format!(
        "{{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
         {{address: {ip}, port_value: {port}}}}}}}}}]}}]}}"
    );
    pack(&from_text::<ClusterLoadAssignment>(&text, "").unwrap())
}

struct Service {
    changes: watch::Receiver<Resources>,
    requests: Arc<Mutex<Vec<DiscoveryRequest>>>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    /// Holds the head of the response back until the first request.
    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (sender, responses) = mpsc::channel(16);
        let mut requests = request.into_inner();
        let first = requests.message().await?.ok_or_else(|| Status::cancelled("there was no request"))?;
        let log = Arc::clone(&self.requests);
        let mut stream = OneStream { subscribed: BTreeMap::new(), sent: BTreeMap::new(), nonce: 0 };
        let mut changes = self.changes.clone();
        tokio::spawn(async move {
            let mut request = Some(first);
            loop {
                let resources = changes.borrow_and_update().clone();
                if let Some(request) = request.take() {
                    stream.subscribe(&request);
                    log.lock().unwrap().push(request);
                }
                for response in stream.due(&resources) {
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    message = requests.message() => match message {
                        Ok(Some(message)) => request = Some(message),
                        Ok(None) | Err(_) => return,
                    },
                    changed = changes.changed() => if changed.is_err() { return },
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

/// What one stream has asked for and received.
struct OneStream {
    subscribed: BTreeMap<ResourceType, BTreeSet<String>>,
    sent: BTreeMap<ResourceType, Vec<Any>>,
    nonce: u32,
}

impl OneStream {
    fn subscribe(&mut self, request: &DiscoveryRequest) {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else { return };
        self.subscribed.insert(kind, request.resource_names.iter().cloned().collect());
    }

    /// Responses for the types whose resources differ from those that were sent.
    fn due(&mut self, resources: &Resources) -> Vec<DiscoveryResponse> {
        let mut responses = Vec::new();
        for (kind, names) in &self.subscribed {
            let of_kind = resources.iter().filter(|((other, name), _)| other == kind && names.contains(name));
            let wanted: Vec<Any> = of_kind.map(|(_, any)| any.clone()).collect();
            let sent = self.sent.get(kind);
            if sent == Some(&wanted) || (sent.is_none() && wanted.is_empty()) {
                continue;
            }
            self.nonce += 1;
            responses.push(DiscoveryResponse {
                version_info: self.nonce.to_string(),
                nonce: self.nonce.to_string(),
                type_url: kind.type_url(),
                resources: wanted.clone(),
                ..DiscoveryResponse::default()
            });
            self.sent.insert(*kind, wanted);
        }
        responses
    }
}
