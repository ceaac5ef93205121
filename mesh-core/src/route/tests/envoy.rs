//! Results that were recorded from Envoy 1.40.

use std::borrow::Cow;

use super::*;
use crate::model::format::Format;
use crate::model::{
    AppendAction, FractionalPercent, HeaderMutation, HostRewrite, Metadata, MetadataMatcher, MetadataValue,
    PathRedirect, PathRewrite, QueryParameterMatch, QueryParameterMatcher, ValueMatcher,
};

#[test]
fn paths_are_matched_as_envoy_does() {
    let ignoring_case = |path| RouteMatch { case_sensitive: false, ..RouteMatch::path(path) };
    let table = table(vec![
        answer("exact", RouteMatch::path(exact("/exact"))),
        answer("ICase", ignoring_case(exact("/ICase"))),
        answer("Pre", ignoring_case(prefix("/Pre"))),
        answer("sep", RouteMatch::path(segments("/sep"))),
        answer("re", RouteMatch::path(regex("/re/[0-9]+"))),
        answer("p", RouteMatch::path(prefix("/p"))),
    ]);
    for (path, expected) in [
        ("/exact", "exact"),
        ("/exact?x=1&y=/exact2", "exact"),
        ("/exact/", "no route"),
        ("/EXACT", "no route"),
        ("/icase", "ICase"),
        ("/prefixed", "Pre"),
        ("/sep", "sep"),
        ("/sep/a", "sep"),
        ("/sep?q", "sep"),
        ("/separate", "no route"),
        ("/re/123", "re"),
        ("/re/123?x=a", "re"),
        ("/re/123a", "no route"),
        ("/a/re/1", "no route"),
        ("/pump", "p"),
        ("", "no route"),
    ] {
        assert_eq!(outcome(&table, &Request::get(path)), expected, "{path}");
    }
}

#[test]
fn only_connect_reaches_a_connect_route() {
    let table = table(vec![
        answer("root", RouteMatch::path(prefix("/"))),
        answer("empty", RouteMatch::path(prefix(""))),
        answer("connect", RouteMatch::path(PathMatcher::Connect)),
    ]);
    assert_eq!(outcome(&table, &Request::get("/")), "root");
    assert_eq!(outcome(&table, &Request::get("*")), "empty");
    assert_eq!(outcome(&table, &Request::get("").method(Method::CONNECT)), "connect");
    assert_eq!(outcome(&table, &Request::get("/").method(Method::CONNECT)), "root");
}

