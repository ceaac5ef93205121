use std::convert::Infallible;

use http::{HeaderValue, Method, Request, Response};
use mesh_core::{
    filter::{
        Filter as _, FilterOverride,
        cors::{Cors, CorsPolicy},
    },
    model::{Action, PathMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, StringMatcher, VirtualHost},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{Body, filter::FilterLayer, route::RouteLayer, testing::status_and_flags};

const ORIGIN: &str = "https://good.test";

/// A policy for everything.
fn routes() -> RouteLayer {
    let to_cluster = Action::Route(Box::new(RouteAction::to_cluster("c")));
    let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), to_cluster);
    let mut host = VirtualHost::new("host", vec![route]);
    let mut policy = CorsPolicy::default();
    policy.allow_origin_string_match = vec![StringMatcher::exact(ORIGIN)];
    policy.allow_methods = Some(HeaderValue::from_static("GET"));
    policy.expose_headers = Some(HeaderValue::from_static("x-e"));
    host.typed_per_filter_config.insert(Cors::NAME, FilterOverride::Config(std::sync::Arc::new(policy).into()));
    RouteLayer::new(RouteConfiguration::new("r", vec![host]), []).unwrap()
}

/// Sends a request with this origin; a service answers with its method.
async fn send(method: Method, path: &str, origin: &str) -> Response<Body> {
    let service = service_fn(|request: Request<Body>| async move {
        let method = HeaderValue::from_str(request.method().as_str()).unwrap();
        Ok::<_, Infallible>(Response::builder().header("x-served", method).body(Body::empty()).unwrap())
    });
    let request = Request::builder().method(method).uri(path).header("host", "a").header("origin", origin);
    let request = request.header("access-control-request-method", "GET").body(Body::empty()).unwrap();
    routes().layer(FilterLayer::new(Cors).layer(service)).oneshot(request).await.unwrap()
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> &'r str {
    response.headers().get(name).map_or("-", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_preflight_request_is_answered_by_the_filter() {
    let response = send(Method::OPTIONS, "/", ORIGIN).await;
    assert_eq!((status_and_flags(&response), header(&response, "x-served")), ((200, "-".to_owned()), "-"));
    let names = ["access-control-allow-origin", "access-control-allow-methods", "access-control-expose-headers"];
    assert_eq!(names.map(|name| header(&response, name)), [ORIGIN, "GET", "x-e"]);
}

#[tokio::test]
async fn a_response_is_changed_if_the_origin_is_allowed() {
    let response = send(Method::GET, "/", ORIGIN).await;
    let names = ["x-served", "access-control-allow-origin", "access-control-allow-methods"];
    assert_eq!(names.map(|name| header(&response, name)), ["GET", ORIGIN, "-"]);
    let response = send(Method::OPTIONS, "/", "https://evil.test").await;
    assert_eq!(names.map(|name| header(&response, name)), ["OPTIONS", "-", "-"]);
}
