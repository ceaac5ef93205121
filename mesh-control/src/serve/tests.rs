//! The control plane on real sockets, with gRPC clients.

use std::fs;
use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use mesh_core::node::{Labels, Node, Role};
use mesh_xds::node::to_xds;
use mesh_xds::proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_xds::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use mesh_xds::proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_xds::resource::ResourceType;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::*;
use crate::ca::service::tests::{self as ca_tests, Signer};
use crate::ca::{Identity, Request};
use crate::identities::WorkloadCertificate;

const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: \
     [a.default.svc.cluster.local], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: grpc, protocol: \
     GRPC}], endpoints: [{address: 127.0.0.1, serviceAccount: one}]}\n";
const CLUSTER: &str = "outbound|80||a.default.svc.cluster.local";

/// A new directory, removed with the value.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-control-serve-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("a.yaml"), ENTRY).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A control plane on ports of its own, which ends with the test's runtime.
struct Running {
    directory: TemporaryDirectory,
    addresses: Addresses,
    authority: Arc<Authority>,
}

async fn start(name: &str) -> Running {
    start_with(name, None).await
}

/// A control plane that believes the tokens of `signer`.
async fn start_with(name: &str, signer: Option<&Signer>) -> Running {
    let directory = TemporaryDirectory::new(name);
    let mut settings = Settings::new(&directory.0);
    settings.tokens = signer.map(|signer| {
        // The directory of the resources has a file of a kind that is not read.
        let path = directory.0.join("keys.jwks");
        fs::write(&path, signer.jwks()).unwrap();
        TokenSettings::new(path, ca_tests::ISSUER)
    });
    let any = Some("127.0.0.1:0".parse().unwrap());
    (settings.grpc_addr, settings.secure_grpc_addr, settings.http_addr) = (any, any, any);
    let server = Server::bind(settings).await.unwrap();
    let (addresses, authority) = (server.addresses(), Arc::clone(&server.context.authority));
    tokio::spawn(server.run());
    Running { directory, addresses, authority }
}

impl Running {
    async fn plain(&self) -> Channel {
        let uri = format!("http://{}", self.addresses.grpc.unwrap());
        Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
    }

