use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use http_body_util::BodyExt;
use mesh_core::model::Thresholds;
use tower_test::mock;

use super::*;
use crate::layer::Layered;
use crate::testing::{MockHandle, MockService, answer, cluster, get, is_ready, stat, status_and_flags};

fn one() -> Thresholds {
    let mut thresholds = Thresholds::default();
    thresholds.max_requests = 1;
    thresholds
}

#[tokio::test]
async fn a_place_is_taken_until_the_response_body_ends() {
    let cluster = cluster("c", 1, |config| config.circuit_breakers.default = one());
    let layer = CircuitBreakerLayer::with_cluster(cluster.clone());
    let (mut service, mut handle): (mock::Spawn<Layered<CircuitBreakerLayer, MockService>>, MockHandle) =
        mock::spawn_layer(layer);
    assert!(is_ready(&mut service));
    let first = tokio::spawn(service.call(get("/1")));
    let (_, send) = handle.next_request().await.unwrap();
    send.send_response(answer(200, "text"));
    let first = first.await.unwrap().unwrap();
    assert!(is_ready(&mut service));
    let refused = service.call(get("/2")).await.unwrap();
    assert_eq!(status_and_flags(&refused), (503, "UO".to_owned()));
    assert_eq!(refused.headers()["x-envoy-overloaded"], "true");
    assert_eq!(stat(&cluster, "upstream_rq_active_overflow"), 1);

    first.into_body().collect().await.unwrap();
    assert_eq!(stat(&cluster, "upstream_rq_active"), 0);
    let third = tokio::spawn(service.call(get("/3")));
    let (request, send) = handle.next_request().await.unwrap();
    assert_eq!(request.uri(), "/3");
    drop(third);
    drop(send);
}

#[tokio::test]
async fn a_request_given_up_gives_its_place_back() {
    let (mut service, mut handle): (mock::Spawn<Layered<CircuitBreakerLayer, MockService>>, MockHandle) =
        mock::spawn_layer(CircuitBreakerLayer::new(one()));
    handle.allow(3);
    assert!(is_ready(&mut service));
    drop(polled(service.call(get("/1"))).await);
    assert!(is_ready(&mut service));
    let _held = polled(service.call(get("/2"))).await;
    assert!(is_ready(&mut service));
    assert_eq!(status_and_flags(&service.call(get("/3")).await.unwrap()), (503, "UO".to_owned()));
}

/// A future that has been polled.
async fn polled<F: Future + Unpin>(mut future: F) -> F {
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx).is_pending())).await);
    future
}
