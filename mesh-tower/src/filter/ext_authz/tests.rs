//! The filter with a service that answers at once, and the requests that get past it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use mesh_core::{
    filter::{
        HttpFilter as Config,
        ext_authz::{BufferSettings, CheckRequest, GrpcService, HttpService, Service},
    },
    model::{ClusterName, FractionalPercent, HeaderKey, StringMatcher},
};
use parking_lot::Mutex;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::{
    Body, ResponseDetails,
    call::flags_of,
    cluster_client::{ClientOptions, ClusterClient, ClusterClients},
    filter::FilterLayer,
    telemetry::HttpStats,
};

/// An authorization service for tests. It returns a configured response to each check and records the check.
#[derive(Clone, Debug)]
struct Authz {
    answer: fn() -> Response<Body>,
    checks: Arc<Mutex<Vec<Request<Bytes>>>>,
    options: Arc<Mutex<Vec<(ClusterName, ClientOptions)>>>,
}

impl Authz {
    fn new(answer: fn() -> Response<Body>) -> Self {
        Self { answer, checks: Arc::default(), options: Arc::default() }
    }
}

impl ClusterClients for Authz {
    fn client(&self, cluster: &ClusterName, options: &ClientOptions) -> Arc<dyn ClusterClient> {
        self.options.lock().push((cluster.clone(), options.clone()));
        Arc::new(self.clone())
    }
}

impl ClusterClient for Authz {
    fn send(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        self.checks.lock().push(request);
        Box::pin(async { (self.answer)() })
    }
}

fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn exact(names: &[&str]) -> Vec<StringMatcher> {
    names.iter().map(|name| StringMatcher::exact(name)).collect()
}

fn filter(change: impl FnOnce(&mut ExtAuthz, &mut HttpService)) -> ExtAuthz {
    let mut service = HttpService::new("authz", Duration::from_secs(1));
    let mut filter = ExtAuthz::new(Service::Http(service.clone()));
    change(&mut filter, &mut service);
    filter.service = Service::Http(service);
    filter
}

/// What became of a request.
struct Outcome {
    response: Response<()>,
    body: String,
    /// The request that the service behind the filter received, with its body.
    passed: Option<(HeaderMap, Bytes)>,
    stats: HttpStats,
}

impl Outcome {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Response flags and details.
    fn reason(&self) -> String {
        let details = self.response.extensions().get::<ResponseDetails>();
        format!("{} {}", flags_of(&self.response), details.map_or("", |details| &*details.0))
    }

    fn stat(&self, name: &'static str) -> u64 {
        self.stats.counter(name).get()
    }
}

async fn send(filter: ExtAuthz, authz: &Authz, request: Request<Body>) -> Outcome {
    let stats = HttpStats::default();
    let layer = FilterLayer::with_factory(
        Config::new(filter),
        &FilterFactory { stats: &stats, logs: &Arc::default(), clients: Some(authz), authorizer: None },
    );
    let passed = Arc::new(Mutex::new(None));
    let keeps = Arc::clone(&passed);
    let service = layer.layer(service_fn(move |request: Request<Body>| {
        let keeps = Arc::clone(&keeps);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            *keeps.lock() = Some((parts.headers, body));
            Ok::<_, Infallible>(answer(200, &[("x-down", "upstream")], "up"))
        }
    }));
    let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let passed = passed.lock().take();
    Outcome { response: Response::from_parts(parts, ()), body, passed, stats }
}

fn get() -> Request<Body> {
    Request::get("/a").header("host", "shop.test").header("x-user", "spoofed").body(Body::empty()).unwrap()
}

fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/a").header("host", "shop.test").body(body.into()).unwrap()
}

/// A body that comes in parts.
struct Parts(VecDeque<&'static str>);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
    }
}