#[test]
fn headers_are_matched_as_envoy_does() {
    let inverted = HeaderMatcher { invert_match: true, ..header("x-inv", string(StringPattern::Exact("no".into()))) };
    let empty =
        HeaderMatcher { treat_missing_header_as_empty: true, ..header("x-e", string(StringPattern::Exact("".into()))) };
    let not_empty = HeaderMatcher { invert_match: true, ..empty.clone() };
    let not_present = HeaderMatcher { invert_match: true, ..header("x-absent", HeaderMatch::Present(true)) };
    let ignoring_case = HeaderMatch::String(StringMatcher::new(StringPattern::Exact("Hello".into()), true));
    let v = StringPattern::Regex(SafeRegex::new("v[0-9]+").unwrap());
    let route = |path: &str, name: &str, headers: Vec<HeaderMatcher>| {
        answer(name, RouteMatch { headers, ..RouteMatch::path(prefix(path)) })
    };
    let table = table(vec![
        route("/", "exact", vec![header("x-exact", string(StringPattern::Exact("a".into())))]),
        route("/", "prefix", vec![header("x-prefix", string(StringPattern::Prefix("ab".into())))]),
        route("/", "suffix", vec![header("x-suffix", string(StringPattern::Suffix("yz".into())))]),
        route("/", "contains", vec![header("x-contains", string(StringPattern::Contains("mid".into())))]),
        route("/", "regex", vec![header("x-regex", string(v))]),
        route("/", "ignoring case", vec![header("x-ic", ignoring_case)]),
        route("/", "range", vec![header("x-range", HeaderMatch::Range { start: 10, end: 20 })]),
        route("/", "present", vec![header("x-present", HeaderMatch::Present(true))]),
        route("/absent", "absent", vec![header("x-absent", HeaderMatch::Present(false))]),
        route("/inv", "inverted", vec![inverted]),
        route("/empty", "empty", vec![empty]),
        route("/nonempty", "not empty", vec![not_empty]),
        route("/not-present", "not present", vec![not_present]),
        route(
            "/both",
            "both",
            vec![
                header("x-a", string(StringPattern::Exact("1".into()))),
                header("x-b", string(StringPattern::Exact("2".into()))),
            ],
        ),
        route("/", "method", vec![header(":method", string(StringPattern::Exact("PUT".into())))]),
        route("/", "host", vec![header("host", string(StringPattern::Exact("other".into())))]),
    ]);
    for (path, headers, expected) in [
        ("/", &[("x-exact", "a")][..], "exact"),
        ("/", &[("x-exact", "A")], "no route"),
        ("/", &[("x-exact", "b"), ("x-exact", "a")], "exact"),
        ("/", &[("x-exact", "b,a")], "no route"),
        ("/", &[("x-prefix", "abc")], "prefix"),
        ("/", &[("x-suffix", "xyz")], "suffix"),
        ("/", &[("x-contains", "amidst")], "contains"),
        ("/", &[("x-regex", "v12")], "regex"),
        ("/", &[("x-regex", "v12b")], "no route"),
        ("/", &[("x-ic", "hELLO")], "ignoring case"),
        ("/", &[("x-range", "10")], "range"),
        ("/", &[("x-range", "20")], "no route"),
        ("/", &[("x-range", "12a")], "no route"),
        ("/", &[("x-present", "")], "present"),
        ("/absent", &[], "absent"),
        ("/absent", &[("x-absent", "1")], "no route"),
        ("/inv", &[("x-inv", "yes")], "inverted"),
        ("/inv", &[("x-inv", "no")], "no route"),
        ("/inv", &[], "no route"),
        ("/empty", &[], "empty"),
        ("/empty", &[("x-e", "x")], "no route"),
        ("/nonempty", &[], "no route"),
        ("/nonempty", &[("x-e", "x")], "not empty"),
        ("/not-present", &[], "not present"),
        ("/not-present", &[("x-absent", "")], "no route"),
        ("/both", &[("x-a", "1"), ("x-b", "2")], "both"),
        ("/both", &[("x-a", "1")], "no route"),
        ("/", &[("x-exact", "\u{ff}")], "no route"),
    ] {
        let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(name, value));
        assert_eq!(outcome(&table, &request), expected, "{path} {headers:?}");
    }
    assert_eq!(outcome(&table, &Request::get("/").method(Method::PUT)), "method");
    assert_eq!(outcome(&table, &Request::get("/").host("other")), "host");
}

#[test]
fn query_parameters_fractions_and_grpc_are_matched_as_envoy_does() {
    let root = || RouteMatch::path(prefix("/"));
    let query = |path: &str, name: &str, matches: QueryParameterMatch| {
        let query_parameters = vec![QueryParameterMatcher { name: name.into(), matches }];
        RouteMatch { query_parameters, ..RouteMatch::path(prefix(path)) }
    };
    let fraction = |path: &str, share| RouteMatch { runtime_fraction: Some(share), ..RouteMatch::path(prefix(path)) };
    let a = StringMatcher::new(StringPattern::Regex(SafeRegex::new("a+").unwrap()), false);
    let table = table(vec![
        answer("id", query("/", "id", QueryParameterMatch::String(StringMatcher::exact("7")))),
        answer("re", query("/", "re", QueryParameterMatch::String(a))),
        answer("debug", query("/", "debug", QueryParameterMatch::Present(true))),
        answer("no debug", query("/nf", "debug", QueryParameterMatch::Present(false))),
        answer("never", fraction("/zero", FractionalPercent::ZERO)),
        answer("always", fraction("/all", FractionalPercent::ALWAYS)),
        answer("grpc", RouteMatch { grpc: true, ..root() }),
    ]);
    for (path, expected) in [
        ("/?id=7", "id"),
        ("/?id=77", "no route"),
        ("/?a=b&id=7&c", "id"),
        ("/?id=8&id=7", "no route"),
        ("/?re=aaa", "re"),
        ("/?re=aab", "no route"),
        ("/?debug", "debug"),
        ("/?debug=", "debug"),
        ("/?debugx=1", "no route"),
        ("/nf", "no debug"),
        ("/zero", "no route"),
        ("/all", "always"),
    ] {
        assert_eq!(outcome(&table, &Request::get(path)), expected, "{path}");
    }
    for (content_type, expected) in
        [("application/grpc", "grpc"), ("application/grpc+proto", "grpc"), ("application/grpc-web", "no route")]
    {
        assert_eq!(outcome(&table, &Request::get("/g").header("content-type", content_type)), expected);
    }
}

