//! Checks and decisions, without a network.

use std::{net::SocketAddr, sync::Mutex, time::SystemTime};

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version, request, response};

use super::*;
use crate::{
    filter::{FilterOverride, FilterOverrides, PerRouteConfig, ResolvedOverrides},
    request::RequestHead,
    tls::{CertificateInfo, PeerIdentity, TlsInfo},
    value::{AppendAction, HeaderKey, Metadata, MetadataMatcher, MetadataValue, Percent, ValueMatcher},
};

fn exact(names: &[&str]) -> Vec<StringMatcher> {
    names.iter().map(|name| StringMatcher::exact(name)).collect()
}

fn http_service() -> HttpService {
    HttpService::new("authz", Duration::from_secs(1))
}

fn filter() -> ExtAuthz {
    ExtAuthz::new(Service::Http(http_service()))
}

/// A codec for tests: it encodes nothing, and decodes every response to a fixed decision.
#[derive(Debug, Default)]
struct Codec {
    formats: Mutex<Vec<CheckFormat>>,
}

impl CheckCodec for Codec {
    fn encode(&self, check: &CheckRequest, format: CheckFormat) -> Bytes {
        self.formats.lock().unwrap().push(format);
        Bytes::copy_from_slice(check.path.as_bytes())
    }

    fn decode(&self, message: &[u8]) -> Option<Authorization> {
        match message {
            b"ok" => Some(Authorization::Allowed(Box::default())),
            _ => None,
        }
    }
}

fn grpc_filter() -> ExtAuthz {
    ExtAuthz::new(Service::Grpc(GrpcService::new("authz", Arc::<Codec>::default())))
}

fn facts() -> RequestFacts<'static> {
    RequestFacts {
        remote_address: Some(SocketAddr::from(([10, 0, 0, 1], 1234))),
        local_address: Some(SocketAddr::from(([10, 0, 0, 2], 80))),
        tls: None,
        requested_server_name: None,
        protocol: Some(Version::HTTP_11),
        start_time: SystemTime::UNIX_EPOCH,
        stream_id: 7,
        bytes_received: 3,
        dynamic_metadata: None,
        route_metadata: None,
    }
}

fn parts() -> request::Parts {
    let request = Request::post("/a?b=c").header("host", "shop.test").header("x-token", "t").header("x-dup", "1");
    let request = request.header("x-dup", "2").header("authorization", "Basic x").header("x-user", "spoofed");
    request.body(()).unwrap().into_parts().0
}

fn settings(body: Option<BufferSettings>) -> CheckSettings {
    CheckSettings { with_request_body: body, context_extensions: BTreeMap::new() }
}

fn check(filter: &ExtAuthz, body: Option<CheckBody>, buffer: Option<BufferSettings>) -> CheckRequest {
    filter.check_request(&RequestHead::from_parts(&parts()), &facts(), body, settings(buffer))
}

fn names(check: &CheckRequest) -> Vec<&str> {
    check.headers.iter().map(|(name, _)| &**name).collect()
}

fn response(status: u16, headers: &[(&'static str, &'static str)]) -> response::Parts {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response.into_parts().0
}

fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).into_iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_check_over_http_has_the_necessary_and_the_allowed_headers() {
    assert_eq!(names(&check(&filter(), None, None)), [":authority", ":path", ":method", "authorization"]);
    let mut filter = filter();
    filter.allowed_headers = Some(exact(&["x-token", "x-dup"]));
    filter.disallowed_headers = exact(&["x-dup"]);
    let Service::Http(service) = &mut filter.service else { unreachable!() };
    service.path_prefix = "/auth".into();
    service.headers_to_add = vec![(HeaderName::from_static("x-token"), HeaderValue::from_static("other"))];
    let service = service.clone();
    let request = service.request(&check(&filter, None, None)).unwrap();
    assert_eq!((request.method().as_str(), request.uri().to_string()), ("POST", "/auth/a?b=c".to_owned()));
    let headers = request.headers();
    assert_eq!(headers.keys().count(), 4);
    for (name, value) in
        [("host", "shop.test"), ("authorization", "Basic x"), ("x-token", "other"), ("content-length", "0")]
    {
        assert_eq!(lines(headers, name), [value], "{name}");
    }
}

