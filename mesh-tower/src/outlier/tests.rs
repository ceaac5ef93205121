use std::{sync::Arc, time::Duration};

use http::Response;
use mesh_core::{
    cluster::ClusterState,
    model::{OutlierDetection, Percent},
};
use tower::Layer;
use tower_test::mock;

use super::*;
use crate::{
    Body, BoxError,
    balance::BalanceLayer,
    call::local_reply,
    layer::Layered,
    testing::{MockHandle, MockService, answer, cluster, get, is_ready},
    timeout::TimeoutLayer,
};

/// A cluster whose only endpoint is ejected after two consecutive failures.
fn strict() -> Arc<ClusterState> {
    cluster("c", 1, |config| {
        config.healthy_panic_threshold = Percent::new(0).unwrap();
        let detection = config.outlier_detection.insert(OutlierDetection::default());
        detection.consecutive_5xx = 2;
        detection.max_ejection_percent = Percent::HUNDRED;
    })
}

fn errors(cluster: &ClusterState) -> (u64, u64, bool) {
    let set = cluster.endpoints();
    let stats = set.endpoints()[0].stats();
    (stats.rq_error.get(), stats.rq_timeout.get(), set.endpoints()[0].is_ejected())
}

async fn end_with(cluster: &Arc<ClusterState>, result: Result<Response<Body>, BoxError>) {
    let endpoint = Arc::clone(&cluster.endpoints().endpoints()[0]);
    let (mut service, mut handle): (mock::Spawn<Layered<OutlierLayer, MockService>>, MockHandle) =
        mock::spawn_layer(OutlierLayer::new(Arc::clone(cluster), endpoint));
    assert!(is_ready(&mut service));
    let response = tokio::spawn(service.call(get("/")));
    let (_, send) = handle.next_request().await.unwrap();
    match result {
        Ok(response) => send.send_response(response),
        Err(error) => send.send_error(error),
    }
    let _ = response.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_the_endpoint_for_a_while() {
    let cluster = strict();
    end_with(&cluster, Err("connection lost".into())).await;
    end_with(&cluster, Ok(answer(200, ""))).await;
    end_with(&cluster, Ok(answer(503, ""))).await;
    assert_eq!(errors(&cluster), (2, 0, false));
    end_with(&cluster, Ok(answer(500, ""))).await;
    assert_eq!(errors(&cluster), (3, 0, true));
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!(errors(&cluster), (3, 0, false));
}

#[tokio::test(start_paused = true)]
async fn local_replies_of_other_layers_do_not_count_for_the_endpoint() {
    let cluster = strict();
    for _ in 0..3 {
        end_with(&cluster, Ok(local_reply(mesh_core::local_reply::LocalReply::NO_HEALTHY_UPSTREAM, false))).await;
    }
    assert_eq!(errors(&cluster), (0, 0, false));
}

#[tokio::test(start_paused = true)]
async fn a_request_out_of_time_counts_and_one_given_up_does_not() {
    let cluster = strict();
    let (mut service, mut handle) = mock::spawn_with(|inner: MockService| {
        let inner = OutlierLayer::from_selected().layer(inner);
        TimeoutLayer::new(Duration::from_secs(1)).layer(BalanceLayer::new(Arc::clone(&cluster)).layer(inner))
    });
    handle.allow(2);
    assert!(is_ready(&mut service));
    let given_up = tokio::spawn(service.call(get("/")));
    let _unanswered = handle.next_request().await.unwrap();
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    assert_eq!(errors(&cluster), (0, 0, false));
    assert!(is_ready(&mut service));
    assert_eq!(service.call(get("/")).await.unwrap().status(), 504);
    assert_eq!(errors(&cluster), (1, 1, false));
}