    /// A connection with TLS, with a certificate of the identity or without one.
    async fn tls(&self, identity: Option<&str>) -> Channel {
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.authority.roots().as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        let mut config = match identity.map(|identity| self.certificate(identity)) {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.certificate_chain.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(own.private_key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) =
            (tokio_rustls::TlsConnector::from(Arc::new(config)), self.addresses.secure_grpc.unwrap());
        let connect = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let name = ServerName::try_from("istiod.istio-system.svc").unwrap();
                let stream = connector.connect(name, TcpStream::connect(address).await?).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://istiod").connect_with_connector(connect).await.unwrap()
    }

    fn certificate(&self, identity: &str) -> WorkloadCertificate {
        let identity = Identity::parse(identity).unwrap();
        let issued = self.authority.issue(Request::new(&identity, "test"), SystemTime::now()).unwrap();
        WorkloadCertificate {
            certificate_chain: issued.certificate_chain,
            private_key: issued.private_key,
            roots: String::new(),
            not_after: issued.not_after,
        }
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addresses.http.unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }
}

/// A stream of the state of the world.
struct Stream {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Stream {
    async fn open(channel: Channel, first: DiscoveryRequest) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(first).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.stream_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    /// The next response, which is acknowledged.
    async fn next(&mut self, names: &[&str]) -> DiscoveryResponse {
        let response = self.responses.message().await.unwrap().unwrap();
        let ack = DiscoveryRequest {
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            ..request(&response.type_url, names)
        };
        self.requests.send(ack).await.unwrap();
        response
    }
}

fn node() -> Node {
    Node::new(Role::Library, Some("a"), None, Labels::new()).unwrap()
}

fn request(type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn first(kind: ResourceType, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest { node: Some(to_xds(&node())), ..request(&kind.type_url(), names) }
}

#[tokio::test]
async fn a_client_gets_resources_and_their_changes() {
    let running = start("changes").await;
    let mut stream = Stream::open(running.plain().await, first(ResourceType::Cluster, &[])).await.unwrap();
    let clusters = stream.next(&[]).await;
    assert_eq!((clusters.resources.len(), clusters.type_url), (1, ResourceType::Cluster.type_url()));
    let endpoints = ResourceType::ClusterLoadAssignment.type_url();
    stream.requests.send(request(&endpoints, &[CLUSTER])).await.unwrap();
    let before = stream.next(&[CLUSTER]).await;
    fs::write(running.directory.0.join("a.yaml"), ENTRY.replace("127.0.0.1", "127.0.0.9")).unwrap();
    let after = stream.next(&[CLUSTER]).await;
    assert_eq!((&before.type_url, &after.type_url), (&endpoints, &endpoints));
    assert_ne!(before.version_info, after.version_info);
}

#[tokio::test]
async fn a_client_of_the_incremental_form_gets_them_too() {
    let running = start("delta").await;
    let (requests, receiver) = mpsc::channel(8);
    let kind = ResourceType::Cluster;
    let wildcard =
        DeltaDiscoveryRequest { node: Some(to_xds(&node())), type_url: kind.type_url(), ..Default::default() };
    requests.send(wildcard).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(running.plain().await);
    let mut responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let first: DeltaDiscoveryResponse = responses.message().await.unwrap().unwrap();
    assert_eq!(first.resources.iter().map(|it| &*it.name).collect::<Vec<_>>(), [CLUSTER]);
    fs::write(running.directory.0.join("a.yaml"), ENTRY.replace("[a.default", "[b.default")).unwrap();
    let next = responses.message().await.unwrap().unwrap();
    assert_eq!(next.removed_resources, [CLUSTER]);
    assert_eq!(next.resources[0].name, CLUSTER.replace("||a", "||b"));
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_identity_that_it_has_proved() {
    let running = start("identity").await;
    let secrets = || first(ResourceType::Secret, &["default", "ROOTCA"]);
    let channel = running.tls(Some("spiffe://cluster.local/ns/default/sa/one")).await;
    let mut stream = Stream::open(channel, secrets()).await.unwrap();
    let response = stream.next(&["default", "ROOTCA"]).await;
    assert_eq!(response.resources.len(), 2);

    let other = running.tls(Some("spiffe://cluster.local/ns/other/sa/one")).await;
    let mut refused = Stream::open(other, secrets()).await.unwrap();
    let status = refused.responses.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status}");

    let status = Stream::open(running.tls(None).await, secrets()).await.err().unwrap();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);

    // Nothing is proved in plain text: the first response is to the next request.
    let mut anonymous = Stream::open(running.plain().await, secrets()).await.unwrap();
    anonymous.requests.send(request(&ResourceType::Cluster.type_url(), &[])).await.unwrap();
    assert_eq!(anonymous.next(&[]).await.type_url, ResourceType::Cluster.type_url());
}

#[tokio::test]
async fn a_node_of_no_known_kind_is_refused() {
    let running = start("node").await;
    let mut request = first(ResourceType::Cluster, &[]);
    request.node.as_mut().unwrap().id = "somebody".to_owned();
    let mut stream = Stream::open(running.plain().await, request).await.unwrap();
    let status = stream.responses.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn it_tells_that_it_is_ready_and_what_was_rejected() {
    let running = start("http").await;
    assert!(running.get("/ready").await.starts_with("HTTP/1.1 200"));
    let mut stream = Stream::open(running.plain().await, first(ResourceType::Cluster, &[])).await.unwrap();
    let response = stream.responses.message().await.unwrap().unwrap();
    let error_detail = Some(mesh_xds::proto::google::rpc::Status { code: 3, message: "no".into(), details: vec![] });
    let nack = DiscoveryRequest { response_nonce: response.nonce, error_detail, ..request(&response.type_url, &[]) };
    stream.requests.send(nack).await.unwrap();
    // The next response shows that the request before it has been handled.
    stream.requests.send(request(&ResourceType::Listener.type_url(), &[])).await.unwrap();
    stream.next(&[]).await;
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("pilot_total_xds_rejects{type=\"cds\"} 1\n"), "{metrics}");
}

/// Asks for a certificate, with a token or without one. What it identifies, or the code of the refusal.
async fn ask(channel: Channel, token: Option<&str>) -> Result<Vec<String>, tonic::Code> {
    let mut request = tonic::Request::new(ca_tests::request(0));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let mut client = IstioCertificateServiceClient::new(channel);
    let response = client.create_certificate(request).await.map_err(|status| status.code())?;
    Ok(ca_tests::read(&response.into_inner().cert_chain[0]).0)
}

#[tokio::test]
async fn a_workload_gets_its_first_certificate_for_a_token_and_the_next_for_its_certificate() {
    let (signer, one) = (Signer::new(), "spiffe://cluster.local/ns/default/sa/one");
    let running = start_with("issue", Some(&signer)).await;
    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 600;
    let token = |account: &str| signer.token(&format!("system:serviceaccount:default:{account}"), "istio-ca", exp);
    assert_eq!(ask(running.tls(None).await, Some(&token("one"))).await.unwrap(), [one]);
    assert_eq!(ask(running.tls(Some(one)).await, None).await.unwrap(), [one]);
    assert_eq!(ask(running.tls(Some(one)).await, Some(&token("two"))).await.unwrap(), [one], "as in Istio");

    let unauthenticated = Err(tonic::Code::Unauthenticated);
    assert_eq!(ask(running.tls(None).await, None).await, unauthenticated);
    assert_eq!(ask(running.tls(None).await, Some("a.b.c")).await, unauthenticated);
    let other = running.tls(Some("spiffe://other/ns/default/sa/one")).await;
    assert_eq!(ask(other, None).await, unauthenticated, "it is of another trust domain");
    assert_eq!(ask(running.plain().await, Some(&token("one"))).await, Err(tonic::Code::Unimplemented));
    let without_keys = start("issue-without-keys").await;
    assert_eq!(ask(without_keys.tls(None).await, Some(&token("one"))).await, unauthenticated);
}

#[tokio::test]
async fn a_token_proves_the_identity_of_a_client_of_ads() {
    let signer = Signer::new();
    let running = start_with("ads-token", Some(&signer)).await;
    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 600;
    let open = async |account: &str| {
        let token = signer.token(&format!("system:serviceaccount:default:{account}"), "istio-ca", exp);
        let (sender, receiver) = mpsc::channel(1);
        sender.send(first(ResourceType::Secret, &["default"])).await.unwrap();
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", format!("bearer {token}").parse().unwrap());
        let mut client = AggregatedDiscoveryServiceClient::new(running.tls(None).await);
        let mut responses = client.stream_aggregated_resources(request).await.unwrap().into_inner();
        let response = responses.message().await;
        drop(sender);
        response
    };
    assert_eq!(open("one").await.unwrap().unwrap().resources.len(), 1);
}

#[tokio::test]
async fn operators_see_what_clients_have() {
    let running = start("debug").await;
    let mut stream = Stream::open(running.plain().await, first(ResourceType::Cluster, &[])).await.unwrap();
    stream.next(&[]).await;
    // The next response shows that the acknowledgement has been handled, and is not acknowledged itself.
    stream.requests.send(request(&ResourceType::Listener.type_url(), &[])).await.unwrap();
    stream.responses.message().await.unwrap().unwrap();
    stream.requests.send(request(&ResourceType::RouteConfiguration.type_url(), &["absent"])).await.unwrap();
    stream.requests.send(request(&ResourceType::ClusterLoadAssignment.type_url(), &[CLUSTER])).await.unwrap();
    stream.next(&[CLUSTER]).await;
    let text = running.get("/debug/syncz").await;
    for part in
        ["\"proxy\":\"a.default\"", "\"cluster_sent\":\"1\"", "\"cluster_acked\":\"1\"", "\"listener_sent\":\"2\""]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("listener_acked"), "{text}");
    let dump = running.get("/debug/config_dump?proxyID=a.default").await;
    assert!(dump.contains(CLUSTER) && dump.contains("xds.istio.io/grpc/lds/inbound/127.0.0.1:80"), "{dump}");
    assert!(running.get("/debug/config_dump?proxyID=nobody").await.starts_with("HTTP/1.1 404"));
    assert!(running.get("/debug/config_dump").await.starts_with("HTTP/1.1 400"));
    let endpoints = running.get("/debug/endpointz").await;
    assert!(
        endpoints.contains("\"svc\":\"a.default.svc.cluster.local:80\"") && endpoints.contains("127.0.0.1"),
        "{endpoints}"
    );
    let metrics = running.get("/metrics").await;
    for line in ["pilot_services 1", "pilot_virt_services 0", "pilot_xds_pushes{type=\"cds\"} 1"] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn load_reports_are_asked_for_and_shown() {
    use mesh_xds::proto::envoy::config::endpoint::v3::ClusterStats;
    use mesh_xds::proto::envoy::service::load_stats::v3::LoadStatsRequest;
    use mesh_xds::proto::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;

    let running = start("loads").await;
    let (requests, receiver) = mpsc::channel(8);
    let hello = LoadStatsRequest { node: Some(to_xds(&node())), cluster_stats: Vec::new() };
    requests.send(hello).await.unwrap();
    let mut client = LoadReportingServiceClient::new(running.plain().await);
    let mut responses = client.stream_load_stats(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let wanted = responses.message().await.unwrap().unwrap();
    assert_eq!((wanted.send_all_clusters, wanted.load_reporting_interval.unwrap().seconds), (true, 10));
    let stats = ClusterStats { cluster_name: CLUSTER.to_owned(), total_dropped_requests: 7, ..Default::default() };
    requests.send(LoadStatsRequest { node: None, cluster_stats: vec![stats] }).await.unwrap();
    loop {
        let loads = running.get("/debug/loads").await;
        if loads.contains(CLUSTER) {
            assert!(loads.contains("\"total_dropped_requests\":\"7\""), "{loads}");
            return;
        }
        tokio::task::yield_now().await;
    }
}
