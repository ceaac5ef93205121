use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use mesh_core::{
    filter::{
        HttpFilter,
        fault::{Abort, AbortStatus, Delay, Fault},
    },
    listener::ConnectionFacts,
    model::{
        AccessLog, AccessLogFormat, AccessLogSink, Action, AppendAction, Cluster, DestinationService, DirectResponse,
        Discovery, FractionalPercent, HeaderMutation, HttpConnectionManager, Listener, LoadAssignment, PathMatcher,
        Redirect, Route, RouteAction, RouteConfiguration, RouteMatch, RouteSource, VirtualHost,
        format::{DEFAULT_TEXT, Format},
    },
    rng::SplitMix64,
    store::Store,
    telemetry::ResponseFlags,
    tls::{CertificateInfo, PeerIdentity, TlsInfo},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::util::BoxCloneSyncService;

use super::*;
use crate::{
    Body, BoxError, Downstream, ResponseSource, StreamInfo,
    drain::{Drain, DrainTimes},
    telemetry::{Stat, StatSnapshot, Telemetry},
};

pub(super) type TestService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// A context without connections to clusters.
pub(super) fn context(store: &Arc<Store>, telemetry: &Telemetry) -> ListenerContext {
    ListenerContext { store: Arc::clone(store), telemetry: telemetry.clone(), worker: None }
}

/// A listener in memory.
pub(super) struct Fixture {
    manager: Arc<ConnectionManager<ServiceResponder<TestService>>>,
    pub(super) telemetry: Telemetry,
    pub(super) drain: Drain,
}

impl Fixture {
    pub(super) fn new(http: HttpConnectionManager, service: TestService) -> Self {
        Self::with_store(&Arc::default(), http, service)
    }

    fn with_store(store: &Arc<Store>, http: HttpConnectionManager, service: TestService) -> Self {
        let telemetry = Telemetry::default();
        let (listener, http) = (Listener::api("test", http.clone()), Arc::new(http));
        let manager =
            ConnectionManager::new(&listener, http, &context(store, &telemetry), ServiceResponder(service)).unwrap();
        Self { manager: Arc::new(manager), telemetry, drain: Drain::new() }
    }

    pub(super) fn connect(&self) -> DuplexStream {
        self.connect_over(None)
    }

    fn connect_over(&self, tls: Option<TlsInfo>) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (remote, local) = ("10.9.8.7:1234".parse().unwrap(), "10.0.0.1:8080".parse().unwrap());
        let mut downstream = Downstream::new(ConnectionFacts::between(Some(remote), Some(local)));
        downstream.tls = tls.map(Arc::new);
        tokio::spawn(Arc::clone(&self.manager).serve_connection(server, downstream, self.drain.watch()));
        client
    }

    /// Sends `request` and returns everything until the connection ends, without the date.
    pub(super) async fn exchange(&self, request: &str) -> String {
        normalized(&self.exchange_raw(request).await)
    }

    /// Sends `request` and returns everything until the connection ends.
    pub(super) async fn exchange_raw(&self, request: &str) -> String {
        let mut client = self.connect();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub(super) fn stat(&self, name: &str) -> u64 {
        let stats = Stat::collect([&*self.telemetry.stats as _]);
        match &stats.iter().find(|stat| stat.name == name).expect("a known statistic").value {
            StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) => *n,
            StatSnapshot::Histogram(histogram) => histogram.count(),
            StatSnapshot::Text(_) => 0,
        }
    }

    fn istio(&self, part: &str) -> bool {
        self.telemetry.istio.prometheus_text().lines().any(|line| line.contains(part) && line.ends_with(" 1"))
    }
}

/// Lines sorted within each head, without the date.
pub(super) fn normalized(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines: Vec<_> = head.lines().filter(|line| !line.starts_with("date:")).collect();
    if lines.len() > 1 {
        lines[1..].sort_unstable();
    }
    format!("{} | {body}", lines.join(" | "))
}

