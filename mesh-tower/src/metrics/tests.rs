use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use mesh_core::local_reply::{LocalReply, UpstreamReset};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{Body, BoxError, call::local_reply};

fn layer(metrics: &IstioMetrics) -> MetricsLayer {
    MetricsLayer::new(metrics.clone(), Reporter::Destination)
        .source(Workload::new("caller", ""))
        .service(DestinationService { host: "shop.default".into(), name: "shop".into(), namespace: "default".into() })
}

fn requests(metrics: &IstioMetrics) -> Vec<String> {
    let text = metrics.prometheus_text();
    text.lines().filter(|line| line.starts_with("istio_requests_total{")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_request_is_counted_when_its_response_has_been_read() {
    let metrics = IstioMetrics::default();
    let service = service_fn(|_: Request<Body>| async {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("14"))]);
        let body = Full::new(Bytes::from("hello")).with_trailers(std::future::ready(Some(Ok(trailers))));
        Ok::<_, BoxError>(Response::new(Body::new(body)))
    });
    let mut request = Request::new(Body::from("12345"));
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let response = layer(&metrics).layer(service).oneshot(request).await.unwrap();
    assert_eq!(requests(&metrics), [""; 0]);
    response.into_body().collect().await.unwrap();
    let [line] = requests(&metrics).try_into().unwrap();
    for part in [
        "reporter=\"destination\",source_workload=\"caller\"",
        "destination_service=\"shop.default\"",
        "request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"14\",response_flags=\"-\"",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let text = metrics.prometheus_text();
    let sum = text.lines().find(|line| line.starts_with("istio_request_bytes_sum")).unwrap();
    assert!(sum.ends_with(&format!(" {}", "content-type: application/grpc\r\n".len() + 5)), "{sum}");
}

#[tokio::test]
async fn a_response_that_is_dropped_half_way_has_a_flag() {
    let metrics = IstioMetrics::default();
    let service = service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(Response::builder().status(StatusCode::NOT_FOUND).body(Body::from("unread")).unwrap())
    });
    let response = layer(&metrics).layer(service).oneshot(Request::new(Body::empty())).await.unwrap();
    drop(response);
    let never = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
    drop(layer(&metrics).layer(never).oneshot(Request::new(Body::empty())));
    let empty = service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) });
    drop(layer(&metrics).layer(empty).oneshot(Request::new(Body::empty())).await.unwrap());
    let overflow = LocalReply::upstream_reset(UpstreamReset::Overflow, "", false);
    let refusing = service_fn(move |_: Request<Body>| {
        std::future::ready(Ok::<_, BoxError>(local_reply::<Body>(overflow.clone(), false)))
    });
    let refused = layer(&metrics).layer(refusing).oneshot(Request::new(Body::empty())).await.unwrap();
    refused.into_body().collect().await.unwrap();
    let lines = requests(&metrics);
    for part in [
        "\"503\",grpc_response_status=\"\",response_flags=\"UO\"",
        "\"404\",grpc_response_status=\"\",response_flags=\"DC\"",
        "\"200\",grpc_response_status=\"\",response_flags=\"-\"",
    ] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part} in {lines:?}");
    }
}
