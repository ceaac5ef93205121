use std::time::Duration;

use http_body_util::BodyExt;
use tower_test::mock;

use super::*;
use crate::{
    Body,
    layer::Layered,
    testing::{MockHandle, MockService, answer, get, is_ready, status_and_flags},
};

const TIMEOUT: Duration = Duration::from_millis(300);

fn spawn(timeout: Duration) -> (mock::Spawn<Layered<TimeoutLayer, MockService>>, MockHandle) {
    mock::spawn_layer(TimeoutLayer::new(timeout))
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_answer_in_time_is_answered_for() {
    let (mut service, mut handle) = spawn(TIMEOUT);
    assert!(is_ready(&mut service));
    let start = tokio::time::Instant::now();
    let response = tokio::spawn(service.call(get("/")));
    let _unanswered = handle.next_request().await.unwrap();
    let response = response.await.unwrap().unwrap();
    assert_eq!((status_and_flags(&response), start.elapsed()), ((504, "UT".to_owned()), TIMEOUT));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "upstream request timeout");
}

#[tokio::test(start_paused = true)]
async fn a_response_is_cut_off_when_its_time_is_up() {
    for (timeout, is_cut) in [(TIMEOUT, true), (Duration::ZERO, false)] {
        let (mut service, mut handle) = spawn(timeout);
        assert!(is_ready(&mut service));
        let response = tokio::spawn(service.call(get("/")));
        let (_, send) = handle.next_request().await.unwrap();
        let (body, end) = endless();
        send.send_response(answer(200, body));
        let mut body = response.await.unwrap().unwrap().into_body();
        let waited = tokio::time::timeout(10 * TIMEOUT, body.frame()).await;
        assert_eq!(waited.is_ok(), is_cut, "{timeout:?}");
        if let Ok(frame) = waited {
            let error = frame.unwrap().unwrap_err();
            assert_eq!(error.to_string(), "upstream request timeout after the response began");
        }
        drop(end);
    }
}

/// A body that does not end while the sender exists.
fn endless() -> (Body, tokio::sync::oneshot::Sender<()>) {
    let (end, ended) = tokio::sync::oneshot::channel();
    let trailers = async move {
        let _ = ended.await;
        None::<Result<http::HeaderMap, std::convert::Infallible>>
    };
    (Body::new(http_body_util::Empty::<bytes::Bytes>::new().with_trailers(Box::pin(trailers))), end)
}