#[test]
fn a_check_over_grpc_has_all_headers_unless_some_are_allowed() {
    let all = check(&grpc_filter(), None, None);
    let expected =
        [":authority", ":path", ":method", ":scheme", "x-token", "x-dup", "x-dup", "authorization", "x-user"];
    assert_eq!(names(&all), expected);
    assert_eq!((&*all.id, all.protocol, all.size, &*all.scheme), ("7", "HTTP/1.1", 3, "http"));
    let mut filter = grpc_filter();
    filter.allowed_headers = Some(exact(&["x-token", ":path"]));
    assert_eq!(names(&check(&filter, None, None)), [":path", "x-token"]);
}

#[test]
fn the_body_is_sent_up_to_the_limit_and_says_whether_it_is_whole() {
    let buffer = BufferSettings::new(4);
    for (data, is_whole, sent, is_partial) in
        [("abcd", true, "abcd", "false"), ("abcde", true, "abcd", "true"), ("ab", false, "ab", "true")]
    {
        let check = check(&filter(), Some(CheckBody::new(Bytes::from_static(data.as_bytes()), is_whole)), Some(buffer));
        assert_eq!(check.body.as_deref(), Some(sent.as_bytes()));
        assert_eq!(check.headers.last().unwrap(), &("x-envoy-auth-partial-body".into(), Bytes::from(is_partial)));
        let request = http_service().request(&check).unwrap();
        assert_eq!(lines(request.headers(), "content-length"), [sent.len().to_string()]);
        assert_eq!(request.body(), sent);
    }
    let mut parts = parts();
    parts.headers.insert("x-envoy-auth-partial-body", HeaderValue::from_static("false"));
    let check = grpc_filter().check_request(&RequestHead::from_parts(&parts), &facts(), None, settings(None));
    assert!(!names(&check).contains(&"x-envoy-auth-partial-body"), "a client cannot claim it");
}

#[test]
fn only_a_verified_certificate_gives_a_principal() {
    let certificate = CertificateInfo { uri_sans: vec!["spiffe://a/b".into()], ..CertificateInfo::default() };
    let subject = CertificateInfo { subject: "CN=a".into(), ..CertificateInfo::default() };
    let mut peer = PeerIdentity::default();
    (peer.certificate, peer.chain) = (Arc::new(certificate), [Bytes::from_static(&[0xfb, 0xff, 0, 1])].into());
    let mut tls = TlsInfo::default();
    (tls.peer, tls.local) = (Some(peer), Some(Arc::new(subject)));
    let mut filter = grpc_filter();
    (filter.include_peer_certificate, filter.include_tls_session) = (true, true);
    let (name, parts) = ("shop.test".into(), parts());
    for is_verified in [false, true] {
        tls.peer.as_mut().unwrap().is_verified = is_verified;
        let facts = RequestFacts { tls: Some(&tls), requested_server_name: Some(&name), ..facts() };
        let check = filter.check_request(&RequestHead::from_parts(&parts), &facts, None, settings(None));
        let pem = "-----BEGIN%20CERTIFICATE-----%0A%2B%2F8AAQ%3D%3D%0A-----END%20CERTIFICATE-----%0A";
        let expected = if is_verified { ("spiffe://a/b", pem) } else { ("", "") };
        assert_eq!((&*check.source.principal, &*check.source.certificate), expected);
        assert_eq!((&*check.destination.principal, check.sni.as_deref()), ("CN=a", Some("shop.test")));
    }
    assert_eq!(check(&filter, None, None).sni.as_deref(), Some(""), "without TLS there is no name");
    filter.include_tls_session = false;
    assert_eq!(check(&filter, None, None).sni, None);
}

#[test]
fn metadata_is_sent_by_namespace() {
    let value = |text: &str| MetadataValue::String(text.into());
    let metadata = Metadata { filter_metadata: [("a".into(), value("1")), ("b".into(), value("2"))].into() };
    let mut filter = filter();
    filter.metadata_context_namespaces = vec!["a".into(), "c".into()];
    filter.route_metadata_context_namespaces = vec!["b".into()];
    let facts = RequestFacts { dynamic_metadata: Some(&metadata), route_metadata: Some(&metadata), ..facts() };
    let check = filter.check_request(&RequestHead::from_parts(&parts()), &facts, None, settings(None));
    assert_eq!(check.metadata_context.filter_metadata, [("a".into(), value("1"))].into());
    assert_eq!(check.route_metadata_context.filter_metadata, [("b".into(), value("2"))].into());
}

/// The overrides of a route and of its virtual host.
fn overrides(route: ExtAuthzPerRoute, host: ExtAuthzPerRoute) -> ResolvedOverrides {
    let level = |config: ExtAuthzPerRoute| -> FilterOverrides {
        [("f", FilterOverride::Config(PerRouteConfig::from(Arc::new(config))))].into_iter().collect()
    };
    ResolvedOverrides::new(&[&level(route), &level(host)])
}

