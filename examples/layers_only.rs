//! The layers in an ordinary tower stack, without YAML, xDS and a control plane.
//!
//! A client sends a hundred requests to a service with two versions. The second version receives a quarter of them and
//! fails every other request. The client has a retry budget, a limit on active requests, and Istio's metrics. Run it with
//! `cargo run --example layers_only`.

#![expect(clippy::print_stdout, reason = "the output is what the example is for")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh::{
    Body, BoxError, ResponseFlags,
    layers::{
        BalanceLayer, CircuitBreakerLayer, ClusterHandle, IstioMetrics, MetricsLayer, OutlierLayer, PerEndpoint,
        Reporter, RetryLayer, RouteLayer, TimeoutLayer,
    },
    model::{
        Cluster, ClusterSpecifier, Discovery, PathMatcher, Percent, RetryBudget, RetryOn, RetryPolicy, Route,
        RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster, WeightedClusters,
    },
};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{Layer, ServiceExt, service_fn};

const REQUESTS: u32 = 100;
/// Two more than the limit of each version.
const AT_ONCE: usize = 12;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let clusters = [cluster("v1", serve("v1", 0).await?)?, cluster("v2", serve("v2", 2).await?)?];
    let metrics = IstioMetrics::default();
    let stack = (
        MetricsLayer::new(metrics.clone(), Reporter::Source),
        RouteLayer::new(routes(), clusters.clone())?,
        TimeoutLayer::from_route(),
        RetryLayer::from_route(),
        CircuitBreakerLayer::from_route(),
        BalanceLayer::from_route(),
        OutlierLayer::from_selected(),
    );
    let client = stack.layer(PerEndpoint::new(|endpoint| {
        let address = endpoint.address().socket();
        service_fn(move |request| send(address, request))
    }));

    let mut answers = BTreeMap::<String, u32>::new();
    let mut running = JoinSet::new();
    for number in 0..REQUESTS {
        if running.len() == AT_ONCE
            && let Some(answer) = running.join_next().await
        {
            *answers.entry(answer??).or_default() += 1;
        }
        let request = Request::get(format!("/items/{number}")).header("host", "shop").body(Body::empty())?;
        let answered = client.clone().oneshot(request);
        running.spawn(async move { describe(answered.await?).await });
    }
    while let Some(answer) = running.join_next().await {
        *answers.entry(answer??).or_default() += 1;
    }

    println!("answers:");
    answers.iter().for_each(|(answer, count)| println!("  {count:>3} x {answer}"));
    for cluster in &clusters {
        println!("cluster {}:", cluster.name());
        cluster.for_each_stat(&mut |name, _, value| {
            if value > 0 && SHOWN_STATS.contains(&name) {
                println!("  {name}: {value}");
            }
        });
    }
    println!("istio_requests_total:");
    let text = metrics.prometheus_text();
    for line in text.lines().filter(|line| line.starts_with("istio_requests_total{")) {
        let (labels, count) = line.rsplit_once(' ').ok_or("a sample without a value")?;
        let shown: Vec<&str> = labels.split(',').filter(|label| label.starts_with("response_")).collect();
        println!("  {} {count}", shown.join(" "));
    }
    Ok(())
}

const SHOWN_STATS: [&str; 5] = [
    "upstream_rq_total",
    "upstream_rq_retry",
    "upstream_rq_retry_success",
    "upstream_rq_retry_overflow",
    "upstream_rq_active_overflow",
];

/// Serves a version of the service on its own port. If `fails_every` is `n` and not 0, every n-th request fails.
async fn serve(version: &'static str, fails_every: u32) -> Result<SocketAddr, BoxError> {
    let answer = async move |State(requests): State<Arc<AtomicU32>>| {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        match number.checked_rem(fails_every) {
            Some(0) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Some(_) | None => (StatusCode::OK, version),
        }
    };
    let app = Router::new().route("/items/{number}", get(answer)).with_state(Arc::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// The cluster of a version, with a limit on active requests.
fn cluster(name: &str, address: SocketAddr) -> Result<ClusterHandle, BoxError> {
    let mut config = Cluster::new(name, Discovery::Static([address].into_iter().collect()));
    config.circuit_breakers.default.max_requests = 10;
    config.circuit_breakers.default.retry_budget = Some(RetryBudget::new(Percent::new(20)?, 3));
    Ok(ClusterHandle::new(config))
}

/// A route that splits requests three to one over the versions and retries failures twice.
fn routes() -> RouteConfiguration {
    let clusters = vec![WeightedCluster::new("v1", 75), WeightedCluster::new("v2", 25)];
    let policy = RetryPolicy::new(RetryOn::FIVE_XX).with_num_retries(2);
    let action = RouteAction::new(ClusterSpecifier::Weighted(WeightedClusters::new(clusters)))
        .with_timeout(Duration::from_secs(1))
        .with_retry_policy(policy);
    let items = RouteMatch::path(PathMatcher::Prefix("/items/".into()));
    let host = VirtualHost::new("shop", vec![Route::new(items, action)]);
    RouteConfiguration::new("shop", vec![host])
}

/// The innermost service, which sends a request to an address. This one opens a connection for each request.
async fn send(address: Option<SocketAddr>, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let stream = tokio::net::TcpStream::connect(address.ok_or("not an IP address")?).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(Body::from))
}

/// Status and body of a response, and the response flags if a layer gave it.
async fn describe<B>(response: Response<B>) -> Result<String, BoxError>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    let (parts, body) = response.into_parts();
    let text = body.collect().await.map_err(Into::into)?.to_bytes();
    let flags = parts.extensions.get::<ResponseFlags>().copied().unwrap_or_default();
    Ok(format!("{} {} (flags {flags})", parts.status.as_u16(), String::from_utf8_lossy(&text)))
}