/// Answers 200 with the request's target and some of its headers as text.
pub(super) fn echo() -> TestService {
    service(|request| async move {
        let header = |name: &str| request.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        assert!(request.extensions().get::<StreamInfo>().is_some_and(|info| info.state().route.is_some()));
        let text = format!(
            "{} host={} proto={} xff={} timeout={} te={} id={}",
            request.uri(),
            header("host"),
            header("x-forwarded-proto"),
            header("x-forwarded-for"),
            header("x-envoy-upstream-rq-timeout-ms"),
            header("te"),
            header("x-request-id").len(),
        );
        Response::builder().header("server", "inner").header("keep-alive", "5").body(Body::from(text)).unwrap()
    })
}

pub(super) fn service<F>(answer: impl Fn(Request<Body>) -> F + Clone + Send + Sync + 'static) -> TestService
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    BoxCloneSyncService::new(tower::service_fn(move |request| {
        let answer = answer(request);
        async move { Ok(answer.await) }
    }))
}

pub(super) fn route(path: PathMatcher, action: Action) -> Route {
    Route::new(RouteMatch::path(path), action)
}

pub(super) fn http(routes: Vec<Route>) -> HttpConnectionManager {
    let mut virtual_host = VirtualHost::new("all", routes);
    virtual_host.domains = vec!["a.test".into()];
    let routes = RouteConfiguration::new("r", vec![virtual_host]);
    HttpConnectionManager::new("in", RouteSource::Inline(Arc::new(routes)))
}

pub(super) fn everything_to_the_service() -> Vec<Route> {
    vec![route(PathMatcher::Prefix("/".into()), Action::Route(Box::new(RouteAction::to_cluster("c"))))]
}

pub(super) const GET: &str = "GET /p?q HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_reaches_the_service_in_canonical_form() {
    let fixture = Fixture::new(http(everything_to_the_service()), echo());
    let request = "GET http://a.test/p?q HTTP/1.1\r\nhost: b.test\r\nx-envoy-upstream-rq-timeout-ms: 1\r\n\
                   te: trailers, gzip\r\nkeep-alive: 1\r\nconnection: close\r\n\r\n";
    assert_eq!(
        fixture.exchange(request).await,
        "HTTP/1.1 200 OK | connection: close | content-length: 67 | server: envoy | \
         /p?q host=a.test proto=http xff=- timeout=- te=trailers id=36"
            .replace("67", &"/p?q host=a.test proto=http xff=- timeout=- te=trailers id=36".len().to_string())
    );
    for (stat, expected) in [
        ("http.in.downstream_rq_total", 1),
        ("http.in.rq_total", 1),
        ("http.in.downstream_rq_http1_total", 1),
        ("http.in.downstream_rq_2xx", 1),
        ("http.in.downstream_rq_active", 0),
        ("http.in.downstream_rq_time", 1),
        ("listener.test.http.in.downstream_rq_2xx", 1),
    ] {
        assert_eq!(fixture.stat(stat), expected, "{stat}");
    }
    assert!(fixture.istio("reporter=\"source\"") && fixture.istio("response_code=\"200\""));
}

