//! Tests of routing: recorded results of Envoy, and random tables compared with a linear scan.

mod envoy;
mod filter_overrides;
mod first_match;
mod sharing;
mod virtual_clusters;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::*;
use crate::{
    model::{
        Action, ClusterName, ClusterSpecifier, DirectResponse, HeaderKey, HeaderMatch, HeaderMatcher, HeaderMutations,
        PathMatcher, Redirect, Route, RouteAction, RouteConfiguration, RouteMatch, SafeRegex, StringMatcher,
        StringPattern, VirtualHost, WeightedCluster, WeightedClusters,
    },
    request::RequestHead,
};

/// An owned request.
#[derive(Clone, Debug)]
struct Request {
    method: Method,
    scheme: &'static str,
    authority: String,
    path_and_query: String,
    headers: HeaderMap,
}

impl Request {
    fn get(path_and_query: &str) -> Self {
        Self {
            method: Method::GET,
            scheme: "http",
            authority: "localhost".to_owned(),
            path_and_query: path_and_query.to_owned(),
            headers: HeaderMap::new(),
        }
    }

    fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    fn host(self, authority: &str) -> Self {
        Self { authority: authority.to_owned(), ..self }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            target_scheme: Some(self.scheme),
            authority: &self.authority,
            path_and_query: &self.path_and_query,
            headers: &self.headers,
        }
    }
}

fn prefix(path: &str) -> PathMatcher {
    PathMatcher::Prefix(path.into())
}

fn exact(path: &str) -> PathMatcher {
    PathMatcher::Exact(path.into())
}

fn segments(path: &str) -> PathMatcher {
    PathMatcher::PathSeparatedPrefix(path.into())
}

fn regex(source: &str) -> PathMatcher {
    PathMatcher::Regex(SafeRegex::new(source).unwrap())
}

fn header(name: &str, matches: HeaderMatch) -> HeaderMatcher {
    let key = HeaderKey::parse(name).unwrap();
    HeaderMatcher { key, matches, invert_match: false, treat_missing_header_as_empty: false }
}

fn string(pattern: StringPattern) -> HeaderMatch {
    HeaderMatch::String(StringMatcher::new(pattern, false))
}

fn route(name: &str, matches: RouteMatch, action: Action) -> Route {
    Route { name: name.into(), ..Route::new(matches, action) }
}

/// A direct response, identified by its name.
fn answer(name: &str, matches: RouteMatch) -> Route {
    let direct = DirectResponse { status: StatusCode::OK, body: bytes::Bytes::new() };
    route(name, matches, Action::DirectResponse(direct))
}

fn forward(path: PathMatcher, action: RouteAction) -> Route {
    route("", RouteMatch::path(path), Action::Route(Box::new(action)))
}

fn host(name: &str, domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    let domains = domains.iter().map(|domain| (*domain).into()).collect();
    VirtualHost { domains, ..VirtualHost::new(name, routes) }
}

fn config(virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration::new("routes", virtual_hosts)
}

/// Compiles `config` with each cluster resolved to its name.
fn compile(config: RouteConfiguration) -> Result<RouteTable<ClusterName>, RouteTableError> {
    RouteTable::compile(Arc::new(config), &mut ClusterName::clone)
}

/// A table with one virtual host for every authority.
fn table(routes: Vec<Route>) -> RouteTable<ClusterName> {
    compile(config(vec![host("all", &["*"], routes)])).unwrap()
}

fn matched(table: &RouteTable<ClusterName>, request: &Request) -> RouteHandle<ClusterName> {
    match table.route(&request.head(), 0) {
        RouteResult::Matched(route) => route.to_handle(),
        other => panic!("{request:?}: {other:?}"),
    }
}

/// The name of the matching route, or the result without one.
fn outcome(table: &RouteTable<ClusterName>, request: &Request) -> String {
    match table.route(&request.head(), 0) {
        RouteResult::Matched(entry) => entry.route().name.to_string(),
        RouteResult::NoRoute(_) => "no route".into(),
        RouteResult::NoVirtualHost => "no virtual host".into(),
        RouteResult::TlsRequired(_) => "tls required".into(),
    }
}

fn split(clusters: Vec<WeightedCluster>, header_name: Option<&'static str>) -> RouteAction {
    let header_name = header_name.map(HeaderName::from_static);
    RouteAction::new(ClusterSpecifier::Weighted(WeightedClusters { clusters, header_name }))
}
