use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use mesh_core::{
    cluster::{EndpointStats, StatKind},
    model::{
        self, Action, Cluster, Discovery, DropOverload, FractionalPercent, HeaderMutation, HostRewrite, HttpProtocol,
        LoadAssignment, OutlierDetection, PathMatcher, PathRewrite, Percent, RetryOn, RetryPolicy, Route, RouteAction,
        RouteConfiguration, RouteMatch, VirtualHost, format::Format,
    },
    retry::ResetReason,
    rng::SplitMix64,
    store::{Routes, Store},
    tls::TlsInfo,
};
use parking_lot::Mutex;

use super::*;
use crate::{
    Body, BoxError, ConnectionInfo, Protocol, Target, TransportError, route::Routing, testing::HalfBody, timer::now,
};

/// What an endpoint does with one try.
#[derive(Clone, Debug)]
enum Step {
    Answer(u16),
    With(&'static str, &'static str),
    After(Duration, u16),
    Reset(ResetReason),
    Refuse(ResetReason),
    Unsent,
    /// The endpoint refuses the stream, or a GOAWAY says that it has not processed it.
    Refused,
    Stall,
    Break(ResetReason),
    Early,
}

/// Endpoints that follow a script; the last step repeats.
#[derive(Debug, Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<Seen>>,
}

/// A request as an endpoint received it.
#[derive(Debug)]
struct Seen {
    endpoint: SocketAddr,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Script {
    fn next(&self) -> Step {
        let mut steps = self.steps.lock();
        if steps.len() > 1 { steps.pop_front() } else { steps.front().cloned() }.unwrap_or(Step::Answer(200))
    }
}

/// The TLS of every connection.
static TLS: LazyLock<Arc<TlsInfo>> = LazyLock::new(Arc::default);

impl Transport for Arc<Script> {
    type Connection = (SocketAddr, Step);

    async fn connection(&self, target: &Target<'_>, _: Protocol) -> Result<Self::Connection, TransportError> {
        match self.next() {
            Step::Refuse(reason) => Err(TransportError::new(reason)),
            step => Ok((target.endpoint.address().socket().unwrap(), step)),
        }
    }

    fn info(_: &Self::Connection) -> ConnectionInfo<'_> {
        let local_address = Some(([127, 0, 0, 1], 7).into());
        ConnectionInfo { local_address, tls: Some(&*TLS), ..ConnectionInfo::default() }
    }

    async fn send(&self, (endpoint, step): Self::Connection, call: &mut Call) -> Result<(), TransportError> {
        match step {
            Step::Unsent => return Err(TransportError::new(ResetReason::ConnectionTermination)),
            Step::Refused => return Err(TransportError::new(ResetReason::RemoteRefusedStreamReset)),
            _ => {}
        }
        let (parts, body) = call.take_request().unwrap().into_parts();
        if let Step::Early = step {
            call.response = Some(Response::new(Body::empty()));
            return Ok(());
        }
        let Ok(body) = body.collect().await else { return Err(TransportError::new(ResetReason::LocalReset)) };
        let body = body.to_bytes();
        self.seen.lock().push(Seen { endpoint, target: parts.uri.to_string(), headers: parts.headers, body });
        let mut response = Response::new(Body::from("text"));
        match step {
            Step::Answer(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
            Step::With(name, value) => {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            Step::After(wait, status) => {
                tokio::time::sleep(wait).await;
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
            }
            Step::Reset(reason) => return Err(TransportError::new(reason)),
            Step::Stall => *response.body_mut() = Body::new(Stalled),
            Step::Break(reason) => *response.body_mut() = Body::new(Broken(reason)),
            Step::Refuse(_) | Step::Unsent | Step::Refused | Step::Early => unreachable!("handled above"),
        }
        call.response = Some(response);
        Ok(())
    }
}

/// A body that is always pending.
struct Stalled;

impl http_body::Body for Stalled {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Poll::Pending
    }
}

/// A body that fails.
struct Broken(ResetReason);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Err(TransportError::new(self.0).into())))
    }
}

/// A store with one cluster `c` of some endpoints, and one route to it.
struct Fixture {
    script: Arc<Script>,
    store: Arc<Store>,
    routes: Routes,
    upstream: Upstream<Arc<Script>>,
    info: StreamInfo,
}