fn domains() -> Vec<VirtualHost> {
    let host = |name: &str, domains: &[&str]| host(name, domains, vec![answer(name, RouteMatch::path(prefix("/")))]);
    vec![
        host("exact", &["a.example.com", "with-port.test:8080"]),
        host("suffix", &["*.example.com"]),
        host("longer", &["*.b.example.com"]),
        host("dash", &["*-bar.example.com"]),
        host("prefix", &["a.example.*", "a.*"]),
    ]
}

#[test]
fn domains_are_matched_as_envoy_does() {
    let table = compile(config(domains())).unwrap();
    for (authority, expected) in [
        ("a.example.com", "exact"),
        ("A.EXAMPLE.com", "exact"),
        ("a.example.com:80", "prefix"),
        ("with-port.test:8080", "exact"),
        ("with-port.test", "no virtual host"),
        ("x.example.com", "suffix"),
        (".example.com", "no virtual host"),
        ("x.b.example.com", "longer"),
        ("b.example.com", "suffix"),
        ("foo-bar.example.com", "dash"),
        ("-bar.example.com", "suffix"),
        ("a.example.org", "prefix"),
        ("a.other", "prefix"),
        ("example.com", "no virtual host"),
        ("localhost", "no virtual host"),
        ("", "no virtual host"),
    ] {
        assert_eq!(outcome(&table, &Request::get("/").host(authority)), expected, "{authority}");
    }
}

#[test]
fn a_port_can_be_ignored() {
    let mut hosts = domains();
    hosts.push(host("v6", &["[::1]"], vec![answer("v6", RouteMatch::path(prefix("/")))]));
    let table = compile(RouteConfiguration { ignore_port_in_host_matching: true, ..config(hosts) }).unwrap();
    for (authority, expected) in [
        ("a.example.com:80", "exact"),
        ("x.example.com:8080", "suffix"),
        ("[::1]:80", "v6"),
        ("[::1]", "v6"),
        ("example.net:http", "no virtual host"),
    ] {
        assert_eq!(outcome(&table, &Request::get("/").host(authority)), expected, "{authority}");
    }
}

#[test]
fn a_domain_belongs_to_one_virtual_host() {
    let twice = config(vec![host("first", &["a.test", "*"], vec![]), host("second", &["A.test"], vec![])]);
    assert_eq!(
        compile(twice).unwrap_err().to_string(),
        "domain \"A.test\" of virtual host \"second\" is already a domain of virtual host \"first\"; domains must be unique"
    );
    let error = compile(config(vec![host("v", &[""], vec![])])).unwrap_err();
    assert_eq!(error.to_string(), "virtual host \"v\" has an empty domain");
}

#[test]
fn a_virtual_host_may_require_tls() {
    let secure =
        VirtualHost { require_tls: true, ..host("v", &["*"], vec![answer("r", RouteMatch::path(prefix("/")))]) };
    let table = compile(config(vec![secure])).unwrap();
    let request = Request::get("/a?b").host("shop:8080");
    assert_eq!(outcome(&table, &request), "tls required");
    assert_eq!(https_location(&request.head()), "https://shop:8080/a?b");
    assert_eq!(outcome(&table, &request.clone().header("x-forwarded-proto", "https")), "r");
    assert_eq!(outcome(&table, &Request { scheme: "https", ..request }), "r");
}

fn redirect(path: PathMatcher, change: impl FnOnce(&mut Redirect)) -> Route {
    let mut redirect = Redirect {
        scheme_redirect: None,
        host_redirect: None,
        port_redirect: None,
        path: PathRedirect::Keep,
        response_code: StatusCode::MOVED_PERMANENTLY,
        strip_query: false,
    };
    change(&mut redirect);
    route("", RouteMatch::path(path), Action::Redirect(Box::new(redirect)))
}

