use std::convert::Infallible;

use http::{HeaderName, Request, Response};
use mesh_core::{
    filter::{
        FilterOverride, HttpFilter,
        header_mutation::{HeaderMutation, Mutation, Mutations},
    },
    model::format::Format,
    model::{
        Action, AppendAction, HeaderMutation as Append, PathMatcher, Route, RouteAction, RouteConfiguration,
        RouteMatch, VirtualHost,
    },
};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{
    Body,
    filter::FilterLayer,
    route::{RouteLayer, RouteMatched},
    testing::get,
};

fn append(name: &'static str, value: &str) -> Mutation {
    Mutation::Append(Append {
        name: HeaderName::from_static(name),
        value: Format::parse(value).unwrap(),
        append_action: AppendAction::AppendIfExistsOrAdd,
        keep_empty_value: false,
    })
}

/// Answers with the request's headers.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().clone_from(request.headers());
    let has_route = RouteMatched::of(request.extensions()).is_some();
    response.headers_mut().insert("has-route", has_route.to_string().parse().unwrap());
    Ok(response)
}

fn lines(response: &Response<Body>, name: &str) -> Vec<String> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn values_read_the_request_and_the_response() {
    let mutations = Mutations::new(
        vec![
            append("x-to", "%REQ(:METHOD)% %REQ(host)%%REQ(:PATH)%"),
            append("x-to", "%REQ(x-to)% again"),
            Mutation::Remove(HeaderName::from_static("x-remove")),
        ],
        vec![append("x-back", "%RESPONSE_CODE% %REQ(:PATH)% %RESP(has-route)%")],
    );
    let layer = FilterLayer::new(HeaderMutation::new(mutations));
    let mut request = get("/a?b");
    request.headers_mut().insert("x-remove", "1".parse().unwrap());
    let response = layer.layer(service_fn(echo)).oneshot(request).await.unwrap();
    assert_eq!(lines(&response, "x-to"), ["GET shop.test/a?b", "GET shop.test/a?b again"]);
    assert_eq!(lines(&response, "x-back"), ["200 /a?b false"]);
    assert_eq!(lines(&response, "x-remove"), [""; 0]);
}

#[tokio::test]
async fn filters_of_one_kind_are_distinguished_by_their_names() {
    let mutations = |value: &str| {
        Mutations::new(vec![append("x-level", value)], vec![append("x-level", &format!("back {value} %ROUTE_NAME%"))])
    };
    let to_cluster = Action::Route(Box::new(RouteAction::to_cluster("c")));
    let mut route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), to_cluster);
    route.name = "first".into();
    let per_route = std::sync::Arc::new(mutations("route of b")).into();
    route.typed_per_filter_config.insert("b", FilterOverride::Config(per_route));
    route.typed_per_filter_config.insert("c", FilterOverride::Disabled);
    let routes = RouteLayer::new(RouteConfiguration::new("r", vec![VirtualHost::new("host", vec![route])]), []);
    let filter = |name: &str| {
        let config = HeaderMutation::new(mutations(name));
        FilterLayer::from(HttpFilter::new(config).with_name(name))
    };
    let service = filter("a").layer(filter("b").layer(filter("c").layer(service_fn(echo))));
    let response = routes.unwrap().layer(service).oneshot(get("/")).await.unwrap();
    assert_eq!(
        lines(&response, "x-level"),
        ["a", "b", "route of b", "back b first", "back route of b first", "back a first"]
    );
    assert_eq!(lines(&response, "has-route"), ["true"], "extensions reach the service");
}
