use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use mesh_core::{
    cluster::ClusterState,
    model::{Percent, RetryBudget, RetryOn, RetryPolicy},
    retry::ResetReason,
};
use tokio::task::JoinHandle;
use tower::Layer;
use tower_test::mock::{self, SendResponse};

use super::*;
use crate::{
    Body, BoxError, TransportError,
    balance::{BalanceLayer, SelectedEndpoint},
    circuit_breaker::CircuitBreakerLayer,
    layer::Layered,
    testing::{MockHandle, MockService, answer, cluster, get, is_ready, stat, status_and_flags},
};

fn policy(num_retries: u32) -> RetryPolicy {
    RetryPolicy::new(RetryOn::FIVE_XX).with_num_retries(num_retries)
}

fn budget(budget_percent: u32, min_retry_concurrency: u32) -> RetryBudget {
    RetryBudget::new(Percent::new(budget_percent).unwrap(), min_retry_concurrency)
}

/// A service under test, and its mock.
struct Fixture {
    service: mock::Spawn<Layered<RetryLayer, MockService>>,
    handle: MockHandle,
}

type Answered = JoinHandle<Result<Response<Body>, BoxError>>;

impl Fixture {
    fn new(layer: RetryLayer) -> Self {
        let (service, handle) = mock::spawn_layer(layer);
        Self { service, handle }
    }

    fn call(&mut self, request: Request<Body>) -> Answered {
        assert!(is_ready(&mut self.service));
        tokio::spawn(self.service.call(request))
    }

    async fn next(&mut self) -> (Request<Body>, SendResponse<Response<Body>>) {
        self.handle.next_request().await.expect("another try")
    }
}