#[test]
fn the_most_specific_part_of_the_routes_decides_and_all_give_context() {
    let context = |key: &str, value: &str| BTreeMap::from([(Box::from(key), Box::from(value))]);
    let mut host = ExtAuthzPerRoute { context_extensions: context("a", "host"), ..ExtAuthzPerRoute::default() };
    host.context_extensions.extend(context("b", "host"));
    let mut route = ExtAuthzPerRoute { context_extensions: context("a", "route"), ..ExtAuthzPerRoute::default() };
    let mut filter = filter();
    filter.with_request_body = Some(BufferSettings::new(9));
    let applies = |filter: &ExtAuthz, route: &ExtAuthzPerRoute, host: &ExtAuthzPerRoute| {
        let resolved = overrides(route.clone(), host.clone());
        filter.applies(resolved.get("f"), None, 999_999)
    };
    let Applies::Check(found) = applies(&filter, &route, &host) else { panic!("it applies") };
    let expected = [("a".into(), "route".into()), ("b".into(), "host".into())];
    assert_eq!(found.context_extensions, expected.into());
    assert_eq!(found.with_request_body, Some(BufferSettings::new(9)));

    route.disable_request_body_buffering = true;
    let Applies::Check(found) = applies(&filter, &route, &host) else { panic!("it applies") };
    assert_eq!(found.with_request_body, None);
    host.disabled = true;
    assert!(matches!(applies(&filter, &route, &host), Applies::Check(_)), "the host's is less specific");
    route.disabled = true;
    assert_eq!(applies(&filter, &route, &host), Applies::Skip);

    filter.filter_enabled = Percent::new(50).unwrap().into();
    assert_eq!(filter.applies(None, None, 999_999), Applies::Disabled);
    assert!(matches!(filter.applies(None, None, 0), Applies::Check(_)));
    filter.deny_at_disable = true;
    assert_eq!(filter.applies(None, None, 999_999), Applies::Deny);
    assert_eq!(applies(&filter, &route, &host), Applies::Skip, "the route turns it off");
}

#[test]
fn metadata_of_earlier_filters_selects_the_requests_that_are_checked() {
    let mut filter = ExtAuthz::new(Service::Http(http_service()));
    let value = ValueMatcher::String(StringMatcher::exact("yes"));
    filter.filter_enabled_metadata = Some(MetadataMatcher::new("f", vec!["k".into()], value));
    let metadata = |text: &str| {
        let fields = [("k".into(), MetadataValue::String(text.into()))].into();
        Metadata { filter_metadata: [("f".into(), MetadataValue::Object(fields))].into() }
    };
    assert!(matches!(filter.applies(None, Some(&metadata("yes")), 0), Applies::Check(_)));
    assert_eq!(filter.applies(None, Some(&metadata("no")), 0), Applies::Disabled);
    assert_eq!(filter.applies(None, None, 0), Applies::Disabled);
    filter.deny_at_disable = true;
    assert_eq!(filter.applies(None, None, 0), Applies::Deny);
    filter.deny_at_disable = false;
    filter.filter_enabled_metadata = filter.filter_enabled_metadata.map(|matcher| matcher.inverted(true));
    assert!(matches!(filter.applies(None, None, 0), Applies::Check(_)));
}

#[test]
fn status_200_allows_and_only_what_is_allowed_reaches_the_upstream() {
    let mut service = http_service();
    service.allowed_upstream_headers = exact(&["x-user", "content-length", "connection"]);
    service.allowed_upstream_headers_to_append = exact(&["x-dup", "x-new"]);
    service.allowed_client_headers_on_success = exact(&["x-down"]);
    service.dynamic_metadata_from_headers = exact(&["x-meta"]);
    let head = response(
        200,
        &[
            ("x-user", "alice"),
            ("x-secret", "s"),
            ("x-dup", "3"),
            ("x-new", "n"),
            ("x-down", "d"),
            ("x-meta", "m"),
            ("content-length", "5"),
            ("connection", "x-user"),
            ("x-envoy-auth-headers-to-remove", "x-token, host, content-length"),
        ],
    );
    let Authorization::Allowed(allowed) = service.authorization(&head, Bytes::new()) else { panic!("it is allowed") };
    let mut parts = parts();
    assert_eq!(apply_to_request(&allowed, None, &mut parts), Ok(true));
    assert_eq!(lines(&parts.headers, "x-user"), ["alice"], "the client's own is replaced");
    assert_eq!(lines(&parts.headers, "x-dup"), ["1,3"], "as Envoy joins them");
    for absent in ["x-secret", "x-new", "x-down", "x-token", "content-length", "connection"] {
        assert!(!parts.headers.contains_key(absent), "{absent}");
    }
    assert_eq!(lines(&parts.headers, "host"), ["shop.test"]);
    let mut headers = HeaderMap::new();
    headers.insert("x-down", HeaderValue::from_static("upstream"));
    apply_to_response(&allowed.response_headers, &mut headers);
    assert_eq!(lines(&headers, "x-down"), ["upstream", "d"]);
    let meta = MetadataValue::Object([("x-meta".into(), MetadataValue::String("m".into()))].into());
    assert_eq!(allowed.dynamic_metadata, meta);
}

