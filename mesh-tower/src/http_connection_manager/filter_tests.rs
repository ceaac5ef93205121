//! Filters in the pipeline of a listener: their order, their overrides, and local replies.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response, StatusCode};
use mesh_core::{
    filter::{
        Filter as _, FilterOverride, HttpFilter,
        cors::{Cors, CorsPolicy},
        fault::{Abort, AbortStatus, Fault},
        header_mutation::{HeaderMutation, Mutation, Mutations},
        jwt_authn::{Jwks, JwksSource, JwtAuthn, PerRoute, Provider, Requirement, Rule, RuleMatch},
    },
    model::format::Format,
    model::{
        AccessLog, AccessLogFormat, AccessLogSink, Action, AppendAction, DirectResponse, FractionalPercent,
        HeaderMutation as Append, HttpConnectionManager, PathMatcher, Route, RouteAction, StringMatcher,
    },
};

use super::tests::{Fixture, echo, everything_to_the_service, http, route, service};
use crate::Body;

const ORIGIN: &str = "https://good.test";

fn append(name: &'static str, value: &str) -> Mutation {
    Mutation::Append(Append {
        name: HeaderName::from_static(name),
        value: Format::parse(value).unwrap(),
        append_action: AppendAction::AppendIfExistsOrAdd,
        keep_empty_value: false,
    })
}

fn on_response(value: &str) -> Mutations {
    Mutations::new(vec![], vec![append("x-passed", value)])
}

/// A filter that writes its name into responses.
fn marker(name: &str) -> HttpFilter {
    let config = HeaderMutation::new(on_response(name));
    HttpFilter::new(config).with_name(name)
}

fn teapot() -> Fault {
    let status = AbortStatus::Http(StatusCode::IM_A_TEAPOT);
    Fault::default().with_abort(Abort::new(status, FractionalPercent::ALWAYS))
}

fn prefix(path: &str, action: Action) -> Route {
    route(PathMatcher::Prefix(path.into()), action)
}

fn to_cluster() -> Action {
    Action::Route(Box::new(RouteAction::to_cluster("c")))
}

fn direct() -> Action {
    Action::DirectResponse(DirectResponse::new(StatusCode::OK, "d"))
}

fn manager(routes: Vec<Route>, filters: Vec<HttpFilter>) -> HttpConnectionManager {
    let mut config = http(routes);
    config.http_filters = filters;
    config
}

/// The status and the values of `x-passed`.
async fn passed(fixture: &Fixture, path: &str) -> (String, Vec<String>) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
    let response = fixture.exchange(&request).await;
    let status = response.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, response.split(" | ").filter_map(|line| line.strip_prefix("x-passed: ")).map(str::to_owned).collect())
}

#[tokio::test]
async fn every_response_passes_all_filters() {
    let mut abort = prefix("/abort", to_cluster());
    let teapot = Arc::new(teapot()).into();
    abort.typed_per_filter_config.insert(Fault::NAME, FilterOverride::Config(teapot));
    let routes = vec![abort, prefix("/direct", direct()), prefix("/served", to_cluster())];
    let filters = vec![marker("first"), HttpFilter::new(Fault::default()), marker("last")];
    let fixture = Fixture::new(manager(routes, filters), echo());
    for (path, status) in [("/served", "200"), ("/direct", "200"), ("/abort", "418"), ("/no-route", "404")] {
        let expected = (status.to_owned(), vec!["first".to_owned(), "last".to_owned()]);
        assert_eq!(passed(&fixture, path).await, expected, "{path}");
    }
    let upgrade = "GET /served HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let response = fixture.exchange(upgrade).await;
    assert!(response.starts_with("HTTP/1.1 403 ") && response.contains("x-passed: first"), "{response}");
}