#[tokio::test]
async fn local_replies_are_envoys() {
    let direct = DirectResponse::new(StatusCode::OK, "hello");
    let mut redirect = Redirect::default();
    redirect.scheme_redirect = Some("https".into());
    redirect.response_code = StatusCode::FOUND;
    let mut direct = route(PathMatcher::Exact("/direct".into()), Action::DirectResponse(direct));
    direct.response_headers.add.push(HeaderMutation {
        name: HeaderName::from_static("x-proto"),
        value: Format::parse("%PROTOCOL% %RESPONSE_CODE%").unwrap(),
        append_action: AppendAction::default(),
        keep_empty_value: false,
    });
    let fixture = Fixture::new(
        http(vec![direct, route(PathMatcher::Exact("/moved".into()), Action::Redirect(Box::new(redirect)))]),
        echo(),
    );
    let cases = [
        (
            "GET /direct",
            "a.test",
            "200 OK | connection: close | content-length: 5 | content-type: text/plain | server: envoy | x-proto: HTTP/1.1 200 | hello",
        ),
        (
            "HEAD /direct",
            "a.test",
            "200 OK | connection: close | content-length: 5 | content-type: text/plain | server: envoy | x-proto: HTTP/1.1 200 | ",
        ),
        (
            "GET /moved?x",
            "a.test",
            "302 Found | connection: close | content-length: 0 | location: https://a.test/moved?x | server: envoy | ",
        ),
        ("GET /none", "a.test", "404 Not Found | connection: close | content-length: 0 | server: envoy | "),
        ("GET /direct", "other", "404 Not Found | connection: close | content-length: 0 | server: envoy | "),
        ("OPTIONS *", "a.test", "404 Not Found | connection: close | content-length: 0 | server: envoy | "),
    ];
    for (line, host, expected) in cases {
        let request = format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(fixture.exchange(&request).await, format!("HTTP/1.1 {expected}"), "{line} of {host}");
    }
    assert_eq!(
        fixture.exchange("GET / HTTP/1.0\r\n\r\n").await,
        "HTTP/1.1 426 Upgrade Required | connection: close | content-length: 16 | content-type: text/plain | server: envoy | Upgrade Required"
    );
    let websocket = "GET /direct HTTP/1.1\r\nhost: a.test\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n\r\n";
    assert!(fixture.exchange(websocket).await.starts_with("HTTP/1.1 403 Forbidden"));
    let upload = "POST /direct HTTP/1.1\r\nhost: a.test\r\ncontent-length: 100000\r\n\r\nxx";
    assert!(fixture.exchange(upload).await.contains("connection: close"), "the rest of the upload is not awaited");
    let counts = [("rq_total", 6), ("rq_direct_response", 4), ("no_route", 2), ("downstream_rq_ws_on_non_ws_route", 1)];
    for (stat, expected) in counts {
        assert_eq!(fixture.stat(&format!("http.in.{stat}")), expected, "{stat}");
    }
    assert!(fixture.istio("response_code=\"404\",grpc_response_status=\"\",response_flags=\"-\""), "of OPTIONS *");
}

#[tokio::test(start_paused = true)]
async fn faults_delay_and_abort() {
    let percentage = FractionalPercent::ALWAYS;
    let delay = Delay { fixed_delay: Some(Duration::from_secs(7)), percentage };
    let abort = Abort::new(AbortStatus::Http(StatusCode::IM_A_TEAPOT), percentage);
    let fault = Fault::default().with_delay(delay).with_abort(abort);
    let mut config = http(everything_to_the_service());
    config.http_filters.push(HttpFilter::new(fault));
    let mut cluster = Cluster::new("c", Discovery::Static(LoadAssignment::default()));
    let name = |text: &str| text.into();
    let service = DestinationService { host: name("c.test"), name: name("c"), namespace: name("ns") };
    cluster.service = Some(Arc::new(service));
    let store = Arc::new(Store::new());
    store.set_cluster(Arc::new(cluster), std::time::Instant::now(), &mut SplitMix64::new(1));
    let fixture = Fixture::with_store(&store, config, echo());
    let start = tokio::time::Instant::now();
    let answer = fixture.exchange(GET).await;
    assert!(answer.starts_with("HTTP/1.1 418 ") && answer.ends_with("| fault filter abort"), "{answer}");
    assert_eq!(start.elapsed(), Duration::from_secs(7));
    assert!(fixture.istio("response_flags=\"DI,FI\""));
    assert!(fixture.istio("destination_service=\"c.test\""), "the service that the request was for");
}

#[tokio::test]
async fn an_access_log_line_is_written_when_the_response_has_ended() {
    let path = std::env::temp_dir().join(format!("mesh-hcm-log-{}", std::process::id()));
    let mut config = http(everything_to_the_service());
    let format = AccessLogFormat::Text(Format::parse(DEFAULT_TEXT).unwrap());
    config.access_log.push(AccessLog::new(AccessLogSink::File(path.clone()), format));
    let fixture = Fixture::new(config, service(|_| async { Response::new(Body::from("12345")) }));
    fixture.exchange("GET /p?q HTTP/1.1\r\nhost: a.test\r\nuser-agent: curl\r\nconnection: close\r\n\r\n").await;
    fixture.telemetry.logs.flush();
    let line = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (start_time, rest) = line.split_once("] ").unwrap();
    assert!(start_time.starts_with("[20"), "{line}");
    let id = rest.split('"').rev().nth(5).unwrap();
    assert_eq!(id.len(), 36, "{line}");
    let rest = rest.replace(id, "ID");
    assert_eq!(rest, "\"GET /p?q HTTP/1.1\" 200 - 0 5 0 - \"-\" \"curl\" \"ID\" \"a.test\" \"-\"\n");
}