impl Fixture {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::with(steps, 1, |_| {}, |_| {})
    }

    fn with(
        steps: impl IntoIterator<Item = Step>,
        endpoints: u16,
        cluster: impl FnOnce(&mut Cluster),
        route: impl FnOnce(&mut VirtualHost),
    ) -> Self {
        let endpoint = |number| {
            let mut endpoint = model::Endpoint::new(SocketAddr::from(([127, 0, 0, 1], number)));
            endpoint.hostname = Some("endpoint.test".into());
            endpoint
        };
        let endpoints: Vec<_> = (1..=endpoints).map(endpoint).collect();
        let mut config = Cluster::new("c", Discovery::Static(endpoints.into()));
        cluster(&mut config);
        let store = Arc::new(Store::new());
        store.set_cluster(Arc::new(config), now(), &mut SplitMix64::new(1));

        let mut host = virtual_host();
        route(&mut host);
        let config = RouteConfiguration::new("r", vec![host]);
        let routes = Routes::compile(Arc::new(config), &mut |name| store.cluster_slot(name)).unwrap();
        let script = Arc::new(Script { steps: Mutex::new(steps.into_iter().collect()), seen: Mutex::default() });
        let upstream = Upstream::with_transport(Arc::clone(&script));
        Self { script, store, routes, upstream, info: StreamInfo::new(now()) }
    }

    async fn send(&mut self, request: Request<Body>) -> Response<Body> {
        self.info = StreamInfo::new(now());
        let mut call = Call::new(request);
        call.body.as_mut().unwrap().count(&self.info);
        let Routing::Matched(matched) = Routing::find(&self.routes, &call.head, None, 0, Some(&self.store)) else {
            panic!("no route")
        };
        self.upstream.forward(&mut call, &self.info, &matched).await;
        call.response.unwrap()
    }

    /// Status, body text and response flags of a GET.
    async fn get(&mut self, path: &str) -> (u16, String, String) {
        let response = self.send(get(path)).await;
        let status = response.status().as_u16();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(text.to_vec()).unwrap(), self.flags())
    }

    fn flags(&self) -> String {
        self.info.state().response_flags.to_string()
    }

    fn details(&self) -> String {
        self.info.state().response_code_details.clone().unwrap_or_default().into_owned()
    }

    fn seen(&self) -> parking_lot::MutexGuard<'_, Vec<Seen>> {
        self.script.seen.lock()
    }

    /// A statistic of the first endpoint.
    fn endpoint_stat(&self, of: impl Fn(&EndpointStats) -> u64) -> u64 {
        of(self.store.cluster("c").unwrap().endpoints().endpoints()[0].stats())
    }

    fn stat(&self, wanted: &str) -> u64 {
        let mut found = 0;
        self.store.cluster("c").unwrap().for_each_stat(&mut |name: &str, _: StatKind, value| {
            if name == wanted {
                found = value;
            }
        });
        found
    }
}

fn virtual_host() -> VirtualHost {
    let mut route = Route::new(
        RouteMatch::path(PathMatcher::Prefix("/".into())),
        Action::Route(Box::new(RouteAction::to_cluster("c"))),
    );
    route.name = "route".into();
    let mut host = VirtualHost::new("host", vec![route]);
    host.include_request_attempt_count = true;
    host
}

fn action(host: &mut VirtualHost) -> &mut RouteAction {
    match &mut host.routes[0].action {
        Action::Route(action) => action,
        other => panic!("{other:?}"),
    }
}

fn retry(host: &mut VirtualHost, retry_on: &str, num_retries: u32) {
    let retry_on = RetryOn::parse(retry_on).unwrap();
    host.retry_policy = Some(Arc::new(RetryPolicy::new(retry_on).with_num_retries(num_retries)));
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header(header::HOST, "shop.test").body(Body::empty()).unwrap()
}

