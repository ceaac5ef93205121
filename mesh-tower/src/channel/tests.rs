use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::{
    filter::{
        HttpFilter,
        fault::{Abort, AbortStatus, Delay, Fault},
    },
    model::{
        AccessLog, AccessLogFormat, AccessLogSink, Action, Cluster, DestinationService, DirectResponse, Discovery,
        FractionalPercent, HttpConnectionManager, HttpProtocol, LoadAssignment, PathMatcher, Route, RouteAction,
        RouteConfiguration, RouteMatch, UpgradeConfig, VirtualHost, format::Format,
    },
    rng::SplitMix64,
    telemetry::ResponseFlags,
};
use tokio::net::TcpListener;

use super::*;
use crate::{
    ResponseDetails, Worker,
    telemetry::{Stat, StatSnapshot},
};

const TARGET: &str = "shop.default.svc.cluster.local:80";

/// An HTTP server on loopback that answers with `name`, the authority and the path.
async fn server(name: &'static str, protocol: HttpProtocol) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| async move {
                let host = request.headers().get(http::header::HOST).map(|host| host.to_str().unwrap().to_owned());
                let authority = request.uri().authority().map(ToString::to_string).or(host).unwrap_or_default();
                let text = format!("{name} {authority} {}", request.uri().path());
                Ok::<_, Infallible>(Response::new(Body::from(text)))
            });
            let io = TokioIo::new(stream);
            match protocol {
                HttpProtocol::Http2 => {
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(http.serve_connection(io, service));
                }
                HttpProtocol::Http1 | HttpProtocol::UseDownstream => {
                    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
                }
            }
        }
    });
    address
}

fn cluster(name: &str, address: std::net::SocketAddr, protocol: HttpProtocol) -> Arc<Cluster> {
    let mut cluster = Cluster::new(name, Discovery::Static([address].into_iter().collect()));
    cluster.http_protocol_options.protocol = protocol;
    cluster.service =
        Some(Arc::new(DestinationService { host: TARGET.into(), name: "shop".into(), namespace: "default".into() }));
    Arc::new(cluster)
}

fn routes(cluster: &str) -> Arc<RouteConfiguration> {
    let mut route = Route::new(
        RouteMatch::path(PathMatcher::Prefix("/".into())),
        Action::Route(Box::new(RouteAction::to_cluster(cluster))),
    );
    route.name = "route".into();
    let mut host = VirtualHost::new("host", vec![route]);
    host.domains = vec![TARGET.into()];
    Arc::new(RouteConfiguration::new("r", vec![host]))
}

fn listener() -> Arc<Listener> {
    let http = HttpConnectionManager::new("shop", RouteSource::Rds("r".into()));
    Arc::new(Listener::api(TARGET, http))
}

fn channel(store: &Arc<Store>, telemetry: &Telemetry) -> Channel {
    let upstream = Upstream::new(Worker::single());
    Channel::new(Authority::from_static(TARGET), Arc::clone(store), upstream, telemetry.clone())
}

async fn text(channel: &mut Channel, uri: &str) -> (u16, String) {
    let request = Request::get(uri).body(String::new()).unwrap();
    let response = channel.call(request).await.unwrap_or_else(|never| match never {});
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_request_reaches_the_cluster_of_its_route_in_either_protocol() {
    for protocol in [HttpProtocol::Http1, HttpProtocol::Http2] {
        let store = Arc::new(Store::new());
        let address = server("v1", protocol).await;
        store.set_cluster(cluster("c", address, protocol), now(), &mut SplitMix64::new(1));
        store.set_routes(&routes("c")).unwrap();
        store.set_listener(listener());
        let telemetry = Telemetry::default();
        let mut channel = channel(&store, &telemetry);
        for uri in ["/a", "http://shop.default.svc.cluster.local:80/a"] {
            assert_eq!(text(&mut channel, uri).await, (200, format!("v1 {TARGET} /a")));
        }
        assert_eq!(text(&mut channel, "http://other.test/a").await, (200, "v1 other.test /a".to_owned()));
        let metrics = telemetry.istio.prometheus_text();
        let counted = metrics.lines().find(|line| line.starts_with("istio_requests_total")).unwrap();
        assert!(counted.contains("reporter=\"source\"") && counted.ends_with(" 3"), "{counted}");
        assert!(counted.contains("destination_service_name=\"shop\""), "{counted}");
    }
}

#[tokio::test]
async fn a_request_waits_for_the_first_configuration() {
    let store = Arc::new(Store::new());
    let mut early = channel(&store, &Telemetry::default());
    let waiting = tokio::spawn(async move { text(&mut early, "/a").await });
    tokio::task::yield_now().await;
    let address = server("v1", HttpProtocol::Http1).await;
    store.set_cluster(cluster("c", address, HttpProtocol::Http1), now(), &mut SplitMix64::new(1));
    store.set_listener(listener());
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "the routes are still missing");
    store.set_routes(&routes("c")).unwrap();
    assert_eq!(waiting.await.unwrap().0, 200);
}