#[test]
fn redirects_have_envoys_locations() {
    let swap =
        PathRedirect::Regex { pattern: SafeRegex::new("/re/([^/]+)/(.*)").unwrap(), substitution: "/\\2/\\1".into() };
    let table = table(vec![
        redirect(prefix("/https"), |to| to.scheme_redirect = Some("https".into())),
        redirect(prefix("/host"), |to| to.host_redirect = Some("other.test".into())),
        redirect(prefix("/port"), |to| to.port_redirect = Some(8443)),
        redirect(prefix("/pathq"), |to| to.path = PathRedirect::Path("/new?x=1".into())),
        redirect(prefix("/path"), |to| to.path = PathRedirect::Path("/new".into())),
        redirect(prefix("/prefix"), |to| to.path = PathRedirect::Prefix("/p2".into())),
        redirect(prefix("/w"), |to| to.path = PathRedirect::Prefix("/".into())),
        redirect(regex("/re/.*"), |to| to.path = swap),
        redirect(prefix("/strip"), |to| {
            to.scheme_redirect = Some("https".into());
            to.strip_query = true;
        }),
    ]);
    for (path, authority, expected) in [
        ("/https?a=b", "localhost", "https://localhost/https?a=b"),
        ("/https", "localhost:80", "https://localhost/https"),
        ("/https", "localhost:8080", "https://localhost:8080/https"),
        ("/https", "[::1]:80", "https://[::1]/https"),
        ("/https", "[::1]", "https://[::1]/https"),
        ("/host/a?q", "localhost:8080", "http://other.test/host/a?q"),
        ("/port", "localhost:8080", "http://localhost:8443/port"),
        ("/path/old?keep=1", "localhost", "http://localhost/new?keep=1"),
        ("/pathq/old?drop=1", "localhost", "http://localhost/new?x=1"),
        ("/prefix/a?b", "localhost", "http://localhost/p2/a?b"),
        ("/prefixed", "localhost", "http://localhost/p2ed"),
        ("/w/abc", "localhost", "http://localhost//abc"),
        ("/wabc", "localhost", "http://localhost/abc"),
        ("/re/a/b?c", "localhost", "http://localhost/b/a?c"),
        ("/strip?x=1&y", "localhost", "https://localhost/strip"),
    ] {
        let request = Request::get(path).host(authority);
        let location = matched(&table, &request).location(&request.head());
        assert_eq!(location.as_deref(), Some(expected), "{path} at {authority}");
    }
}

#[test]
fn a_direct_response_of_201_or_3xx_has_a_location() {
    for (status, expected) in [(200, None), (201, Some("http://localhost/a")), (302, Some("http://localhost/a"))] {
        let direct = DirectResponse { status: StatusCode::from_u16(status).unwrap(), body: bytes::Bytes::new() };
        let table = table(vec![route("", RouteMatch::path(prefix("/")), Action::DirectResponse(direct))]);
        let request = Request::get("/a");
        assert_eq!(matched(&table, &request).location(&request.head()).as_deref(), expected, "{status}");
    }
}

#[test]
fn paths_are_rewritten_as_envoy_does() {
    let rewrite = |path: PathMatcher, path_rewrite: PathRewrite| {
        forward(path, RouteAction { path_rewrite, ..RouteAction::to_cluster("up1") })
    };
    let user = PathRewrite::Regex {
        pattern: SafeRegex::new("^/re/([^/]+)(/.*)$").unwrap(),
        substitution: "\\2/of/\\1".into(),
    };
    let nothing = PathRewrite::Regex { pattern: SafeRegex::new(".*").unwrap(), substitution: "".into() };
    let table = table(vec![
        rewrite(prefix("/p/"), PathRewrite::Prefix("/".into())),
        rewrite(prefix("/bare"), PathRewrite::Prefix("/new".into())),
        rewrite(exact("/path"), PathRewrite::Prefix("/whole".into())),
        rewrite(prefix("/re"), user),
        rewrite(segments("/ps"), PathRewrite::Prefix("/z".into())),
        rewrite(prefix("/none"), PathRewrite::None),
        rewrite(prefix("/gone"), nothing),
        rewrite(regex("/whole-regex/.*"), PathRewrite::Prefix("/whole".into())),
    ]);
    for (path, expected) in [
        ("/p/a/b", Some("/a/b")),
        ("/p/?q=/p/", Some("/?q=/p/")),
        ("/bare/x?bare", Some("/new/x?bare")),
        ("/bareword", Some("/newword")),
        ("/path?x=1", Some("/whole?x=1")),
        ("/re/user/a/b?re=1", Some("/a/b/of/user?re=1")),
        ("/re/none", Some("/re/none")),
        ("/ps/x?y", Some("/z/x?y")),
        ("/ps", Some("/z")),
        ("/none", None),
        ("/gone?q", Some("/?q")),
        ("/whole-regex/x", Some("/whole")),
    ] {
        let request = Request::get(path);
        assert_eq!(matched(&table, &request).rewrite_path(path).as_deref(), expected, "{path}");
    }
}