async fn text(request: Request<Body>) -> String {
    String::from_utf8(request.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_failed_try_is_repeated_with_its_whole_body_after_a_while() {
    let mut fixture = Fixture::new(RetryLayer::new(policy(2), budget(20, 3)));
    let body = Pieces(vec!["world", "hello "]);
    let response = fixture.call(Request::post("/").body(Body::new(body)).unwrap());
    let start = tokio::time::Instant::now();
    for end in [Ok(503), Err(ResetReason::RemoteReset)] {
        let (request, send) = fixture.next().await;
        assert_eq!(text(request).await, "hello world");
        match end {
            Ok(status) => send.send_response(answer(status, "")),
            Err(reason) => send.send_error(TransportError::new(reason)),
        }
    }
    let (request, send) = fixture.next().await;
    assert_eq!(text(request).await, "hello world");
    send.send_response(answer(200, ""));
    assert_eq!(status_and_flags(&response.await.unwrap().unwrap()), (200, "-".to_owned()));
    assert!(start.elapsed() < Duration::from_millis(25 + 75), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_stands_when_retries_are_used_up_or_do_not_help() {
    let mut fixture = Fixture::new(RetryLayer::new(policy(1), budget(20, 3)));
    let response = fixture.call(get("/"));
    for _ in 0..2 {
        fixture.next().await.1.send_response(answer(500, ""));
    }
    assert_eq!(status_and_flags(&response.await.unwrap().unwrap()), (500, "URX".to_owned()));
    let response = fixture.call(get("/"));
    fixture.next().await.1.send_response(answer(404, ""));
    assert_eq!(status_and_flags(&response.await.unwrap().unwrap()), (404, "-".to_owned()));
    let response = fixture.call(get("/"));
    for text in ["first", "last"] {
        fixture.next().await.1.send_error(text);
    }
    assert_eq!(response.await.unwrap().unwrap_err().to_string(), "last");
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_a_share_of_the_requests() {
    let mut fixture = Fixture::new(RetryLayer::new(policy(1), budget(50, 1)));
    let mut pending = Vec::new();
    for _ in 0..4 {
        let answered = fixture.call(get("/"));
        pending.push((answered, fixture.next().await.1));
    }
    let mut flags = Vec::new();
    let mut answers = Vec::new();
    for (answered, send) in pending {
        send.send_response(answer(503, ""));
        answers.push(answered);
        tokio::task::yield_now().await;
    }
    // Half of four requests may be retries, so two are retried.
    for _ in 0..2 {
        fixture.next().await.1.send_response(answer(200, ""));
    }
    for answered in answers {
        flags.push(status_and_flags(&answered.await.unwrap().unwrap()));
    }
    let overflowed = (503, "UO".to_owned());
    assert_eq!(flags.iter().filter(|flag| **flag == overflowed).count(), 2, "{flags:?}");
}

#[tokio::test(start_paused = true)]
async fn a_try_out_of_time_is_given_up_and_repeated() {
    let policy = policy(1).with_per_try_timeout(Duration::from_millis(200));
    let mut fixture = Fixture::new(RetryLayer::new(policy, budget(20, 3)));
    let response = fixture.call(get("/"));
    let _first = fixture.next().await;
    let _second = fixture.next().await;
    assert_eq!(status_and_flags(&response.await.unwrap().unwrap()), (504, "URX,UT".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_buffer_is_not_sent_again() {
    let layer = RetryLayer::new(policy(1), budget(20, 3)).retry_buffer_bytes(5);
    let mut fixture = Fixture::new(layer);
    let body = Pieces(vec!["world", "hello "]);
    let response = fixture.call(Request::post("/").body(Body::new(body)).unwrap());
    let (request, send) = fixture.next().await;
    assert_eq!(text(request).await, "hello world");
    send.send_response(answer(503, ""));
    assert_eq!(status_and_flags(&response.await.unwrap().unwrap()), (503, "-".to_owned()));
}

/// A circuit breaker around a balancer.
type Limited = Layered<CircuitBreakerLayer, Layered<BalanceLayer, MockService>>;

/// Retries around a circuit breaker around a balancer.
fn with_cluster(cluster: &Arc<ClusterState>, policy: RetryPolicy) -> (Layered<RetryLayer, Limited>, MockHandle) {
    let (service, handle) = mock::pair();
    let balanced = BalanceLayer::new(Arc::clone(cluster)).layer(service);
    let limited = CircuitBreakerLayer::with_cluster(Arc::clone(cluster)).layer(balanced);
    (RetryLayer::with_cluster(policy, Arc::clone(cluster)).layer(limited), handle)
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_another_endpoint() {
    let cluster = cluster("c", 2, |_| {});
    let mut policy = policy(1);
    policy.previous_hosts = true;
    policy.host_selection_retry_max_attempts = 5;
    for _ in 0..8 {
        let (service, mut handle) = with_cluster(&cluster, policy.clone());
        let answered = tokio::spawn(tower::ServiceExt::oneshot(service, get("/")));
        let mut ports = Vec::new();
        for status in [503, 200] {
            let (request, send) = handle.next_request().await.unwrap();
            ports.push(request.extensions().get::<SelectedEndpoint>().unwrap().endpoint.address().port());
            send.send_response(answer(status, ""));
        }
        assert_eq!(answered.await.unwrap().unwrap().status(), 200);
        ports.sort_unstable();
        assert_eq!(ports, [1, 2]);
    }
    assert_eq!(stat(&cluster, "upstream_rq_retry_success"), 8);
}

#[tokio::test(start_paused = true)]
async fn an_overflow_is_not_retried() {
    let cluster = cluster("c", 1, |config| {
        config.circuit_breakers.default.max_requests = 0;
    });
    let (service, _handle) = with_cluster(&cluster, policy(3));
    let response = tower::ServiceExt::oneshot(service, get("/")).await.unwrap();
    assert_eq!(status_and_flags(&response), (503, "UO".to_owned()));
    assert_eq!(stat(&cluster, "upstream_rq_retry"), 0);
}

/// A streamed body, with its frames in reverse order.
struct Pieces(Vec<&'static str>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}