#[tokio::test(start_paused = true)]
async fn without_configuration_a_request_fails_after_a_timeout() {
    let store = Arc::new(Store::new());
    let start = now();
    let mut channel = channel(&store, &Telemetry::default());
    assert_eq!(text(&mut channel, "/a").await, (503, "no configuration for this target".to_owned()));
    assert_eq!(now() - start, Channel::<Pool>::INITIAL_FETCH_TIMEOUT);
}

#[tokio::test]
async fn new_routes_apply_to_the_next_request_and_a_removed_listener_does_not_stop_traffic() {
    let store = Arc::new(Store::new());
    for name in ["v1", "v2"] {
        let address = server(name, HttpProtocol::Http1).await;
        store.set_cluster(cluster(name, address, HttpProtocol::Http1), now(), &mut SplitMix64::new(1));
    }
    store.set_routes(&routes("v1")).unwrap();
    store.set_listener(listener());
    let mut channel = channel(&store, &Telemetry::default());
    assert_eq!(text(&mut channel, "/").await.1, format!("v1 {TARGET} /"));
    let old = Arc::downgrade(&store.routes()[0]);
    store.set_routes(&routes("v2")).unwrap();
    assert!(old.upgrade().is_none(), "an unused channel keeps no old routes");
    assert_eq!(text(&mut channel, "/").await.1, format!("v2 {TARGET} /"));
    store.remove_listener(TARGET);
    assert_eq!(text(&mut channel, "/").await.0, 200);
    store.set_routes(&routes("v1")).unwrap();
    assert_eq!(text(&mut channel, "/").await.1, format!("v1 {TARGET} /"), "routes go on changing");
}

/// A channel configured by `http` with `route`.
fn configured(http: HttpConnectionManager, route: Route) -> (Channel, Telemetry) {
    let store = Arc::new(Store::new());
    let mut cluster = Cluster::new("c", Discovery::Static(LoadAssignment::default()));
    let name = |text: &str| text.into();
    let service = DestinationService { host: name("a.test"), name: name("a"), namespace: name("ns") };
    cluster.service = Some(Arc::new(service));
    store.set_cluster(Arc::new(cluster), now(), &mut SplitMix64::new(1));
    store.set_routes(&Arc::new(RouteConfiguration::new("r", vec![VirtualHost::new("host", vec![route])]))).unwrap();
    store.set_listener(Arc::new(Listener::api(TARGET, http)));
    let telemetry = Telemetry::default();
    (channel(&store, &telemetry), telemetry)
}

fn shop() -> HttpConnectionManager {
    HttpConnectionManager::new("shop", RouteSource::Rds("r".into()))
}

fn everything(action: Action) -> Route {
    Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), action)
}

fn to_cluster() -> RouteAction {
    RouteAction::to_cluster("c")
}

/// The value of a statistic of the channel's connection manager.
fn stat(telemetry: &Telemetry, name: &str) -> u64 {
    let stats = Stat::collect([&*telemetry.stats as _]);
    match &stats.iter().find(|stat| stat.name == format!("http.shop.{name}")).expect("a known statistic").value {
        StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) => *n,
        StatSnapshot::Histogram(histogram) => histogram.count(),
        StatSnapshot::Text(_) => 0,
    }
}

#[tokio::test]
async fn an_injected_abort_is_counted_for_the_service_of_its_route_and_in_the_filters_statistics() {
    let abort = Abort::new(AbortStatus::Http(StatusCode::IM_A_TEAPOT), FractionalPercent::ALWAYS);
    let mut http = shop();
    http.http_filters.push(HttpFilter::new(Fault::default().with_abort(abort)));
    let (mut channel, telemetry) = configured(http, everything(Action::Route(Box::new(to_cluster()))));
    assert_eq!(text(&mut channel, "/").await, (418, "fault filter abort".to_owned()));
    let metrics = telemetry.istio.prometheus_text();
    let counted = metrics.lines().find(|line| line.starts_with("istio_requests_total")).unwrap();
    assert!(counted.contains("destination_service=\"a.test\"") && counted.contains("\"FI\""), "{counted}");
    assert_eq!((stat(&telemetry, "fault.aborts_injected"), stat(&telemetry, "fault.active_faults")), (1, 0));
}