fn parts(parts: &[&'static str]) -> Body {
    Body::new(Parts(parts.iter().copied().collect()))
}

#[tokio::test]
async fn an_allowed_request_passes_with_the_changes_of_the_service() {
    let authz = Authz::new(|| answer(200, &[("x-user", "alice"), ("x-other", "o"), ("x-down", "authz")], "ignored"));
    let filter = filter(|_, service| {
        service.allowed_upstream_headers = exact(&["x-user"]);
        service.allowed_client_headers_on_success = exact(&["x-down"]);
        service.dynamic_metadata_from_headers = exact(&["x-other"]);
    });
    let outcome = send(filter, &authz, get()).await;
    assert_eq!((outcome.status(), &*outcome.body), (200, "up"));
    let (headers, _) = outcome.passed.as_ref().unwrap();
    assert_eq!(headers.get_all("x-user").iter().collect::<Vec<_>>(), ["alice"]);
    assert!(!headers.contains_key("x-other"));
    let down: Vec<_> = outcome.response.headers().get_all("x-down").iter().collect();
    assert_eq!(down, ["upstream", "authz"]);
    assert_eq!((outcome.stat("ext_authz.ok"), outcome.stat("ext_authz.denied")), (1, 0));
    let checks = authz.checks.lock();
    assert_eq!((checks.len(), checks[0].uri().path()), (1, "/a"));
    let (cluster, options) = authz.options.lock().remove(0);
    assert_eq!((cluster.as_str(), options.timeout.as_secs(), options.send_xff), ("authz", 1, false));
}

#[tokio::test]
async fn a_denied_request_gets_the_response_of_the_service() {
    let authz = Authz::new(|| answer(401, &[("x-reason", "no"), ("x-secret", "s")], "go away"));
    let filter = filter(|_, service| service.allowed_client_headers = exact(&["x-reason"]));
    let outcome = send(filter.clone(), &authz, get()).await;
    assert_eq!((outcome.status(), &*outcome.body, outcome.reason()), (401, "go away", "UAEX ext_authz_denied".into()));
    assert_eq!(outcome.response.headers()["x-reason"], "no");
    assert!(!outcome.response.headers().contains_key("x-secret") && outcome.passed.is_none());
    assert_eq!((outcome.stat("ext_authz.ok"), outcome.stat("ext_authz.denied")), (0, 1));

    let mut call = get();
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let authz = Authz::new(|| answer(403, &[("content-type", "text/html"), ("grpc-status", "0")], "go away"));
    let mut all = filter;
    let Service::Http(service) = &mut all.service else { unreachable!() };
    service.allowed_client_headers.clear();
    let outcome = send(all, &authz, call).await;
    let headers = outcome.response.headers();
    assert_eq!(
        (outcome.status(), &headers["grpc-status"], &headers["grpc-message"]),
        (200, &"7".parse().unwrap(), &"go away".parse().unwrap())
    );
    assert_eq!(headers["content-type"], "application/grpc");
}

#[tokio::test]
async fn a_failure_denies_the_request_unless_it_is_allowed_then() {
    for broken in [
        (|| answer(503, &[("x-reason", "no")], "")) as fn() -> _,
        || Response::new(Body::new(crate::testing::HalfBody::default())),
        || Response::new(Body::from(Bytes::from(vec![b'a'; 2 << 20]))),
    ] {
        let authz = Authz::new(broken);
        let outcome = send(filter(|_, _| {}), &authz, get()).await;
        assert_eq!((outcome.status(), outcome.reason()), (403, "UAEX ext_authz_error".into()));
        assert!(outcome.passed.is_none() && outcome.body.is_empty());
        assert_eq!((outcome.stat("ext_authz.error"), outcome.stat("ext_authz.failure_mode_allowed")), (1, 0));

        let status = filter(|filter, _| filter.status_on_error = StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(send(status, &authz, get()).await.status(), 503);

        let open = filter(|filter, _| {
            (filter.failure_mode_allow, filter.failure_mode_allow_header_add) = (true, true);
            filter.stat_prefix = "waf".into();
        });
        let outcome = send(open, &authz, get()).await;
        assert_eq!(outcome.passed.as_ref().unwrap().0["x-envoy-auth-failure-mode-allowed"], "true");
        let counts = ["ext_authz.waf.error", "ext_authz.waf.failure_mode_allowed"].map(|name| outcome.stat(name));
        assert_eq!((outcome.status(), counts), (200, [1, 1]));
    }
}

#[tokio::test]
async fn without_connections_every_request_is_denied() {
    let layer = FilterLayer::new(filter(|_, _| {}));
    let service = layer.layer(service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty()))));
    assert_eq!(service.oneshot(get()).await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_share_of_requests_is_checked_and_the_others_pass_or_not() {
    let authz = Authz::new(|| answer(200, &[], ""));
    let mut never = filter(|filter, _| filter.filter_enabled = FractionalPercent::ZERO);
    let outcome = send(never.clone(), &authz, get()).await;
    assert_eq!((outcome.status(), outcome.stat("ext_authz.disabled")), (200, 1));
    never.deny_at_disable = true;
    let outcome = send(never, &authz, get()).await;
    assert_eq!((outcome.status(), outcome.reason()), (403, "UAEX ext_authz_error".into()));
    assert!(authz.checks.lock().is_empty() && outcome.passed.is_none());
}

#[tokio::test]
async fn the_body_is_read_for_the_check_and_passes_whole() {
    let authz = Authz::new(|| answer(200, &[], ""));
    for (allow_partial, body, status, sent) in [
        (false, parts(&["ab", "cd"]), 200, "abcd"),
        (false, parts(&["ab", "cde"]), 413, ""),
        (true, parts(&["ab", "cde", "f"]), 200, "abcd"),
        (true, Body::from("ab"), 200, "ab"),
        (false, Body::new(crate::testing::HalfBody::default()), 400, ""),
        (false, Body::empty(), 200, ""),
    ] {
        authz.checks.lock().clear();
        let filter = filter(|filter, _| {
            let mut buffer = BufferSettings::new(4);
            buffer.allow_partial_message = allow_partial;
            filter.with_request_body = Some(buffer);
        });
        let outcome = send(filter, &authz, post(body)).await;
        assert_eq!(outcome.status(), status, "{sent}");
        let check = authz.checks.lock().pop();
        assert_eq!(check.map(|check| check.body().clone()).unwrap_or_default(), sent);
        if let Some((_, passed)) = &outcome.passed {
            assert!(passed.starts_with(sent.as_bytes()), "{passed:?}");
            assert_eq!(passed.len() > sent.len(), sent == "abcd" && allow_partial, "{passed:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_valid_is_refused() {
    #[derive(Debug)]
    struct Invalid;

    impl mesh_core::filter::ext_authz::CheckCodec for Invalid {
        fn encode(&self, _: &CheckRequest, _: mesh_core::filter::ext_authz::CheckFormat) -> Bytes {
            Bytes::new()
        }

        fn decode(&self, _: &[u8]) -> Option<Authorization> {
            Some(Authorization::Invalid)
        }
    }

    let authz = Authz::new(|| {
        let mut response = Response::new(Body::from(Bytes::from_static(&[0; 5])));
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
        response
    });
    let filter = ExtAuthz::new(Service::Grpc(GrpcService::new("authz", Arc::new(Invalid))));
    let outcome = send(filter, &authz, get()).await;
    assert_eq!((outcome.status(), outcome.reason()), (500, "UAEX ext_authz_invalid".into()));
    assert_eq!((outcome.stat("ext_authz.invalid"), outcome.passed.is_none()), (1, true));
}

/// Decides like the service of [`Authz`] that it is compared with.
struct Local(fn(&CheckRequest) -> Authorization);

impl Authorizer for Local {
    async fn authorize(&self, check: &CheckRequest) -> Authorization {
        tokio::task::yield_now().await;
        (self.0)(check)
    }
}

/// Status, headers, body, flags and details of the response; headers and body of the request that passed.
type Seen = (u16, HeaderMap, String, String, Option<(HeaderMap, Bytes)>);

async fn in_process(decide: fn(&CheckRequest) -> Authorization, request: Request<Body>) -> Seen {
    let passed = Arc::new(Mutex::new(None));
    let keeps = Arc::clone(&passed);
    let layer = AuthorizerLayer::new(Local(decide)).with_request_body(BufferSettings::new(4));
    let service = layer.layer(service_fn(move |request: Request<Body>| {
        let keeps = Arc::clone(&keeps);
        async move {
            let (parts, body) = request.into_parts();
            *keeps.lock() = Some((parts.headers, body.collect().await.unwrap().to_bytes()));
            Ok::<_, Infallible>(answer(200, &[("x-down", "upstream")], "up"))
        }
    }));
    let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let response = Response::from_parts(parts, ());
    let details = response.extensions().get::<ResponseDetails>().map_or("", |details| &*details.0).to_owned();
    let passed = passed.lock().take();
    let reason = format!("{} {details}", flags_of(&response));
    (response.status().as_u16(), response.headers().clone(), body, reason, passed)
}

#[tokio::test]
async fn an_authorizer_in_process_and_a_remote_service_give_equal_results() {
    type Case = (fn() -> Response<Body>, fn(&CheckRequest) -> Authorization, fn() -> Request<Body>);
    let cases: [Case; 5] = [
        (
            || answer(200, &[("x-user", "alice"), ("x-down", "authz")], ""),
            |check| {
                assert_eq!((&*check.method, &*check.path, &*check.host), ("GET", "/a", "shop.test"));
                let set = |name, value| (HeaderKey::parse(name).unwrap(), HeaderValue::from_static(value));
                let (user, down) = (set("x-user", "alice"), set("x-down", "authz"));
                let mut allowed = Allowed::default();
                allowed.headers.push(HeaderChange::set(user.0, user.1));
                allowed.response_headers.push(HeaderChange::add(down.0, down.1));
                Authorization::Allowed(Box::new(allowed))
            },
            get,
        ),
        (
            || answer(401, &[("x-reason", "no")], "go away"),
            |_| {
                let mut denied = Denied::new(Some(StatusCode::UNAUTHORIZED));
                let reason = HeaderKey::parse("x-reason").unwrap();
                denied.headers.push(HeaderChange::add(reason, HeaderValue::from_static("no")));
                denied.body = "go away".into();
                Authorization::Denied(Box::new(denied))
            },
            get,
        ),
        (|| answer(403, &[], ""), |_| Authorization::deny(StatusCode::FORBIDDEN), get),
        (|| answer(503, &[], ""), |_| Authorization::Failed(None), get),
        (
            || answer(200, &[], ""),
            |check| {
                assert_eq!(check.body.as_deref(), Some(&b"abcd"[..]));
                Authorization::allow()
            },
            || post(parts(&["ab", "cd"])),
        ),
    ];
    for (remote, local, request) in cases {
        let filter = filter(|filter, service| {
            filter.with_request_body = Some(BufferSettings::new(4));
            service.allowed_upstream_headers = exact(&["x-user"]);
            service.allowed_client_headers_on_success = exact(&["x-down"]);
        });
        let outcome = send(filter, &Authz::new(remote), request()).await;
        let (status, reason, headers) = (outcome.status(), outcome.reason(), outcome.response.headers().clone());
        let of_remote: Seen = (status, headers, outcome.body, reason, outcome.passed);
        assert_eq!(in_process(local, request()).await, of_remote);
    }
    assert_eq!(in_process(|_| Authorization::allow(), post("abcde")).await.0, 413);
}