/// A file that requests are logged to.
pub(super) struct Log(std::path::PathBuf);

impl Log {
    pub(super) fn new(name: &str, config: &mut HttpConnectionManager, format: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-hcm-{name}-{}", std::process::id()));
        let format = AccessLogFormat::Text(Format::parse(format).unwrap());
        config.access_log.push(AccessLog::new(AccessLogSink::File(path.clone()), format));
        Self(path)
    }

    /// What has been written.
    pub(super) fn read(&self, fixture: &Fixture) -> String {
        self.read_from(&fixture.telemetry)
    }

    pub(super) fn read_from(&self, telemetry: &Telemetry) -> String {
        telemetry.logs.flush();
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn the_result_of_a_handshake_reaches_headers_metrics_and_logs() {
    let mut config = http(everything_to_the_service());
    config.forwarded_for.use_remote_address = true;
    let format = "%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_URI_SAN%\n";
    let log = Log::new("tls", &mut config, format);
    let service = service(|request| async move {
        Response::new(Body::from(request.headers()["x-forwarded-proto"].to_str().unwrap().to_owned()))
    });
    let fixture = Fixture::new(config, service);
    let mut certificate = CertificateInfo::default();
    certificate.uri_sans = vec!["spiffe://cluster.local/ns/a/sa/b".into()];
    let mut peer = PeerIdentity::default();
    peer.certificate = certificate.into();
    peer.is_verified = true;
    let mut tls = TlsInfo::default();
    tls.server_name = Some("a.test".into());
    tls.peer = Some(peer);
    for (tls, scheme) in [(None, "http"), (Some(tls), "https")] {
        let mut client = fixture.connect_over(tls);
        client.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{scheme}")), "{answer}");
    }
    assert_eq!(log.read(&fixture), "- - -\na.test TLSv1.3 spiffe://cluster.local/ns/a/sa/b\n");
}

pub(super) async fn read_until(stream: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_request_headers_timeout_does_not_apply_between_requests() {
    let mut config = http(everything_to_the_service());
    config.request_headers_timeout = Some(Duration::from_secs(10));
    let format =
        "%REQ(:METHOD)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_SENT% %DURATION%\n";
    let log = Log::new("head", &mut config, format);
    let fixture = Fixture::new(config, service(|_| async { Response::new(Body::from("1")) }));
    let mut client = fixture.connect();
    let start = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(7)).await;
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\n1").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    for part in ["G", "ET / HT", "TP/1.1\r\nhost"] {
        client.write_all(part.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(
        normalized(&answer),
        "HTTP/1.1 408 Request Timeout | connection: close | content-length: 22 | content-type: text/plain | \
         server: envoy | request header timeout"
    );
    assert_eq!(start.elapsed(), Duration::from_secs(7 + 3 * 20 + 10));
    fixture.drain.emptied().await;
    let last = log.read(&fixture).lines().last().unwrap().to_owned();
    assert_eq!(last, "- HTTP/1.1 408 - request_header_timeout 22 10000");
    let stats = ["header_timeout", "total", "4xx", "active"];
    assert_eq!(stats.map(|name| fixture.stat(&format!("http.in.downstream_rq_{name}"))), [1, 4, 1, 0]);
}

#[tokio::test]
async fn a_refused_request_closes_the_connection() {
    let mut config = http(everything_to_the_service());
    let format = "%PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %DOWNSTREAM_REMOTE_ADDRESS%\n";
    let log = Log::new("refused", &mut config, format);
    let fixture = Fixture::new(config, echo());
    for head in ["GET / HTTP/1.1", "GET / HTTP/1.1\r\nhost: a/b", "GET /\u{e9} HTTP/1.1\r\nhost: a.test"] {
        let answer = fixture.exchange(&format!("{head}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request | connection: close | "), "{head}: {answer}");
    }
    let refused = log.read(&fixture);
    assert_eq!(refused.lines().next(), Some("HTTP/1.1 400 missing_host_header 10.9.8.7:1234"));
    assert_eq!(fixture.stat("http.in.downstream_cx_protocol_error"), 2);
    let more = fixture.exchange(&format!("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n{GET}")).await;
    assert!(more.starts_with("HTTP/1.1 404 ") && more.contains("HTTP/1.1 200 OK"), "{more}");
}

#[tokio::test]
async fn a_connection_may_outlive_requests_that_are_complete_and_refused() {
    let mut config = http(everything_to_the_service());
    config.http1.override_stream_error_on_invalid_http_message = true;
    let fixture = Fixture::new(config, echo());
    for (request, outlives) in [("GET / HTTP/1.1\r\n\r\n", true), ("GET * HTTP/1.1\r\nhost: a.test\r\n\r\n", false)] {
        let answers = fixture.exchange(&format!("{request}{GET}")).await;
        assert!(answers.starts_with("HTTP/1.1 400 "), "{answers}");
        assert_eq!(answers.contains("HTTP/1.1 200 OK"), outlives, "{answers}");
    }
}

#[tokio::test]
async fn an_invalid_request_is_counted_and_logged() {
    let mut config = http(everything_to_the_service());
    config.max_request_headers_kb = 1;
    let format = "%REQ(:METHOD)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
    let log = Log::new("nonsense", &mut config, format);
    let fixture = Fixture::new(config, echo());
    let too_large = format!("GET / HTTP/1.1\r\nhost: a.test\r\nx: {}\r\n\r\n", "x".repeat(2_000));
    let cases = [("nonsense\r\n\r\n", "400 Bad Request"), (&*too_large, "431 Request Header Fields Too Large")];
    for (request, status) in cases {
        let answer = fixture.exchange(request).await;
        let text = status.split_once(' ').unwrap().1;
        let headers = format!("connection: close | content-length: {} | content-type: text/plain", text.len());
        assert_eq!(answer, format!("HTTP/1.1 {status} | {headers} | server: envoy | {text}"));
    }
    fixture.drain.emptied().await;
    assert_eq!(log.read(&fixture), "- 400 DPE http1.codec_error\n- 431 DPE http1.headers_too_large\n");
    let stats = ["rq_total", "rq_4xx", "rq_active", "cx_protocol_error"];
    assert_eq!(stats.map(|name| fixture.stat(&format!("http.in.downstream_{name}"))), [2, 2, 0, 2]);
}

#[tokio::test]
async fn grpc_responses_keep_their_trailers_and_are_counted_by_grpc_status() {
    let fixture = Fixture::new(
        http(everything_to_the_service()),
        service(|_| async {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("5"))]);
            let body = Full::new(Bytes::from("x")).with_trailers(std::future::ready(Some(Ok(trailers))));
            Response::new(Body::new(body))
        }),
    );
    let io = hyper_util::rt::TokioIo::new(fixture.connect());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://a.test/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from("request")))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "5");
    assert!(fixture.istio("request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"5\""));
    assert_eq!(fixture.stat("http.in.downstream_rq_http2_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_completes_requests_and_closes_connections() {
    let slow = service(|_| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Response::new(Body::from("done"))
    });
    let fixture = Fixture::new(http(everything_to_the_service()), slow);
    let (mut busy, mut idle) = (fixture.connect(), fixture.connect());
    let keep_alive = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    busy.write_all(keep_alive.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    let times = DrainTimes { idle_grace: Duration::from_secs(1), drain_time: Duration::from_secs(60) };
    let drain = fixture.drain.clone();
    let draining = tokio::spawn(async move { drain.run(times).await });
    let mut nothing = String::new();
    idle.read_to_string(&mut nothing).await.unwrap();
    assert_eq!(
        (nothing.as_str(), start.elapsed().as_secs()),
        ("", 1),
        "the idle connection was closed after its grace"
    );
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("done"), "{answer}");
    draining.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_and_the_maximum_of_requests_close_connections() {
    let mut config = http(everything_to_the_service());
    config.idle_timeout = Some(Duration::from_secs(30));
    config.max_requests_per_connection = std::num::NonZeroU32::new(2);
    let fixture = Fixture::new(config, echo());
    let start = tokio::time::Instant::now();
    assert_eq!(fixture.exchange("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await.matches("200 OK").count(), 1);
    assert_eq!((start.elapsed().as_secs(), fixture.stat("http.in.downstream_cx_idle_timeout")), (30, 1));
    let three = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n".repeat(3);
    assert_eq!(fixture.exchange(&three).await.matches("200 OK").count(), 2);
    assert_eq!((start.elapsed().as_secs(), fixture.stat("http.in.downstream_cx_max_requests_reached")), (30, 1));
}

#[tokio::test]
async fn a_client_that_disconnects_is_recorded_with_code_zero() {
    let fixture = Fixture::new(http(everything_to_the_service()), service(|_| std::future::pending()));
    let mut client = fixture.connect();
    client.write_all(GET.as_bytes()).await.unwrap();
    while fixture.stat("http.in.downstream_rq_active") == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    fixture.drain.emptied().await;
    assert!(fixture.istio("response_code=\"0\",grpc_response_status=\"\",response_flags=\"DC\""));
    assert_eq!(fixture.stat("http.in.downstream_rq_rx_reset"), 1);
}

#[tokio::test]
async fn a_reset_stream_has_another_flag_than_a_closed_connection() {
    let mut config = http(everything_to_the_service());
    let log = Log::new("reset", &mut config, "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n");
    let fixture = Fixture::new(config, service(|_| std::future::pending()));
    let (mut client, connection) = h2::client::handshake(fixture.connect()).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut begin = || client.send_request(Request::get("http://a.test/").body(()).unwrap(), true).unwrap();
    let (reset, _kept) = (begin(), begin());
    let active = async |requests| {
        while fixture.stat("http.in.downstream_rq_active") != requests {
            tokio::task::yield_now().await;
        }
    };
    active(2).await;
    drop(reset);
    active(1).await;
    connection.abort();
    active(0).await;
    assert_eq!(log.read(&fixture), "DR http2.remote_reset\nDC downstream_remote_disconnect\n");
    assert_eq!(fixture.stat("http.in.downstream_rq_rx_reset"), 2);
}

#[tokio::test]
async fn a_reset_right_before_the_end_of_the_connection_is_still_a_reset() {
    let mut config = http(everything_to_the_service());
    let log = Log::new("reset-and-end", &mut config, "%RESPONSE_FLAGS%\n");
    let fixture = Fixture::new(config, service(|_| std::future::pending()));
    let mut client = fixture.connect();
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    // GET, http, /, a.test.
    let headers = b"\0\0\x0b\x01\x05\0\0\0\x01\x82\x86\x84\x41\x06a.test";
    let cancel = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
    client.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], headers].concat()).await.unwrap();
    while fixture.stat("http.in.downstream_rq_active") == 0 {
        tokio::task::yield_now().await;
    }
    client.write_all(cancel).await.unwrap();
    drop(client);
    fixture.drain.emptied().await;
    while fixture.stat("http.in.downstream_rq_active") > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.read(&fixture), "DR\n");
}