#[test]
fn other_statuses_deny_and_5xx_is_a_failure() {
    let mut service = http_service();
    let headers = [("x-reason", "no"), ("x-secret", "s"), ("location", "/login"), ("connection", "close")];
    let denied = |service: &HttpService, status| match service.authorization(&response(status, &headers), "go".into()) {
        Authorization::Denied(denied) => *denied,
        other => panic!("{other:?}"),
    };
    let all = denied(&service, 302);
    assert_eq!((all.status, &*all.body), (Some(StatusCode::FOUND), &b"go"[..]));
    let found = headers_of_response(&all.headers);
    assert_eq!(found.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-reason", "x-secret", "location"]);
    service.allowed_client_headers = exact(&["x-reason"]);
    let found = headers_of_response(&denied(&service, 403).headers);
    assert_eq!(found.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-reason", "location"]);
    for status in [500, 503, 504] {
        assert_eq!(service.authorization(&response(status, &headers), Bytes::new()), Authorization::Failed(None));
    }
}

#[test]
fn a_call_has_a_prefix_a_timeout_and_the_metadata() {
    let mut filter = grpc_filter();
    let check = check(&filter, None, None);
    let Service::Grpc(service) = &mut filter.service else { unreachable!() };
    service.initial_metadata = vec![(HeaderName::from_static("x-im"), HeaderValue::from_static("1"))];
    let request = service.request(&check, CheckFormat::default());
    assert_eq!(&**request.body(), b"\0\0\0\0\x06/a?b=c");
    assert_eq!(request.uri().path(), "/envoy.service.auth.v3.Authorization/Check");
    for (name, value) in [
        ("host", "authz"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "200m"),
        ("x-im", "1"),
    ] {
        assert_eq!(lines(request.headers(), name), [value], "{name}");
    }
    service.timeout = Duration::from_secs(200_000);
    service.authority = Some(HeaderValue::from_static("authz.test"));
    let request = service.request(&check, CheckFormat::default());
    assert_eq!(lines(request.headers(), "grpc-timeout"), ["200000S"]);
    assert_eq!(lines(request.headers(), "host"), ["authz.test"]);
}

#[test]
fn a_call_that_fails_in_any_way_is_a_failure() {
    let Service::Grpc(service) = grpc_filter().service else { unreachable!() };
    let trailers =
        |status: &'static str| HeaderMap::from_iter([(crate::grpc::GRPC_STATUS, HeaderValue::from_static(status))]);
    let ok = b"\0\0\0\0\x02ok";
    let decide = |status, body: &[u8], trailers: Option<HeaderMap>| {
        service.authorization(&response(status, &[]), body, trailers.as_ref())
    };
    assert!(matches!(decide(200, ok, Some(trailers("0"))), Authorization::Allowed(_)));
    for (status, body, trailers) in [
        (200, &ok[..], None),
        (200, &ok[..], Some(trailers("13"))),
        (503, &ok[..], Some(trailers("0"))),
        (200, &b""[..], Some(trailers("0"))),
        (200, &b"\x01\0\0\0\x02ok"[..], Some(trailers("0"))),
        (200, &b"\0\0\0\0\x03ok"[..], Some(trailers("0"))),
        (200, &b"\0\0\0\0\x02no"[..], Some(trailers("0"))),
    ] {
        assert_eq!(decide(status, body, trailers), Authorization::Failed(None), "{status} {body:?}");
    }
}

fn allowed(headers: Vec<HeaderChange>) -> Allowed {
    Allowed { headers, ..Allowed::default() }
}

#[test]
fn the_authority_the_path_and_the_query_can_be_changed() {
    let set = |key, value| HeaderChange::set(key, HeaderValue::from_static(value));
    let mut change = allowed(vec![set(HeaderKey::Authority, "b.test"), set(HeaderKey::Path, "/x?a=1&gone=2&q=3")]);
    change.query_parameters_to_set = vec![("q".into(), "4".into()), ("z".into(), "".into())];
    change.query_parameters_to_remove = vec!["gone".into()];
    let mut parts = parts();
    assert_eq!(apply_to_request(&change, None, &mut parts), Ok(true));
    assert_eq!(parts.uri.to_string(), "/x?a=1&q=4&z=");
    assert_eq!(lines(&parts.headers, "host"), ["b.test"]);
    assert_eq!(apply_to_request(&Allowed::default(), None, &mut parts), Ok(false));
    for (key, value) in [
        (HeaderKey::Authority, "user@host"),
        (HeaderKey::Authority, "a b"),
        (HeaderKey::Path, "x"),
        (HeaderKey::Path, "http://a/"),
        (HeaderKey::Scheme, "https"),
    ] {
        assert_eq!(apply_to_request(&allowed(vec![set(key, value)]), None, &mut parts), Err(InvalidChange), "{value}");
    }
}

#[test]
fn changes_of_headers_do_what_their_actions_say() {
    let change = |name: &'static str, action| {
        HeaderChange::new(HeaderKey::Field(HeaderName::from_static(name)), HeaderValue::from_static("new"), action)
    };
    for (action, present, absent) in [
        (ChangeAction::Append(AppendAction::AppendIfExistsOrAdd), &["old", "new"][..], &["new"][..]),
        (ChangeAction::Append(AppendAction::AddIfAbsent), &["old"], &["new"]),
        (ChangeAction::Append(AppendAction::OverwriteIfExistsOrAdd), &["new"], &["new"]),
        (ChangeAction::Append(AppendAction::OverwriteIfExists), &["new"], &[]),
        (ChangeAction::Join, &["old,new"], &[]),
    ] {
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static("a"), HeaderValue::from_static("old"))]);
        apply_to_response(&[change("a", action), change("b", action)], &mut headers);
        assert_eq!(lines(&headers, "a"), present, "{action:?}");
        assert_eq!(lines(&headers, "b"), absent, "{action:?}");
    }
}

