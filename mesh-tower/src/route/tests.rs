use std::{convert::Infallible, sync::Arc};

use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt;
use mesh_core::model::{
    Action, ClusterSpecifier, DirectResponse, PathMatcher, PathRedirect, Redirect, RouteAction, RouteConfiguration,
    RouteMatch, VirtualHost, WeightedCluster, WeightedClusters,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{
    Body,
    layer::HttpService,
    testing::{cluster, get, status_and_flags},
};

fn route(prefix: &str, action: Action) -> mesh_core::model::Route {
    mesh_core::model::Route::new(RouteMatch::path(PathMatcher::Prefix(prefix.into())), action)
}

fn split() -> Action {
    let clusters = vec![WeightedCluster::new("v1", 90), WeightedCluster::new("v2", 10)];
    let mut split = WeightedClusters::new(clusters);
    split.header_name = Some(HeaderName::from_static("x-draw"));
    RouteAction::new(ClusterSpecifier::Weighted(split)).into()
}

fn config() -> Arc<RouteConfiguration> {
    let mut redirect = Redirect::default();
    redirect.path = PathRedirect::Path("/new".into());
    let text = DirectResponse::new(StatusCode::IM_A_TEAPOT, "short and stout");
    let mut host = VirtualHost::new(
        "shop",
        vec![
            route("/split", split()),
            route("/moved", Action::Redirect(Box::new(redirect))),
            route("/pot", Action::DirectResponse(text)),
            route("/lost", Action::Route(Box::new(RouteAction::to_cluster("nowhere")))),
        ],
    );
    host.domains = vec!["shop.test".into()];
    Arc::new(RouteConfiguration::new("80", vec![host]))
}

/// Services that answer with the name of their cluster, and whether that cluster is known.
fn named(
    name: &'static str,
) -> impl HttpService<Error = Infallible> + Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
{
    service_fn(move |request: Request<Body>| {
        let matched = RouteMatched::of(request.extensions()).unwrap();
        let known = matched.cluster().map(|cluster| cluster.config().name.to_string());
        let text = format!("{name} {known:?} {:?}", matched.weighted());
        std::future::ready(Ok(Response::new(Body::from(text))))
    })
}

async fn ask(request: Request<Body>) -> (Response<()>, String) {
    let services: PerCluster<_> =
        [("v1", "v1"), ("v2", "v2")].map(|(name, text)| (name, named(text))).into_iter().collect();
    let layer = RouteLayer::new(config(), [cluster("v2", 1, |_| {}).into()]).unwrap();
    let (parts, body) = layer.layer(services).oneshot(request).await.unwrap().into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn a_split_leads_to_the_service_of_the_chosen_cluster() {
    for (draw, expected) in [(0, "v1 None Some(0)"), (89, "v1 None Some(0)"), (90, "v2 Some(\"v2\") Some(1)")] {
        let mut request = get("/split/a");
        request.headers_mut().insert("x-draw", draw.into());
        assert_eq!(ask(request).await.1, expected, "{draw}");
    }
}

#[tokio::test]
async fn requests_without_a_cluster_get_a_local_reply() {
    let (moved, _) = ask(get("/moved")).await;
    assert_eq!((moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()), (301, "http://shop.test/new"));
    let (pot, text) = ask(get("/pot")).await;
    assert_eq!((status_and_flags(&pot), text.as_str()), ((418, "-".to_owned()), "short and stout"));
    assert_eq!(status_and_flags(&ask(get("/other")).await.0), (404, "NR".to_owned()));
    assert_eq!(status_and_flags(&ask(get("/lost")).await.0), (503, "NC".to_owned()));
    let mut grpc = get("/other");
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (grpc, _) = ask(grpc).await;
    assert_eq!((grpc.status().as_u16(), grpc.headers()["grpc-status"].to_str().unwrap()), (200, "12"));
}

#[tokio::test]
async fn routes_of_a_store_are_those_of_the_moment() {
    let store = Arc::new(mesh_core::store::Store::new());
    let layer = RouteLayer::from_store(Arc::clone(&store), store.route_slot(&"80".into()));
    let router = layer.layer(named("any"));
    assert_eq!(status_and_flags(&router.clone().oneshot(get("/split")).await.unwrap()), (404, "NR".to_owned()));
    store.set_routes(&config()).unwrap();
    assert_eq!(status_and_flags(&router.oneshot(get("/split")).await.unwrap()), (200, "-".to_owned()));
}
