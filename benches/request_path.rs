//! What does the mesh add to a request in process?
//!
//! A request goes through everything between a caller and a connection: listener, route, retry, choice of an endpoint,
//! circuit breaker, outlier detection, metrics; the endpoint responds at once. It prints the cost beyond creating the
//! same request and its response without the mesh. The cost should not depend on the number of routes or endpoints. Two
//! more rows have the cost of single features: retries, by leaving them out, and a header that the route adds.

#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

mod support;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, uri::Authority};
use mesh_core::{
    model::{
        AppendAction, Cluster, Discovery, HeaderMutation, HttpConnectionManager, LbPolicy, Listener, OutlierDetection,
        PathMatcher, RetryOn, RetryPolicy, Route, RouteAction, RouteConfigName, RouteConfiguration, RouteMatch,
        RouteSource, VirtualHost, format::Format,
    },
    rng::{Rng, SplitMix64},
    store::Store,
};
use mesh_tower::{Body, Call, Channel, Protocol, Target, Transport, TransportError, Upstream, telemetry::Telemetry};

use self::support::{Cost, measure};

const TARGET: &str = "shop.default:80";
const CALLS: u32 = 1_024;
/// Different requests, so that caches do not hold one route's memory only.
const REQUESTS: usize = 1_024;

fn main() {
    // It is subtracted from all other numbers, so the minimum of several measurements excludes disturbances.
    let bases = (0..10).map(|_| without_mesh());
    let base = bases.min_by(|a, b| a.nanoseconds.total_cmp(&b.nanoseconds)).expect("there are some");
    println!("a request without the mesh: {base}");
    println!("what the mesh adds:");
    let mut of_one_route = None;
    for routes in [1, 1_000, 100_000] {
        for endpoints in [1, 100, 10_000] {
            let added = Mesh::new(routes, endpoints, Feature::Retries).measure().beyond(base);
            let of_one_route = *of_one_route.get_or_insert(added.nanoseconds);
            let ratio = added.nanoseconds / of_one_route;
            println!("{routes:>7} routes, {endpoints:>6} endpoints: {added}, {ratio:.2} x the first");
        }
    }
    for (name, feature) in [("no retries", Feature::None), ("a header added", Feature::RetriesAndHeader)] {
        let added = Mesh::new(1, 1, feature).measure().beyond(base);
        println!("      1 route,       1 endpoint: {added}, {name}");
    }
}

impl Cost {
    /// The cost without `base`.
    fn beyond(self, base: Self) -> Self {
        Self { nanoseconds: self.nanoseconds - base.nanoseconds, allocations: self.allocations - base.allocations }
    }
}

/// Everything between a caller and a connection.
struct Mesh {
    channel: Channel<NoNetwork>,
    targets: Vec<Uri>,
}

/// The features of the routes beside routing.
#[derive(Clone, Copy, PartialEq)]
enum Feature {
    None,
    Retries,
    RetriesAndHeader,
}

impl Mesh {
    fn new(routes: u32, endpoints: u32, feature: Feature) -> Self {
        let store = Arc::new(Store::new());
        let mut rng = SplitMix64::new(1);
        store.set_cluster(Arc::new(cluster(endpoints)), Instant::now(), &mut rng);
        store.set_routes(&Arc::new(route_configuration(routes, feature))).expect("routes without contradictions");
        store.set_listener(Arc::new(listener()));
        let upstream = Upstream::with_transport(NoNetwork);
        let channel = Channel::new(Authority::from_static(TARGET), store, upstream, Telemetry::default());
        Self { channel, targets: targets(routes) }
    }

    fn measure(&self) -> Cost {
        let mut targets = self.targets.iter().cycle();
        measure(CALLS, || {
            let target = targets.next().expect("endless");
            let response = now_or_never(self.channel.send(request(target)));
            assert!(response.status().is_success());
        })
    }
}

/// Paths of requests, each of some route.
fn targets(routes: u32) -> Vec<Uri> {
    let mut rng = SplitMix64::new(1);
    let path = |_| format!("/service/{}/items", rng.below(u64::from(routes))).parse().expect("a path");
    (0..REQUESTS).map(path).collect()
}

/// The cost of the same requests and their responses without the mesh.
fn without_mesh() -> Cost {
    let targets = targets(1);
    let mut targets = targets.iter().cycle();
    measure(CALLS, || answer(request(targets.next().expect("endless")).into_body()))
}

/// Endpoints that respond at once.
#[derive(Debug)]
struct NoNetwork;

impl Transport for NoNetwork {
    type Connection = ();

    async fn connection(&self, _: &Target<'_>, _: Protocol) -> Result<(), TransportError> {
        Ok(())
    }

    async fn send(&self, (): (), call: &mut Call) -> Result<(), TransportError> {
        // A transport that writes the head to a connection reads it where it is.
        if let Some(body) = call.take_body() {
            call.respond(answer(body));
        }
        Ok(())
    }
}

fn answer(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = filled([
        (header::SERVER, "bench"),
        (header::DATE, "Sat, 21 Nov 2026 14:00:00 GMT"),
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_LENGTH, "0"),
    ]);
    response
}

/// Headers in a map with room for a few more, as clients and decoders make them.
fn filled<const N: usize>(fields: [(HeaderName, &'static str); N]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(N);
    headers.extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers
}

/// The result of a future that has nothing to wait for.
fn now_or_never<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn request(target: &Uri) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.uri_mut().clone_from(target);
    *request.headers_mut() = filled([
        (header::HOST, "shop.default:80"),
        (header::USER_AGENT, "bench/1"),
        (header::ACCEPT, "application/json"),
        (header::AUTHORIZATION, "Bearer 0123456789abcdef"),
        (HeaderName::from_static("x-request-id"), "6f7c4d34-43ef-4d0c-9a2a-1f6a1fcf8f77"),
    ]);
    request
}

fn listener() -> Listener {
    Listener::api(TARGET, HttpConnectionManager::new("shop", RouteSource::Rds(RouteConfigName::from("80"))))
}

fn cluster(endpoints: u32) -> Cluster {
    let addresses = (0..endpoints).map(|number| SocketAddr::from((Ipv4Addr::from(0x7f00_0001 + number), 80)));
    let mut cluster = Cluster::new("shop", Discovery::Static(addresses.collect()));
    cluster.lb_policy = LbPolicy::least_request();
    cluster.outlier_detection = Some(OutlierDetection::default());
    cluster
}

fn route_configuration(routes: u32, feature: Feature) -> RouteConfiguration {
    let retry_on = RetryOn::FIVE_XX.union(RetryOn::UNAVAILABLE);
    let retry_policy = Arc::new(RetryPolicy::new(retry_on).with_num_retries(2));
    let retry_policy = (feature != Feature::None).then_some(retry_policy);
    let header = HeaderMutation {
        name: HeaderName::from_static("x-mesh"),
        value: Format::parse("shop").expect("text without commands"),
        append_action: AppendAction::OverwriteIfExistsOrAdd,
        keep_empty_value: false,
    };
    let routes = (0..routes).map(|number| {
        let mut action = RouteAction::to_cluster("shop");
        action.retry_policy.clone_from(&retry_policy);
        let prefix = RouteMatch::path(PathMatcher::Prefix(format!("/service/{number}/").into()));
        let mut route = Route::new(prefix, action);
        if feature == Feature::RetriesAndHeader {
            route.request_headers.add.push(header.clone());
        }
        route
    });
    RouteConfiguration::new("80", vec![VirtualHost::new("shop", routes.collect())])
}