#[test]
fn rules_say_which_headers_the_service_may_change() {
    let regex = |text: &str| Some(crate::value::SafeRegex::new(text).unwrap());
    let keys = ["x-user", "x-envoy-a", ":path", ":authority", ":method"];
    let allows = |rules: &MutationRules| keys.map(|name| rules.allow(&HeaderKey::parse(name).unwrap()));
    let default = MutationRules::default();
    assert_eq!(allows(&default), [true, false, true, false, false]);
    for (rules, expected) in [
        (MutationRules { allow_all_routing: true, ..default.clone() }, [true, false, true, true, true]),
        (MutationRules { allow_envoy: true, ..default.clone() }, [true, true, true, false, false]),
        (MutationRules { disallow_system: true, ..default.clone() }, [true, false, false, false, false]),
        (MutationRules { disallow_all: true, ..default.clone() }, [false; 5]),
        (
            MutationRules { disallow_all: true, allow_expression: regex("x-.*"), ..default.clone() },
            [true, true, false, false, false],
        ),
        (
            MutationRules { allow_expression: regex(".*"), disallow_expression: regex("x-user"), ..default.clone() },
            [false, true, true, true, true],
        ),
    ] {
        assert_eq!(allows(&rules), expected, "{rules:?}");
    }
    let set = |name| HeaderChange::set(HeaderKey::parse(name).unwrap(), HeaderValue::from_static("/b"));
    let mut change = allowed(vec![set("x-envoy-a"), set("x-user")]);
    change.headers_to_remove = vec![HeaderKey::parse("x-envoy-b").unwrap()];
    let mut parts = parts();
    parts.headers.insert("x-envoy-b", HeaderValue::from_static("1"));
    assert_eq!(apply_to_request(&change, Some(&default), &mut parts), Ok(true));
    assert_eq!(lines(&parts.headers, "x-user"), ["/b"]);
    assert!(!parts.headers.contains_key("x-envoy-a") && parts.headers.contains_key("x-envoy-b"));
    let strict = MutationRules { disallow_is_error: true, ..default };
    assert_eq!(apply_to_request(&change, Some(&strict), &mut parts), Err(InvalidChange));
}