#[tokio::test]
async fn a_route_that_forwards_changes_the_replies_of_filters() {
    let with = |path: &str, action: Action| {
        let mut route = prefix(path, action);
        let value = Format::parse("of the route %RESPONSE_CODE%").unwrap();
        let added = Append {
            name: HeaderName::from_static("x-route"),
            value,
            append_action: AppendAction::AppendIfExistsOrAdd,
            keep_empty_value: false,
        };
        route.response_headers.add.push(added);
        route
    };
    let routes = vec![with("/forwards", to_cluster()), with("/direct", direct())];
    let fixture = Fixture::new(manager(routes, vec![HttpFilter::new(teapot())]), echo());
    let response = async |path: &str, more: &str| {
        fixture.exchange(&format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n{more}\r\n")).await
    };
    let close = "connection: close\r\n";
    let aborted = response("/forwards", close).await;
    assert!(aborted.contains(" 418 ") && aborted.contains("x-route: of the route 0"), "{aborted}");
    let of_direct = response("/direct", close).await;
    assert!(of_direct.contains(" 418 ") && !of_direct.contains("x-route"), "{of_direct}");
    let refused = response("/forwards", "connection: upgrade\r\nupgrade: x\r\n").await;
    assert!(refused.contains(" 403 ") && refused.contains("x-route: of the route 0"), "{refused}");
}

#[tokio::test]
async fn a_response_passes_the_filters_in_reverse() {
    let order = |name: &str| {
        let mutations = Mutations::new(
            vec![append("x-order", &format!("%REQ(x-order)%{name}"))],
            vec![append("x-order", &format!("%RESP(x-order)%{name}"))],
        );
        let config = HeaderMutation::new(mutations);
        HttpFilter::new(config).with_name(name)
    };
    let service = service(|request| async move {
        let seen = request.headers().get_all("x-order").iter().next_back().unwrap().clone();
        Response::builder().header("x-seen", seen).body(Body::empty()).unwrap()
    });
    let fixture = Fixture::new(manager(everything_to_the_service(), vec![order("1"), order("2")]), service);
    let response = fixture.exchange("GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").await;
    assert!(response.contains("x-order: 2 | x-order: 21 | x-seen: 12"), "{response}");
}

#[tokio::test]
async fn a_route_enables_disables_and_configures_filters_by_their_names() {
    let mut special = prefix("/special", to_cluster());
    special.typed_per_filter_config.insert("a", FilterOverride::Disabled);
    let of_b = Arc::new(on_response("special b")).into();
    special.typed_per_filter_config.insert("b", FilterOverride::Config(of_b));
    special.typed_per_filter_config.insert("off", FilterOverride::Enabled);
    let mut off = marker("off");
    off.disabled = true;
    let routes = vec![special, prefix("/", to_cluster())];
    let fixture = Fixture::new(manager(routes, vec![marker("a"), marker("b"), off]), echo());
    assert_eq!(passed(&fixture, "/").await.1, ["a", "b"]);
    assert_eq!(passed(&fixture, "/special").await.1, ["b", "off", "special b"]);
}

#[tokio::test]
async fn cors_answers_preflight_requests_and_counts_origins() {
    let mut policy = CorsPolicy::default();
    policy.allow_origin_string_match = vec![StringMatcher::exact(ORIGIN)];
    policy.allow_methods = Some(HeaderValue::from_static("GET"));
    let with_policy = |path, action| {
        let mut route = prefix(path, action);
        let policy = Arc::new(policy.clone()).into();
        route.typed_per_filter_config.insert(Cors::NAME, FilterOverride::Config(policy));
        route
    };
    let routes = vec![with_policy("/direct", direct()), with_policy("/", to_cluster())];
    let fixture = Fixture::new(manager(routes, vec![HttpFilter::new(Cors)]), echo());
    let exchange = async |line: &str, origin: &str| {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: a.test\r\norigin: {origin}\r\naccess-control-request-method: GET\r\n\
             connection: close\r\n\r\n"
        );
        fixture.exchange(&request).await
    };
    assert_eq!(
        exchange("OPTIONS /", ORIGIN).await,
        "HTTP/1.1 200 OK | access-control-allow-methods: GET | access-control-allow-origin: https://good.test | \
         connection: close | content-length: 0 | server: envoy | "
    );
    assert!(exchange("GET /", ORIGIN).await.contains("access-control-allow-origin: https://good.test"));
    assert!(!exchange("OPTIONS /", "https://evil.test").await.contains("access-control"));
    assert!(!exchange("OPTIONS /direct", ORIGIN).await.contains("access-control"), "direct responses have no policy");
    assert_eq!(["valid", "invalid"].map(|stat| fixture.stat(&format!("http.in.cors.origin_{stat}"))), [2, 1]);
}

#[tokio::test]
async fn an_access_log_shows_the_request_as_the_filters_have_left_it() {
    let path = std::env::temp_dir().join(format!("mesh-filter-log-{}", std::process::id()));
    let mutations = Mutations::new(vec![append("x-a", "filter")], vec![]);
    let filter = HttpFilter::new(HeaderMutation::new(mutations));
    let mut config = manager(everything_to_the_service(), vec![filter]);
    let format = AccessLogFormat::Text(Format::parse("%REQ(X-A)%\n").unwrap());
    config.access_log.push(AccessLog::new(AccessLogSink::File(path.clone()), format));
    let fixture = Fixture::new(config, echo());
    passed(&fixture, "/").await;
    fixture.telemetry.logs.flush();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "filter\n");
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn a_route_disables_authentication_or_names_another_requirement() {
    let of_route = |path: &str, config: PerRoute| {
        let mut route = prefix(path, to_cluster());
        let config = FilterOverride::Config(Arc::new(config).into());
        route.typed_per_filter_config.insert(JwtAuthn::NAME, config);
        route
    };
    let routes = vec![
        of_route("/open", PerRoute::Disabled),
        of_route("/named", PerRoute::RequirementName("nothing".into())),
        of_route("/unknown", PerRoute::RequirementName("other".into())),
        prefix("/", to_cluster()),
    ];
    let mut filter = JwtAuthn::new(vec![Provider::new("issuer", JwksSource::Local(Jwks::default()))]);
    let requirement = Requirement::Provider { provider: 0, audiences: None };
    filter.rules = vec![Rule { matches: RuleMatch::path(PathMatcher::Prefix("/".into())), requirement }];
    filter.requirement_map.insert("nothing".into(), Requirement::Nothing);
    let fixture = Fixture::new(manager(routes, vec![HttpFilter::new(filter)]), echo());
    for (path, status) in [("/open", "200"), ("/named", "200"), ("/unknown", "403"), ("/", "401")] {
        assert_eq!(passed(&fixture, path).await.0, status, "{path}");
    }
    let response = fixture.exchange("GET /unknown HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").await;
    let body = "Failed JWT authentication: Wrong requirement_name: other. It should be one of [nothing]";
    assert!(response.ends_with(body), "{response}");
}