#[test]
fn authorities_are_rewritten_as_envoy_does() {
    let rewrite = |host_rewrite| {
        let action = RouteAction { host_rewrite, ..RouteAction::to_cluster("up1") };
        table(vec![forward(prefix("/"), action)])
    };
    let value = HeaderValue::from_static("lit.test");
    let request = Request::get("/h/a/b").header("x-host", "from-header.test");
    let by_path = |pattern: &str| HostRewrite::PathRegex {
        pattern: SafeRegex::new(pattern).unwrap(),
        substitution: r"\1.test".into(),
    };
    let of_path = |host| AuthorityRewrite::Set(Cow::Owned(HeaderValue::from_static(host)));
    let from_header = HeaderValue::from_static("from-header.test");
    for (host_rewrite, expected) in [
        (HostRewrite::None, AuthorityRewrite::Keep),
        (HostRewrite::Literal(value.clone()), AuthorityRewrite::Set(Cow::Borrowed(&value))),
        (HostRewrite::Auto, AuthorityRewrite::EndpointHostname),
        (HostRewrite::Header(HeaderName::from_static("x-host")), AuthorityRewrite::Set(Cow::Borrowed(&from_header))),
        (HostRewrite::Header(HeaderName::from_static("x-none")), AuthorityRewrite::Keep),
        (by_path("^/h/([^/]+)/.*$"), of_path("a.test")),
        (by_path("^/none/(.*)$"), of_path("/h/a/b")),
    ] {
        let table = rewrite(host_rewrite);
        assert_eq!(matched(&table, &request).rewrite_authority(None, "/h/a/b?x=/y", &request.headers), expected);
    }
}

fn chosen(entry: &RouteEntry<ClusterName>, request: &Request, random: u64) -> String {
    match entry.select_cluster(&request.head(), random).unwrap().cluster {
        ChosenCluster::Resolved(name) => name.to_string(),
        ChosenCluster::Named(name) => format!("named {name}"),
        ChosenCluster::Unnamed => "unnamed".to_owned(),
    }
}

#[test]
fn weights_are_shares_of_their_sum() {
    let clusters = vec![
        WeightedCluster::new("up1", 50),
        WeightedCluster::new("none", 0),
        WeightedCluster::new("up2", 30),
        WeightedCluster::new("up3", 20),
    ];
    let table = table(vec![forward(prefix("/"), split(clusters, None))]);
    let request = Request::get("/");
    let entry = matched(&table, &request);
    let count = |name: &str| (0..1000).filter(|&random| chosen(&entry, &request, random) == name).count();
    assert_eq!(["up1", "none", "up2", "up3"].map(count), [500, 0, 300, 200]);
    assert_eq!(entry.select_cluster(&request.head(), 55).unwrap().weighted, Some(2));
}

#[test]
fn a_header_can_select_the_cluster() {
    let table = table(vec![forward(
        prefix("/"),
        split(vec![WeightedCluster::new("up1", 50), WeightedCluster::new("up2", 50)], Some("x-random")),
    )]);
    for (lines, expected) in
        [(&["60"][..], "up2"), (&["110"], "up1"), (&[], "up1"), (&["x"], "up1"), (&["60", "60"], "up1")]
    {
        let request = lines.iter().fold(Request::get("/"), |request, line| request.header("x-random", line));
        assert_eq!(chosen(&matched(&table, &request), &request, 0), expected, "{lines:?}");
    }
}