#[tokio::test]
async fn a_direct_response_to_a_grpc_call_is_a_grpc_response() {
    let gone = DirectResponse::new(StatusCode::SERVICE_UNAVAILABLE, "closed");
    let (mut channel, _) = configured(shop(), everything(Action::DirectResponse(gone)));
    let request = Request::post("/s/M").header("content-type", "application/grpc").body(String::new()).unwrap();
    let response = channel.call(request).await.unwrap_or_else(|never| match never {});
    let headers = response.headers();
    assert_eq!(
        (response.status(), &headers["grpc-status"], &headers["grpc-message"]),
        (StatusCode::OK, &"14".parse().unwrap(), &"closed".parse().unwrap())
    );
}

#[tokio::test]
async fn a_local_reply_can_be_distinguished_from_a_response_of_an_endpoint() {
    let store = Arc::new(Store::new());
    let address = server("v1", HttpProtocol::Http1).await;
    store.set_cluster(cluster("c", address, HttpProtocol::Http1), now(), &mut SplitMix64::new(1));
    store.set_routes(&routes("c")).unwrap();
    store.set_listener(listener());
    let channel = channel(&store, &Telemetry::default());
    let details = async |uri: &str| {
        let response = channel.send(Request::get(uri).body(Body::empty()).unwrap()).await;
        let details = response.extensions().get::<ResponseDetails>().map(|details| details.0.to_string());
        (response.extensions().get::<ResponseFlags>().map(ToString::to_string), details)
    };
    assert_eq!(details("/").await, (None, None));
    store.remove_cluster(&"c".into());
    assert_eq!(details("/").await, (Some("NC".to_owned()), Some("cluster_not_found".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn the_routes_idle_timeout_ends_an_idle_call() {
    let delay = Delay { fixed_delay: Some(Duration::from_secs(60)), percentage: FractionalPercent::ALWAYS };
    let slow = Fault::default().with_delay(delay);
    let mut http = shop();
    http.http_filters.push(HttpFilter::new(slow));
    let mut action = to_cluster();
    action.idle_timeout = Some(Duration::from_secs(3));
    let (mut channel, _) = configured(http, everything(Action::Route(Box::new(action))));
    let start = now();
    assert_eq!(text(&mut channel, "/").await, (504, "stream timeout".to_owned()));
    assert_eq!(now() - start, Duration::from_secs(3));
}

#[tokio::test]
async fn access_logs_are_written_for_calls() {
    let path = std::env::temp_dir().join(format!("mesh-channel-log-{}", std::process::id()));
    let mut http = shop();
    let format = Format::parse("%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS%\n").unwrap();
    http.access_log.push(AccessLog::new(AccessLogSink::File(path.clone()), AccessLogFormat::Text(format)));
    let (mut channel, telemetry) = configured(http, everything(Action::Route(Box::new(to_cluster()))));
    assert_eq!(text(&mut channel, "/a?b").await, (503, "no healthy upstream".to_owned()));
    telemetry.logs.flush();
    let line = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(line, "GET /a?b 503 UH\n");
}

#[tokio::test]
async fn an_upgrade_must_be_allowed() {
    for (configs, expected) in [(Vec::new(), 403), (vec![UpgradeConfig::new("websocket")], 503)] {
        let mut action = to_cluster();
        action.upgrade_configs = configs;
        let (mut channel, _) = configured(shop(), everything(Action::Route(Box::new(action))));
        let request = Request::get("/").header("connection", "upgrade").header("upgrade", "websocket");
        let response = channel.call(request.body(String::new()).unwrap()).await;
        assert_eq!(response.unwrap_or_else(|never| match never {}).status(), expected);
    }
}

#[tokio::test]
async fn envoys_headers_are_added_on_request_only() {
    let store = Arc::new(Store::new());
    let address = server("v1", HttpProtocol::Http1).await;
    store.set_cluster(cluster("c", address, HttpProtocol::Http1), now(), &mut SplitMix64::new(1));
    store.set_routes(&routes("c")).unwrap();
    store.set_listener(listener());
    let plain = channel(&store, &Telemetry::default());
    for (channel, expected) in [(plain.clone(), false), (plain.with_envoy_headers(true), true)] {
        let response = channel.send(Request::get("/").body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers().contains_key("x-envoy-upstream-service-time"), expected);
    }
}