/// Reads the body until it fails, and records what an upstream would.
async fn upload(mut request: Request<Body>) -> Response<Body> {
    while let Some(Ok(_)) = request.body_mut().frame().await {}
    let info: StreamInfo = request.extensions_mut().remove().unwrap();
    info.state().response_flags = ResponseFlags::LOCAL_RESET;
    info.state().response_source = Some(ResponseSource::Local);
    info.state().response_code_details = Some("upstream_reset".into());
    crate::testing::answer(503, "discarded")
}

#[tokio::test]
async fn an_upload_that_violates_the_protocol_gets_400() {
    let mut config = http(everything_to_the_service());
    let log = Log::new("malformed", &mut config, "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n");
    let fixture = Fixture::new(config, service(upload));
    let chunks = "4\r\nhalf\r\nno number\r\n";
    let request = format!("POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    assert_eq!(
        fixture.exchange(&request).await,
        "HTTP/1.1 400 Bad Request | connection: close | content-length: 11 | content-type: text/plain | server: envoy | \
         Bad Request"
    );
    assert_eq!(log.read(&fixture), "400 DPE http1.codec_error\n");
    let stats = ["rq_4xx", "rq_rx_reset", "rq_active", "cx_protocol_error"];
    assert_eq!(stats.map(|name| fixture.stat(&format!("http.in.downstream_{name}"))), [1, 0, 0, 1]);
}