#[test]
fn weights_must_not_sum_to_zero() {
    let routes = vec![forward(prefix("/"), split(vec![WeightedCluster::new("up1", 0)], None))];
    assert_eq!(
        compile(config(vec![host("v", &["*"], routes)])).unwrap_err().to_string(),
        "route \"#0\" of virtual host \"v\": the sum of weights is not in 1..=4294967295"
    );
}

#[test]
fn a_header_can_name_the_cluster() {
    let by = |path: &str, key: &str| {
        forward(prefix(path), RouteAction::new(ClusterSpecifier::ClusterHeader(HeaderKey::parse(key).unwrap())))
    };
    let table = table(vec![by("/a", "x-cluster"), by("/c", ":authority")]);
    let request = Request::get("/a").header("x-cluster", "up2");
    assert_eq!(chosen(&matched(&table, &request), &request, 0), "named up2");
    let request = Request::get("/a");
    assert_eq!(chosen(&matched(&table, &request), &request, 0), "unnamed");
    let request = Request::get("/c").host("up1");
    assert_eq!(chosen(&matched(&table, &request), &request, 0), "named up1");
}

#[test]
fn the_most_specific_level_comes_first_or_last() {
    let level = |name: &str| HeaderMutations {
        add: vec![HeaderMutation {
            name: HeaderName::from_static("x-level"),
            value: Format::literal(name),
            append_action: AppendAction::default(),
            keep_empty_value: false,
        }],
        remove: Vec::new(),
    };
    let cluster = WeightedCluster {
        request_headers: level("weight"),
        host_rewrite_literal: Some(HeaderValue::from_static("weight.test")),
        ..WeightedCluster::new("up2", 1)
    };
    let route = Route {
        request_headers: level("route"),
        ..forward(prefix("/"), split(vec![cluster, WeightedCluster::new("up1", 0)], None))
    };
    let host = VirtualHost { request_headers: level("vhost"), ..host("v", &["*"], vec![route]) };
    for (most_specific_header_mutations_wins, expected) in
        [(false, ["weight", "route", "vhost", "config"]), (true, ["config", "vhost", "route", "weight"])]
    {
        let table = compile(RouteConfiguration {
            request_headers: level("config"),
            most_specific_header_mutations_wins,
            ..config(vec![host.clone()])
        });
        let (table, request) = (table.unwrap(), Request::get("/"));
        let entry = matched(&table, &request);
        let levels = |weighted| -> Vec<String> {
            entry.request_headers(weighted).map(|level| level.add[0].value.as_str().to_owned()).collect()
        };
        assert_eq!(levels(Some(0)), expected);
        assert_eq!(levels(None).len(), 3);
        assert_eq!(entry.response_headers(Some(0)).count(), 0);
        let rewrite = entry.rewrite_authority(Some(0), "/", &request.headers);
        assert_eq!(rewrite, AuthorityRewrite::SetSilently(&HeaderValue::from_static("weight.test")));
    }
}

#[test]
fn conditions_on_metadata_hold_once_filters_have_set_it() {
    let matcher = |invert| MetadataMatcher {
        filter: "f".into(),
        path: vec!["user".into()],
        value: ValueMatcher::String(StringMatcher::exact("a")),
        invert,
    };
    let conditional = |name: &str, invert| {
        let mut route = answer(name, RouteMatch::path(prefix("/")));
        route.matches.dynamic_metadata = vec![matcher(invert)];
        route
    };
    let routes = vec![conditional("a", false), conditional("not a", true)];
    let (table, request) = (table(routes), Request::get("/"));
    let found = |metadata: Option<&Metadata>| match table.route_with(&request.head(), metadata, 0) {
        RouteResult::Matched(route) => route.route().name.to_string(),
        other => panic!("{other:?}"),
    };
    let user = |name: &str| {
        let user = MetadataValue::Object([("user".into(), MetadataValue::String(name.into()))].into());
        Metadata { filter_metadata: [("f".into(), user)].into() }
    };
    assert_eq!(found(None), "not a");
    assert_eq!(found(Some(&user("a"))), "a");
    assert_eq!(found(Some(&user("b"))), "not a");
}
