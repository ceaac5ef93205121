use std::{num::NonZeroU32, time::Duration};

use http::StatusCode;
use mesh_core::{
    filter::fault::{Abort, AbortStatus, Delay, Fault},
    model::FractionalPercent,
};
use tower_test::mock;

use crate::{
    filter::FilterLayer,
    layer::Layered,
    testing::{MockHandle, MockService, answer, get, is_ready, status_and_flags},
};

const DELAY: Duration = Duration::from_millis(400);

fn fault(delay: Option<Duration>, abort: Option<u16>) -> Fault {
    let percentage = FractionalPercent::ALWAYS;
    let status = |status| AbortStatus::Http(StatusCode::from_u16(status).unwrap());
    let mut fault = Fault::default();
    fault.delay = delay.map(|delay| Delay { fixed_delay: Some(delay), percentage });
    fault.abort = abort.map(|abort| Abort::new(status(abort), percentage));
    fault
}

fn spawn(fault: Fault) -> (mock::Spawn<Layered<FilterLayer, MockService>>, MockHandle) {
    mock::spawn_layer(FilterLayer::new(fault))
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_reaches_the_service_later() {
    let (mut service, mut handle) = spawn(fault(Some(DELAY), None));
    assert!(is_ready(&mut service));
    let start = tokio::time::Instant::now();
    let response = tokio::spawn(service.call(get("/")));
    let (_, send) = handle.next_request().await.unwrap();
    assert_eq!(start.elapsed(), DELAY);
    send.send_response(answer(200, "late"));
    assert_eq!(status_and_flags(&response.await.unwrap().unwrap()), (200, "DI".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_request_never_reaches_the_service() {
    let (mut service, mut handle) = spawn(fault(Some(DELAY), Some(418)));
    assert!(is_ready(&mut service));
    let start = tokio::time::Instant::now();
    let response = service.call(get("/")).await.unwrap();
    assert_eq!((status_and_flags(&response), start.elapsed()), ((418, "DI,FI".to_owned()), DELAY));
    assert!(handle.poll_request().is_pending());
}

#[tokio::test(start_paused = true)]
async fn requests_above_max_active_faults_have_no_faults() {
    let mut config = fault(Some(DELAY), Some(418));
    config.max_active_faults = NonZeroU32::new(1);
    let (mut service, mut handle) = spawn(config);
    assert!(is_ready(&mut service));
    let first = tokio::spawn(service.call(get("/1")));
    assert!(is_ready(&mut service));
    let second = tokio::spawn(service.call(get("/2")));
    let (request, send) = handle.next_request().await.unwrap();
    assert_eq!(request.uri(), "/2");
    send.send_response(answer(200, ""));
    assert_eq!(status_and_flags(&second.await.unwrap().unwrap()), (200, "-".to_owned()));
    assert_eq!(status_and_flags(&first.await.unwrap().unwrap()), (418, "DI,FI".to_owned()));
    assert!(is_ready(&mut service));
    assert_eq!(
        status_and_flags(&service.call(get("/3")).await.unwrap()),
        (418, "DI,FI".to_owned()),
        "the first fault has ended"
    );
}