#[tokio::test]
async fn a_client_that_disconnects_during_its_upload_is_recorded_with_code_zero() {
    let fixture = Fixture::new(http(everything_to_the_service()), service(upload));
    let mut client = fixture.connect();
    let half = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    client.write_all(half.as_bytes()).await.unwrap();
    while fixture.stat("http.in.downstream_rq_active") == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    fixture.drain.emptied().await;
    assert!(fixture.istio("response_code=\"0\",grpc_response_status=\"\",response_flags=\"DC\""));
    let stats = ["rx_reset", "5xx", "active"].map(|name| fixture.stat(&format!("http.in.downstream_rq_{name}")));
    assert_eq!(stats, [1, 0, 0]);
}

#[tokio::test]
async fn a_service_that_panics_is_recorded_as_an_upstream_reset() {
    let fixture = Fixture::new(http(everything_to_the_service()), service(|_| async { panic!("on purpose") }));
    assert_eq!(fixture.exchange(GET).await, " | ", "the connection ends");
    fixture.drain.emptied().await;
    assert!(fixture.istio("response_code=\"503\",grpc_response_status=\"\",response_flags=\"UC\""));
    let stats = ["rx_reset", "5xx", "active"].map(|name| fixture.stat(&format!("http.in.downstream_rq_{name}")));
    assert_eq!(stats, [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_stream_idle_timeout_ends_a_stream() {
    let mut config = http(everything_to_the_service());
    config.stream_idle_timeout = Some(Duration::from_secs(30));
    let fixture = Fixture::new(config, service(|_| std::future::pending()));
    let start = tokio::time::Instant::now();
    let answer = fixture.exchange(GET).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("| stream timeout"), "{answer}");
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    let upload = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9\r\n\r\n";
    assert!(fixture.exchange(upload).await.starts_with("HTTP/1.1 408 "));
    assert_eq!(fixture.stat("http.in.downstream_rq_idle_timeout"), 2);
    assert!(fixture.istio("response_code=\"504\",grpc_response_status=\"\",response_flags=\"SI\""));
}

/// A body of one byte after each pause.
struct Slow {
    pauses: std::slice::Iter<'static, u64>,
    waiting: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        if self.waiting.is_none() {
            let Some(pause) = self.pauses.next() else { return std::task::Poll::Ready(None) };
            self.waiting = Some(Box::pin(tokio::time::sleep(Duration::from_secs(*pause))));
        }
        let waiting = self.waiting.as_mut().unwrap();
        std::task::ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from("x")))))
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_idle_timeout_applies_to_response_bodies() {
    let mut config = http(everything_to_the_service());
    config.stream_idle_timeout = Some(Duration::from_secs(30));
    let chunks = |pauses: &'static [u64]| {
        service(move |_| async { Response::new(Body::new(Slow { pauses: pauses.iter(), waiting: None })) })
    };
    let steady = Fixture::new(config.clone(), chunks(&[29, 29, 29]));
    assert!(steady.exchange(GET).await.ends_with("0\r\n\r\n"), "three chunks and their end");
    let stalled = Fixture::new(config, chunks(&[1, 31]));
    let answer = stalled.exchange(GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.contains("0\r\n\r\n"), "{answer}");
    assert!(stalled.istio("response_code=\"200\",grpc_response_status=\"\",response_flags=\"SI\""));
}

#[tokio::test]
async fn a_grpc_client_gets_direct_responses_as_grpc_status() {
    let direct = DirectResponse::new(StatusCode::NOT_FOUND, "nothing here");
    let fixture =
        Fixture::new(http(vec![route(PathMatcher::Prefix("/".into()), Action::DirectResponse(direct))]), echo());
    let request = "POST /s/M HTTP/1.1\r\nhost: a.test\r\ncontent-type: application/grpc\r\nconnection: close\r\n\r\n";
    assert_eq!(
        fixture.exchange(request).await,
        "HTTP/1.1 200 OK | connection: close | content-length: 0 | content-type: application/grpc | \
         grpc-message: nothing here | grpc-status: 12 | server: envoy | "
    );
}
