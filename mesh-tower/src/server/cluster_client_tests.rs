//! Requests of this process's own to clusters, from the client to a server on an in-memory network.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use mesh_core::{
    filter::{
        HttpFilter,
        ext_authz::{ExtAuthz, HttpService, Service as AuthzService},
    },
    model::{Cluster, Discovery, Listener, RetryOn, RetryPolicy},
    rng::SplitMix64,
    store::Store,
    target,
};
use tower::ServiceExt as _;

use super::Server;
use crate::{
    Body, MemoryNetwork, Upstream, Worker,
    call::flags_of,
    cluster_client::{ClientOptions, ClusterClient, ClusterClients as _, FetchError},
    telemetry::Telemetry,
    testing::stat,
    timer::now,
    upstream::UpstreamClients,
};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 80);

/// A store and a network with one server, whose answer depends on the path. The cluster is called `authz`.
struct Fixture {
    store: Arc<Store>,
    clients: UpstreamClients<crate::Pool>,
    network: MemoryNetwork,
    requests: Arc<AtomicU32>,
    /// Requests whose future has been dropped before its end.
    dropped: Arc<AtomicU32>,
}

struct CountDrop(Arc<AtomicU32>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fixture {
    fn new() -> Self {
        let network = MemoryNetwork::new();
        let listener = network.bind(ADDRESS).unwrap();
        let (requests, dropped) = <(Arc<AtomicU32>, Arc<AtomicU32>)>::default();
        let (counted, counted_drops) = (Arc::clone(&requests), Arc::clone(&dropped));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (number, dropped) = (counted.fetch_add(1, Ordering::Relaxed), CountDrop(Arc::clone(&counted_drops)));
            async move {
                let status = match request.uri().path() {
                    path if path.starts_with("/slow") => pending().await,
                    "/unavailable_once" if number == 0 => 503,
                    _ => 200,
                };
                std::mem::forget(dropped);
                let seen = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let answer = [seen.as_bytes(), b" ", &body].concat();
                let mut response = Response::new(Body::from(Bytes::from(answer)));
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        let server = Server::new(Arc::default(), Telemetry::default());
        tokio::spawn(server.serve(listener, service, pending()));
        let store = Arc::new(Store::new());
        let upstream = Upstream::new(Worker::new(0, NonZeroUsize::MIN, network.clone()));
        Self { clients: UpstreamClients::new(Arc::clone(&store), upstream), store, network, requests, dropped }
    }

    fn with_cluster(self, change: impl FnOnce(&mut Cluster)) -> Self {
        let mut cluster = Cluster::new("authz", Discovery::Static([ADDRESS].into_iter().collect()));
        change(&mut cluster);
        self.store.set_cluster(Arc::new(cluster), now(), &mut SplitMix64::new(1));
        self
    }

    fn client(&self, options: &ClientOptions) -> Arc<dyn ClusterClient> {
        self.clients.client(&"authz".into(), options)
    }

    fn stat(&self, name: &str) -> u64 {
        stat(&self.store.cluster("authz").unwrap(), name)
    }
}

fn request(path: &str, body: &'static str) -> Request<Bytes> {
    Request::post(path).header("host", "authz").body(Bytes::from(body)).unwrap()
}

fn within(seconds: u64) -> ClientOptions {
    ClientOptions { timeout: Duration::from_secs(seconds), ..ClientOptions::default() }
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_through_the_pool_and_is_counted() {
    let fixture = Fixture::new().with_cluster(|_| {});
    let client = fixture.client(&within(2));
    for _ in 0..2 {
        let fetched = client.fetch(request("/check", "body"), 100).await.unwrap();
        assert_eq!((fetched.head.status.as_u16(), &*fetched.body), (200, &b"POST /check body"[..]));
        assert!(fetched.trailers.is_none());
    }
    assert_eq!((fixture.stat("upstream_cx_total"), fixture.stat("upstream_rq_total")), (1, 2));
    assert_eq!((fixture.stat("upstream_rq_2xx"), fixture.stat("upstream_rq_active")), (2, 0));
    let error = client.fetch(request("/check", "body"), 10).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { max_body: 10 }));
    assert_eq!(fixture.stat("upstream_rq_active"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_missing_cluster_is_unavailable_until_it_arrives() {
    let fixture = Fixture::new();
    let client = fixture.client(&within(1));
    let response = client.send(request("/check", "")).await;
    assert_eq!((response.status().as_u16(), flags_of(&response).to_string()), (503, "NC".to_owned()));
    let fixture = fixture.with_cluster(|_| {});
    assert_eq!(client.send(request("/check", "")).await.status(), 200);
    drop(fixture);
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_times_out_and_is_cancelled() {
    let fixture = Fixture::new().with_cluster(|_| {});
    let client = fixture.client(&within(3));
    let started = tokio::time::Instant::now();
    let response = client.send(request("/slow", "")).await;
    assert_eq!(started.elapsed().as_secs(), 3);
    assert_eq!((response.status().as_u16(), flags_of(&response).to_string()), (504, "UT".to_owned()));
    assert_eq!((fixture.stat("upstream_rq_timeout"), fixture.stat("upstream_rq_active")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_cancels_the_request() {
    let fixture = Fixture::new().with_cluster(|_| {});
    let client = fixture.client(&ClientOptions::default());
    let sending = tokio::time::timeout(Duration::from_secs(60), client.send(request("/slow", "")));
    assert!(sending.await.is_err(), "there is no timeout");
    assert_eq!((fixture.requests.load(Ordering::Relaxed), fixture.stat("upstream_rq_active")), (1, 0));
    let closed = async {
        while fixture.dropped.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), closed).await.expect("the server sees that the connection is closed");
    assert_eq!(fixture.stat("upstream_cx_active"), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_are_retried_and_limited_as_configured() {
    let fixture = Fixture::new().with_cluster(|_| {});
    let retry_policy = Arc::new(RetryPolicy::new(RetryOn::FIVE_XX));
    let client = fixture.client(&ClientOptions { retry_policy: Some(retry_policy), ..within(2) });
    assert_eq!(client.send(request("/unavailable_once", "")).await.status(), 200);
    assert_eq!(fixture.stat("upstream_rq_retry_success"), 1);

    let fixture = Fixture::new().with_cluster(|cluster| cluster.circuit_breakers.default.max_requests = 0);
    let response = fixture.client(&within(2)).send(request("/check", "")).await;
    assert_eq!((response.status().as_u16(), flags_of(&response).to_string()), (503, "UO".to_owned()));
}

/// A listener whose requests the cluster `authz` is asked about.
fn checked(status_path: &str) -> Listener {
    let mut service = HttpService::new("authz", Duration::from_secs(1));
    service.path_prefix = status_path.into();
    let mut listener = super::own_service::default_listener(SERVED);
    listener.name = format!("{}{SERVED}", target::INBOUND_LISTENER_PREFIX).into();
    listener.map_http(|http| {
        let mut http = http.clone();
        http.http_filters.push(HttpFilter::new(ExtAuthz::new(AuthzService::Http(service.clone()))));
        http
    })
}

const SERVED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 80);

#[tokio::test(start_paused = true)]
async fn a_programs_own_server_asks_with_its_worker_and_is_refused_without() {
    let fixture = Fixture::new().with_cluster(|_| {});
    let status = async |prefix: &str, server: Server| {
        fixture.store.set_listener(Arc::new(checked(prefix)));
        let service = tower::service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
        let layer = server.layer(SERVED).map_err(|error| error.source.to_string())?;
        let request = Request::get("/x").header("host", "a").body(Body::empty()).unwrap();
        Ok(tower::Layer::layer(&layer, service).oneshot(request).await.unwrap().status().as_u16())
    };
    let server = || Server::new(Arc::clone(&fixture.store), Telemetry::default());
    let worker = || Worker::new(0, NonZeroUsize::MIN, fixture.network.clone());
    assert_eq!(status("", server().with_worker(worker())).await, Ok(200));
    assert_eq!(fixture.requests.load(Ordering::Relaxed), 1);
    let refused = "http filter envoy.filters.http.ext_authz sends requests to cluster authz, but this server has no \
                   connections to clusters";
    assert_eq!(status("", server()).await, Err(refused.to_owned()));
    // Its service times out.
    assert_eq!(status("/slow", server().with_worker(worker())).await, Ok(403));
    assert_eq!(fixture.stat("upstream_rq_active"), 0);
}
