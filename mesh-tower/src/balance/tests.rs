use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Request, Response};
use http_body_util::BodyExt;
use mesh_core::{cluster::EndpointState, model::LbPolicy};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{
    Body,
    testing::{cluster, get, status_and_flags},
};

/// Responds with the port of the endpoint.
async fn port(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let selected = request.extensions().get::<SelectedEndpoint>().unwrap();
    Ok(Response::new(Body::from(selected.endpoint.address().port().to_string())))
}

#[tokio::test]
async fn an_endpoint_is_busy_until_its_response_has_ended() {
    fastrand::seed(1);
    let cluster = cluster("c", 2, |config| config.lb_policy = LbPolicy::least_request());
    let mut service = BalanceLayer::new(cluster.clone()).layer(service_fn(port));
    let active = || cluster.endpoints().endpoints().iter().map(|one| one.active_requests()).collect::<Vec<_>>();
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(ServiceExt::<Request<Body>>::ready(&mut service).await.unwrap().call(get("/")).await.unwrap());
    }
    assert_eq!(active().iter().sum::<u64>(), 20);
    assert!(active().iter().all(|&active| (8..=12).contains(&active)), "{:?}", active());
    for response in held {
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(active(), [0, 0]);
    assert_eq!(cluster.stats().upstream_rq_total.get(), 20);
}

#[tokio::test]
async fn without_an_endpoint_the_answer_says_so() {
    let service = BalanceLayer::new(cluster("c", 0, |_| {})).layer(service_fn(port));
    assert_eq!(status_and_flags(&service.oneshot(get("/")).await.unwrap()), (503, "UH".to_owned()));
    let service = BalanceLayer::from_route().layer(service_fn(port));
    assert_eq!(status_and_flags(&service.oneshot(get("/")).await.unwrap()), (503, "NC".to_owned()));
}

#[tokio::test]
async fn every_endpoint_keeps_one_service_per_maker() {
    let cluster = cluster("c", 3, |_| {});
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let services = PerEndpoint::new(move |endpoint: &EndpointState| {
        counted.fetch_add(1, Ordering::Relaxed);
        let port = endpoint.address().port();
        let answer = move || Ok::<_, Infallible>(Response::new(Body::from(port.to_string())));
        service_fn(move |_: Request<Body>| std::future::ready(answer()))
    });
    let mut service = BalanceLayer::new(cluster.clone()).layer(services.clone());
    let mut ports = Vec::new();
    for _ in 0..9 {
        let response = ServiceExt::<Request<Body>>::ready(&mut service).await.unwrap().call(get("/")).await.unwrap();
        ports.push(response.into_body().collect().await.unwrap().to_bytes());
    }
    ports.sort();
    assert_eq!(ports, ["1", "1", "1", "2", "2", "2", "3", "3", "3"]);
    assert_eq!(made.load(Ordering::Relaxed), 3);
}
