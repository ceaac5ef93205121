use std::convert::Infallible;

use http::{HeaderName, Request, Response};
use mesh_core::model::{
    Action, AppendAction, HeaderMutation, HeaderMutations, PathMatcher, Route, RouteAction, RouteConfiguration,
    RouteMatch, VirtualHost, format::Format,
};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{Body, route::RouteLayer, testing::get};

fn append(name: &'static str, value: &str) -> HeaderMutations {
    let mutation = HeaderMutation {
        name: HeaderName::from_static(name),
        value: Format::parse(value).unwrap(),
        append_action: AppendAction::AppendIfExistsOrAdd,
        keep_empty_value: false,
    };
    HeaderMutations { add: vec![mutation], remove: vec![HeaderName::from_static("x-remove")] }
}

/// Answers with the request's headers.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().clone_from(request.headers());
    Ok(response)
}

fn lines(response: &Response<Body>, name: &str) -> Vec<String> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn values_may_read_the_request_and_the_response() {
    let layer = HeadersLayer::new()
        .request(append("x-to", "%REQ(:METHOD)% %REQ(host)%%REQ(:PATH)%"))
        .response(append("x-back", "%RESPONSE_CODE% %REQ(:PATH)% %RESP(x-to)%"));
    let mut request = get("/a?b");
    request.headers_mut().insert("x-remove", "1".parse().unwrap());
    let response = layer.layer(service_fn(echo)).oneshot(request).await.unwrap();
    assert_eq!(lines(&response, "x-to"), ["GET shop.test/a?b"]);
    assert_eq!(lines(&response, "x-back"), ["200 /a?b GET shop.test/a?b"]);
    assert_eq!(lines(&response, "x-remove"), [""; 0]);
}

#[tokio::test]
async fn the_changes_of_the_route_come_before_those_of_the_layer() {
    let to_cluster = Action::Route(Box::new(RouteAction::to_cluster("c")));
    let mut route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), to_cluster);
    route.name = "first".into();
    route.request_headers = append("x-level", "route");
    route.response_headers = append("x-level", "back %ROUTE_NAME%");
    let config = RouteConfiguration::new("80", vec![VirtualHost::new("host", vec![route])]);
    let routes = RouteLayer::new(config, []).unwrap();
    let headers = HeadersLayer::new().request(append("x-level", "layer")).response(append("x-level", "back layer"));
    let response = routes.layer(headers.layer(service_fn(echo))).oneshot(get("/")).await.unwrap();
    assert_eq!(lines(&response, "x-level"), ["route", "layer", "back first", "back layer"]);
}