fn value(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_response_has_its_service_time() {
    let mut fixture = Fixture::new([Step::After(Duration::from_millis(30), 200)]);
    let response = fixture.send(get("/a?b")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(value(response.headers(), "x-envoy-upstream-service-time"), "30");
    assert_eq!((fixture.flags().as_str(), fixture.details().as_str()), ("-", "via_upstream"));
    let seen = fixture.seen();
    assert_eq!((seen[0].target.as_str(), value(&seen[0].headers, "host").as_str()), ("/a?b", "shop.test"));
    assert_eq!(value(&seen[0].headers, "x-envoy-expected-rq-timeout-ms"), "15000");
    assert_eq!(value(&seen[0].headers, "x-envoy-attempt-count"), "1");
}

#[tokio::test(start_paused = true)]
async fn failures_become_envoys_local_replies() {
    let check = async |step, flags: &str, details: &str, reason: &str| {
        let mut fixture = Fixture::new([step]);
        let text = format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}");
        assert_eq!(fixture.get("/").await, (503, text, flags.to_owned()));
        assert_eq!(fixture.details(), format!("upstream_reset_before_response_started{{{details}}}"));
        assert_eq!(fixture.stat("upstream_rq_503"), 1);
        // A request that may not wait for a connection has no upstream host.
        assert_eq!(fixture.info.state().upstream_host.is_none(), details == "overflow");
    };
    let refused = Step::Refuse(ResetReason::ConnectionFailure);
    check(refused, "UF", "remote_connection_failure", "remote connection failure").await;
    check(Step::Refuse(ResetReason::ConnectionTimeout), "UF", "connection_timeout", "connection timeout").await;
    check(Step::Refuse(ResetReason::Overflow), "UO", "overflow", "overflow").await;
    let closed = Step::Reset(ResetReason::ConnectionTermination);
    check(closed, "UC", "connection_termination", "connection termination").await;
    check(Step::Reset(ResetReason::RemoteReset), "UR", "remote_reset", "remote reset").await;

    let mut fixture = Fixture::new([Step::Reset(ResetReason::ProtocolError)]);
    let (status, text, flags) = fixture.get("/").await;
    assert_eq!((status, flags.as_str()), (502, "UPE"));
    assert!(text.ends_with("reset reason: protocol error"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_cluster_has_another_flag_than_one_without_endpoints() {
    let mut fixture = Fixture::with([], 0, |_| {}, |_| {});
    assert_eq!(fixture.get("/").await, (503, "no healthy upstream".to_owned(), "UH".to_owned()));
    fixture.store.remove_cluster(&"c".into());
    assert_eq!(fixture.get("/").await, (503, String::new(), "NC".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn failures_of_grpc_requests_are_grpc_statuses() {
    let mut fixture = Fixture::new([Step::Refuse(ResetReason::ConnectionFailure)]);
    let request = Request::post("/s/M").header(header::CONTENT_TYPE, "application/grpc").body(Body::empty()).unwrap();
    let response = fixture.send(request).await;
    assert_eq!((response.status().as_u16(), value(response.headers(), "grpc-status").as_str()), (200, "14"));
    assert!(value(response.headers(), "grpc-message").contains("remote connection failure"));
    assert_eq!((fixture.stat("upstream_rq_503"), fixture.stat("upstream_rq_200")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_try_is_retried_as_the_policy_allows() {
    let steps = [Step::Answer(503), Step::Reset(ResetReason::RemoteReset), Step::Answer(200)];
    let mut fixture = Fixture::with(steps, 1, |_| {}, |host| retry(host, "5xx", 2));
    assert_eq!(fixture.get("/").await.0, 200);
    let attempts: Vec<_> = fixture.seen().iter().map(|seen| value(&seen.headers, "x-envoy-attempt-count")).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    assert_eq!(fixture.stat("upstream_rq_retry"), 2);
    assert_eq!(fixture.stat("upstream_rq_retry_success"), 1);
    assert_eq!(fixture.stat("upstream_rq_total"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_is_not_retried_and_not_an_error_of_the_endpoint() {
    let mut fixture = Fixture::with([], 1, |_| {}, |host| retry(host, "5xx,reset", 2));
    let upload = Request::post("/").header(header::HOST, "shop.test").body(Body::new(HalfBody::default())).unwrap();
    assert_eq!(fixture.send(upload).await.status(), 503);
    assert_eq!((fixture.seen().len(), fixture.stat("upstream_rq_total")), (0, 1));
    assert_eq!((fixture.stat("upstream_rq_retry"), fixture.stat("upstream_rq_completed")), (0, 0));
    assert_eq!(fixture.endpoint_stat(|stats| stats.rq_error.get()), 0);
}

#[tokio::test(start_paused = true)]
async fn when_retries_are_used_up_the_last_response_has_a_flag() {
    let mut fixture = Fixture::with([Step::Answer(503)], 1, |_| {}, |host| retry(host, "5xx", 2));
    assert_eq!(fixture.get("/").await, (503, "text".to_owned(), "URX".to_owned()));
    assert_eq!((fixture.seen().len(), fixture.stat("upstream_rq_retry_limit_exceeded")), (3, 1));

    let refuse = Step::Refuse(ResetReason::ConnectionFailure);
    let mut fixture = Fixture::with([refuse], 1, |_| {}, |host| retry(host, "connect-failure", 1));
    let (status, text, flags) = fixture.get("/").await;
    assert_eq!((status, flags.as_str()), (503, "URX,UF"));
    assert!(text.ends_with("retried and the latest reset reason: remote connection failure"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_the_circuit_breaker_refuses_is_an_overflow() {
    let none = |c: &mut Cluster| c.circuit_breakers.default.max_retries = 0;
    let mut fixture = Fixture::with([Step::Answer(500)], 1, none, |host| retry(host, "5xx", 1));
    assert_eq!(fixture.get("/").await, (500, "text".to_owned(), "UO".to_owned()));
    assert_eq!((fixture.seen().len(), fixture.stat("upstream_rq_retry_overflow")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_is_sent_again_unless_it_is_too_long() {
    let post = || Request::post("/").body(Body::new(Full::new(Bytes::from("hello")))).unwrap();
    for (buffer, expected) in [(5, &["hello", "hello"][..]), (4, &["hello"])] {
        let steps = [Step::Answer(503), Step::Answer(200)];
        let buffered = |c: &mut Cluster| c.retry_buffer_bytes = buffer;
        let mut fixture = Fixture::with(steps, 1, buffered, |host| retry(host, "5xx", 1));
        fixture.send(post()).await;
        let bodies: Vec<_> = fixture.seen().iter().map(|seen| seen.body.clone()).collect();
        assert_eq!(bodies, expected);
        assert_eq!(fixture.stat("retry_or_shadow_abandoned"), u64::from(buffer == 4));
    }
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_a_body_that_is_sent_twice_are_counted_once() {
    for body in [Body::from("hello"), Body::new(Full::new(Bytes::from("hello")))] {
        let steps = [Step::Answer(503), Step::Answer(200)];
        let mut fixture = Fixture::with(steps, 1, |_| {}, |host| retry(host, "5xx", 1));
        fixture.send(Request::post("/").body(body).unwrap()).await;
        assert_eq!((fixture.seen().len(), fixture.info.bytes_received()), (2, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_sent_is_retried_without_a_policy() {
    let mut fixture = Fixture::new([Step::Unsent, Step::Answer(200)]);
    assert_eq!(fixture.get("/").await.0, 200);
    assert_eq!(value(&fixture.seen()[0].headers, "x-envoy-attempt-count"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_repeatedly_not_sent_fails() {
    let mut fixture = Fixture::new([Step::Unsent]);
    assert_eq!(fixture.get("/").await.2, "UC");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_may_refuse_a_request_many_times_but_not_for_ever() {
    let refusals = |number: usize| std::iter::repeat_n(Step::Refused, number).chain([Step::Answer(200)]);
    assert_eq!(Fixture::new(refusals(10)).get("/").await.0, 200);
    assert_eq!(Fixture::new(refusals(63)).get("/").await.0, 200);
    assert_eq!(Fixture::new(refusals(64)).get("/").await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn retries_avoid_endpoints_that_failed() {
    let policy = |host: &mut VirtualHost| {
        retry(host, "5xx", 3);
        let policy = Arc::make_mut(host.retry_policy.as_mut().unwrap());
        policy.previous_hosts = true;
        policy.host_selection_retry_max_attempts = 200;
    };
    let random = |c: &mut Cluster| c.lb_policy = model::LbPolicy::Random;
    let mut fixture = Fixture::with([Step::Answer(503)], 4, random, policy);
    fixture.get("/").await;
    let mut endpoints: Vec<_> = fixture.seen().iter().map(|seen| seen.endpoint.port()).collect();
    endpoints.sort_unstable();
    assert_eq!(endpoints, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn the_route_timeout_spans_all_tries() {
    let route = |host: &mut VirtualHost| {
        retry(host, "5xx", 10);
        action(host).timeout = Duration::from_millis(250);
    };
    let mut fixture = Fixture::with([Step::After(Duration::from_millis(100), 503)], 1, |_| {}, route);
    let start = now();
    let (status, text, flags) = fixture.get("/").await;
    assert_eq!((status, text.as_str(), flags.as_str()), (504, "upstream request timeout", "UT"));
    assert_eq!((now() - start, fixture.details().as_str()), (Duration::from_millis(250), "response_timeout"));
    assert_eq!(fixture.stat("upstream_rq_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_exceeds_its_timeout_is_retried() {
    let route = |host: &mut VirtualHost| {
        retry(host, "5xx", 1);
        Arc::make_mut(host.retry_policy.as_mut().unwrap()).per_try_timeout = Some(Duration::from_millis(100));
    };
    let steps = [Step::After(Duration::from_secs(1), 200)];
    let mut fixture = Fixture::with(steps, 1, |_| {}, route);
    let (status, text, flags) = fixture.get("/").await;
    assert_eq!((status, text.as_str(), flags.as_str()), (504, "upstream request timeout", "URX,UT"));
    assert_eq!(fixture.details(), "upstream_per_try_timeout");
    assert_eq!((fixture.seen().len(), fixture.stat("upstream_rq_per_try_timeout")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_route_timeout_ends_a_response_body() {
    let mut fixture = Fixture::new([Step::Stall]);
    let start = now();
    let response = fixture.send(get("/")).await;
    assert_eq!((response.status(), fixture.stat("upstream_rq_active")), (StatusCode::OK, 1));
    assert!(response.into_body().collect().await.is_err());
    assert_eq!((now() - start, fixture.flags().as_str()), (Duration::from_secs(15), "UT"));
    assert_eq!((fixture.details().as_str(), fixture.stat("upstream_rq_active")), ("response_timeout", 0));
    assert_eq!((fixture.stat("upstream_rq_timeout"), fixture.endpoint_stat(|stats| stats.rq_timeout.get())), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_response_body_sets_flags_and_details() {
    let mut fixture = Fixture::new([Step::Break(ResetReason::RemoteReset)]);
    assert!(fixture.send(get("/")).await.into_body().collect().await.is_err());
    assert_eq!(fixture.flags(), "UR");
    assert_eq!(fixture.details(), "upstream_reset_after_response_started{remote_reset}");
    assert_eq!((fixture.stat("upstream_rq_rx_reset"), fixture.stat("upstream_rq_active")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_is_counted_once_as_a_local_reset() {
    let local = "upstream_rq_tx_reset";
    let steps = [Step::After(Duration::from_secs(1), 200), Step::Stall, Step::Answer(503), Step::Answer(200)];
    let http2 = |cluster: &mut Cluster| cluster.http_protocol_options.protocol = HttpProtocol::Http2;
    let mut fixture = Fixture::with(steps, 1, http2, |host| retry(host, "5xx", 1));
    let waited = tokio::time::timeout(Duration::from_millis(100), fixture.send(get("/"))).await;
    assert!(waited.is_err());
    assert_eq!((fixture.stat(local), fixture.stat("upstream_rq_active")), (1, 0));
    drop(fixture.send(get("/")).await);
    assert_eq!((fixture.stat(local), fixture.stat("upstream_rq_active")), (2, 0));
    fixture.get("/").await;
    assert_eq!((fixture.stat(local), fixture.stat("upstream_rq_active")), (3, 0), "the response that is retried");
    fixture.get("/").await;
    assert_eq!((fixture.stat(local), fixture.stat("upstream_rq_active")), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_response_before_the_end_of_the_upload_has_no_service_time() {
    let mut fixture = Fixture::new([Step::Early]);
    let upload = Request::post("/").header(header::HOST, "shop.test").body(Body::new(Stalled)).unwrap();
    let response = fixture.send(upload).await;
    assert_eq!(value(response.headers(), "x-envoy-upstream-service-time"), "-");
}

#[tokio::test(start_paused = true)]
async fn the_maximum_stream_duration_ends_a_request() {
    let mut fixture = Fixture::new([Step::After(Duration::from_secs(1), 200)]);
    let max_stream_duration = Some(Duration::from_millis(300));
    fixture.upstream =
        fixture.upstream.with_options(UpstreamOptions { max_stream_duration, ..UpstreamOptions::default() });
    let (status, text, flags) = fixture.get("/").await;
    assert_eq!((status, text.as_str(), flags.as_str()), (504, "downstream duration timeout", "-"));
    assert_eq!((fixture.details().as_str(), fixture.stat("upstream_rq_completed")), ("max_duration_timeout", 0));
}

#[tokio::test(start_paused = true)]
async fn requests_above_the_limit_overflow_until_a_response_has_ended() {
    let one = |c: &mut Cluster| c.circuit_breakers.default.max_requests = 1;
    let mut fixture = Fixture::with([Step::Answer(200)], 1, one, |_| {});
    let open = fixture.send(get("/")).await;
    let refused = fixture.send(get("/")).await;
    assert_eq!((refused.status().as_u16(), value(refused.headers(), "x-envoy-overloaded").as_str()), (503, "true"));
    assert!(fixture.info.state().upstream_host.is_some(), "the connection existed");
    assert_eq!(fixture.endpoint_stat(|stats| stats.rq_error.get()), 1);
    open.into_body().collect().await.unwrap();
    assert_eq!(fixture.send(get("/")).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_is_answered_as_by_envoy() {
    let mut drop = LoadAssignment::default();
    drop.drop_overloads = vec![DropOverload { category: "shed".into(), drop_percentage: FractionalPercent::ALWAYS }];
    let mut fixture = Fixture::with([Step::Answer(200)], 1, |c| c.discovery = Discovery::Static(drop), |_| {});
    let response = fixture.send(get("/")).await;
    assert_eq!(value(response.headers(), "x-envoy-unconditional-drop-overload"), "true");
    let (status, text, flags) = fixture.get("/").await;
    assert_eq!((status, text.as_str(), flags.as_str()), (503, "unconditional drop overload", "UDO"));
    assert_eq!(fixture.details(), "unconditional_drop_overload");
    assert_eq!((fixture.stat("upstream_rq_503"), fixture.stat("upstream_rq_total")), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_request_is_active_until_its_tunnel_ends() {
    let mut fixture = Fixture::new([Step::After(Duration::ZERO, 101)]);
    let response = fixture.send(get("/")).await;
    assert_eq!((response.status().as_u16(), fixture.stat("upstream_rq_active")), (101, 1));
    let (mut parts, body) = response.into_parts();
    let held = parts.extensions.remove::<guard::HeldByTunnel>();
    drop((parts, body));
    assert_eq!((held.is_some(), fixture.stat("upstream_rq_active")), (true, 1));
    drop(held);
    assert_eq!((fixture.stat("upstream_rq_active"), fixture.endpoint_stat(|stats| stats.rq_active())), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_repeatedly_is_ejected_for_a_time() {
    let mut detection = OutlierDetection::default();
    detection.consecutive_5xx = 3;
    detection.max_ejection_percent = Percent::HUNDRED;
    detection.interval = Duration::from_secs(1);
    detection.base_ejection_time = Duration::from_secs(5);
    let mut fixture = Fixture::with(
        [Step::Answer(500)],
        1,
        |c| {
            c.outlier_detection = Some(detection);
            c.healthy_panic_threshold = Percent::ZERO;
        },
        |_| {},
    );
    for _ in 0..3 {
        assert_eq!(fixture.get("/").await.0, 500);
    }
    assert_eq!(fixture.get("/").await.2, "UH");
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(fixture.get("/").await.0, 500, "the sweep ends the ejection");
}

#[tokio::test(start_paused = true)]
async fn path_host_and_headers_are_rewritten() {
    let add = |name: &'static str, format: &str| HeaderMutation {
        name: http::HeaderName::from_static(name),
        value: Format::parse(format).unwrap(),
        append_action: model::AppendAction::default(),
        keep_empty_value: false,
    };
    let route = |host: &mut VirtualHost| {
        action(host).path_rewrite = PathRewrite::Prefix("/new/".into());
        action(host).host_rewrite = HostRewrite::Auto;
        action(host).append_x_forwarded_host = true;
        host.routes[0].request_headers.add.push(add("x-was", "%REQ(:PATH)% on %REQ(:AUTHORITY)%"));
        host.response_headers.add.push(add("x-from", "%UPSTREAM_HOST% for %REQ(:METHOD)% %REQ(:PATH)%"));
        host.response_headers.add.push(add("x-local", "%UPSTREAM_LOCAL_ADDRESS%"));
    };
    let mut fixture = Fixture::with([Step::With("x-own", "1")], 1, |_| {}, route);
    let response = fixture.send(get("/a?b")).await;
    assert_eq!(value(response.headers(), "x-from"), "127.0.0.1:1 for GET /new/a?b");
    assert_eq!(value(response.headers(), "x-own"), "1");
    assert_eq!(value(response.headers(), "x-local"), "127.0.0.1:7");
    assert!(fixture.info.state().upstream_tls.as_ref().is_some_and(|tls| Arc::ptr_eq(tls, &TLS)));
    let seen = fixture.seen();
    let headers = &seen[0].headers;
    assert_eq!((seen[0].target.as_str(), value(headers, "host").as_str()), ("/new/a?b", "endpoint.test"));
    for (name, expected) in [
        ("x-was", "/a?b on shop.test"),
        ("x-envoy-original-path", "/a?b"),
        ("x-envoy-original-host", "shop.test"),
        ("x-forwarded-host", "shop.test"),
    ] {
        assert_eq!(value(headers, name), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn header_values_have_the_attempt_count_and_the_headers_as_sent() {
    let add = |format: &str| HeaderMutation {
        name: http::HeaderName::from_static("x-sent"),
        value: Format::parse(format).unwrap(),
        append_action: model::AppendAction::default(),
        keep_empty_value: false,
    };
    let route = |host: &mut VirtualHost| {
        retry(host, "5xx", 1);
        let format = "%UPSTREAM_REQUEST_ATTEMPT_COUNT% %REQ(x-envoy-attempt-count)% on %UPSTREAM_HOST%";
        host.request_headers.add.push(add(format));
        host.response_headers.add.push(add(format));
    };
    let mut fixture = Fixture::with([Step::Answer(503), Step::Answer(200)], 1, |_| {}, route);
    let response = fixture.send(get("/")).await;
    assert_eq!(value(response.headers(), "x-sent"), "2 2 on 127.0.0.1:1");
    assert!(fixture.seen().iter().all(|seen| value(&seen.headers, "x-sent") == "1 1 on "), "evaluated once");
}

#[tokio::test(start_paused = true)]
async fn headers_for_retries_and_timeouts_are_obeyed_and_removed() {
    let mut fixture = Fixture::new([Step::Answer(503), Step::After(Duration::from_secs(1), 200)]);
    let mut request = get("/");
    for (name, text) in [("x-envoy-retry-on", "5xx"), ("x-envoy-upstream-rq-timeout-ms", "300")] {
        request.headers_mut().insert(name, text.parse().unwrap());
    }
    assert_eq!(fixture.send(request).await.status(), 504);
    let seen = fixture.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(value(&seen[0].headers, "x-envoy-retry-on"), "-");
    assert_eq!(value(&seen[0].headers, "x-envoy-expected-rq-timeout-ms"), "300");
}

#[tokio::test(start_paused = true)]
async fn envoys_headers_can_be_suppressed() {
    let mut fixture = Fixture::new([]);
    fixture.upstream =
        fixture.upstream.with_options(UpstreamOptions { envoy_headers: false, ..UpstreamOptions::default() });
    let response = fixture.send(get("/")).await;
    assert_eq!(value(response.headers(), "x-envoy-upstream-service-time"), "-");
    assert_eq!(value(&fixture.seen()[0].headers, "x-envoy-expected-rq-timeout-ms"), "-");
}
