use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::{
    request::RequestHead,
    rng::{Rng, SplitMix64},
    tls::{CertificateInfo, PeerIdentity, TlsInfo},
    value::{
        HeaderKey, HeaderMatch, HeaderMatcher, Metadata, MetadataMatcher, MetadataValue, SafeRegex, StringMatcher,
        StringPattern, ValueMatcher,
    },
};

/// A request that owns its parts.
#[derive(Debug)]
struct Request {
    method: Method,
    authority: String,
    path: String,
    headers: HeaderMap,
    destination: SocketAddr,
    source: SocketAddr,
    direct_remote: SocketAddr,
    remote: SocketAddr,
    server_name: Option<String>,
    tls: Option<TlsInfo>,
    metadata: Metadata,
    is_connection: bool,
}

impl Default for Request {
    fn default() -> Self {
        let address = |text: &str| text.parse().unwrap();
        Self {
            method: Method::GET,
            authority: "shop.example".into(),
            path: "/".into(),
            headers: HeaderMap::new(),
            destination: address("10.0.0.1:8080"),
            source: address("10.0.0.2:4000"),
            direct_remote: address("10.0.0.3:4000"),
            remote: address("10.0.0.4:0"),
            server_name: None,
            tls: None,
            metadata: Metadata::default(),
            is_connection: false,
        }
    }
}

impl Request {
    fn to(path: &str) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        self
    }

    fn from(mut self, uri_sans: &[&str], is_verified: bool) -> Self {
        let uri_sans = uri_sans.iter().map(|&san| san.into()).collect();
        let certificate = Arc::new(CertificateInfo { uri_sans, subject: "CN=x".into(), ..CertificateInfo::default() });
        let peer = PeerIdentity { certificate, is_verified, ..PeerIdentity::default() };
        self.tls = Some(TlsInfo { peer: Some(peer), ..TlsInfo::default() });
        self
    }

    fn subject(&self) -> Subject<'_> {
        let Self { method, authority, path, headers, .. } = self;
        let head = RequestHead { method, target_scheme: None, authority, path_and_query: path, headers };
        Subject {
            head: (!self.is_connection).then_some(head),
            destination: Some(self.destination),
            source: Some(self.source),
            direct_remote: Some(self.direct_remote),
            remote: Some(self.remote),
            requested_server_name: self.server_name.as_deref(),
            tls: self.tls.as_ref(),
            dynamic_metadata: Some(&self.metadata),
            route_metadata: None,
        }
    }
}

fn text(pattern: StringPattern) -> StringMatcher {
    StringMatcher::new(pattern, false)
}

fn exact(value: &str) -> StringMatcher {
    StringMatcher::exact(value)
}

fn header(name: &str, matches: HeaderMatch) -> HeaderMatcher {
    let key = HeaderKey::parse(name).unwrap();
    HeaderMatcher { key, matches, invert_match: false, treat_missing_header_as_empty: false }
}

fn engine(action: Action, policies: &[(&str, Condition, Condition)]) -> Arc<Engine> {
    let policies = policies.iter().map(|(name, permission, principal)| {
        ((*name).into(), Policy::new(vec![permission.clone()], vec![principal.clone()]))
    });
    Arc::new(Engine::new(Rules::new(action, policies.collect())))
}

/// Whether a policy with only this condition and this action lets the request pass.
fn passes(action: Action, condition: Condition, request: &Request) -> bool {
    engine(action, &[("p", condition, Condition::Always)]).decide(&request.subject()).is_allowed()
}

fn allows(condition: Condition, request: &Request) -> bool {
    passes(Action::Allow, condition, request)
}

#[test]
fn actions_decide_about_what_matches_and_what_does_not() {
    let public = || Condition::UrlPath(exact("/pub"));
    for (action, path, allowed, matched) in [
        (Action::Allow, "/pub?q", true, true),
        (Action::Allow, "/pub/", false, false),
        (Action::Deny, "/pub", false, true),
        (Action::Deny, "/PUB", true, false),
        (Action::Log, "/pub", true, true),
        (Action::Log, "/", true, false),
    ] {
        let engine = engine(action, &[("p", public(), Condition::Always)]);
        let request = Request::to(path);
        let decision = engine.decide(&request.subject());
        assert_eq!((decision.is_allowed(), decision.policy().is_some()), (allowed, matched), "{action:?} {path}");
    }
    for (action, expected) in [(Action::Allow, false), (Action::Deny, true), (Action::Log, true)] {
        assert_eq!(engine(action, &[]).decide(&Request::default().subject()).is_allowed(), expected, "{action:?}");
    }
}

#[test]
fn the_first_policy_by_name_is_reported() {
    let prefix = |text: &str| Condition::UrlPath(StringMatcher::new(StringPattern::Prefix(text.into()), false));
    let policies = [
        ("c", Condition::Always, Condition::Always),
        ("b", prefix("/a"), Condition::Always),
        ("a", Condition::UrlPath(exact("/a/b")), Condition::Always),
    ];
    let engine = engine(Action::Deny, &policies);
    let reported = |path: &str| engine.decide(&Request::to(path).subject()).policy().map(str::to_owned);
    assert_eq!(reported("/a/b").as_deref(), Some("a"));
    assert_eq!(reported("/a/c").as_deref(), Some("b"));
    assert_eq!(reported("/").as_deref(), Some("c"));
}

#[test]
fn an_identity_comes_from_a_verified_certificate_only() {
    let named = |name: &str| Condition::Authenticated(Some(exact(name)));
    let any = || Condition::Authenticated(Some(text(StringPattern::Regex(SafeRegex::new(".+").unwrap()))));
    let plain = Request::default();
    let verified = Request::default().from(&["spiffe://td/a", "spiffe://td/b"], true);
    let unverified = Request::default().from(&["spiffe://td/a"], false);
    let without_certificate = Request { tls: Some(TlsInfo::default()), ..Request::default() };
    for (request, by_name, is_any, is_tls, is_mutual) in [
        (&plain, false, false, false, false),
        (&verified, true, true, true, true),
        (&unverified, false, false, true, false),
        (&without_certificate, false, false, true, false),
    ] {
        assert_eq!(allows(named("spiffe://td/a"), request), by_name, "{request:?}");
        assert_eq!(allows(any(), request), is_any, "{request:?}");
        assert_eq!(allows(Condition::Authenticated(None), request), is_tls, "{request:?}");
        assert_eq!(allows(Condition::MtlsAuthenticated(None), request), is_mutual, "{request:?}");
        // A peer without identity is not in the list of those that are allowed.
        let others = Condition::Not(Box::new(any()));
        assert_eq!(passes(Action::Deny, others, request), is_any, "{request:?}");
    }
    assert!(allows(named("spiffe://td/b"), &verified) && allows(named("CN=x"), &verified));
    assert!(!allows(named("td/a"), &verified));
    let san = |name: &str| Condition::MtlsAuthenticated(Some(SanMatcher::Uri(exact(name))));
    assert!(allows(san("spiffe://td/a"), &verified) && !allows(san("CN=x"), &verified));
}

#[test]
fn a_repeated_header_cannot_evade_a_policy() {
    let role = |value: &str| Condition::Header(header("x-role", HeaderMatch::String(exact(value))));
    let one = Request::default().header("x-role", b"admin");
    let two = Request::default().header("x-role", b"admin").header("x-role", b"user");
    let joined = Request::default().header("x-role", b"admin,user");
    for (request, allowed, denied) in [(&one, true, true), (&two, false, true), (&joined, false, false)] {
        assert_eq!(allows(role("admin"), request), allowed, "{request:?}");
        assert_eq!(!passes(Action::Deny, role("admin"), request), denied, "{request:?}");
        // Within a negation, it is the other way round.
        let not = |value| Condition::Not(Box::new(role(value)));
        assert_eq!(allows(not("admin"), request), !denied, "{request:?}");
        assert_eq!(passes(Action::Deny, not("admin"), request), allowed, "{request:?}");
    }
    assert!(!passes(Action::Deny, role("admin,user"), &two), "the lines together are judged, too");
    let bytes = Request::default().header("x-role", b"\xffadmin");
    let contains = HeaderMatch::String(text(StringPattern::Regex(SafeRegex::new(".*admin").unwrap())));
    assert!(!passes(Action::Deny, Condition::Header(header("x-role", contains)), &bytes));
}

#[test]
fn a_missing_header_matches_no_value() {
    let condition = |invert_match, treat_missing_header_as_empty, matches| {
        let matcher = header("x-a", matches);
        Condition::Header(HeaderMatcher { invert_match, treat_missing_header_as_empty, ..matcher })
    };
    let value = || HeaderMatch::String(exact("v"));
    for (invert, as_empty, matches, expected) in [
        (false, false, value(), false),
        (true, false, value(), false),
        (true, true, value(), true),
        (false, true, HeaderMatch::String(exact("")), true),
        (false, false, HeaderMatch::Present(true), false),
        (true, false, HeaderMatch::Present(true), true),
        (false, false, HeaderMatch::Present(false), true),
    ] {
        let condition = condition(invert, as_empty, matches);
        assert_eq!(allows(condition.clone(), &Request::default()), expected, "{condition:?}");
    }
    let connection = Request { is_connection: true, ..Request::default() };
    assert!(!allows(condition(false, false, HeaderMatch::Present(false)), &connection), "a connection has no headers");
}

#[test]
fn addresses_are_compared_as_what_they_are() {
    let network = |text: &str| text.parse().unwrap();
    let request = Request::default();
    for (condition, expected) in [
        (Condition::DestinationIp(network("10.0.0.1/32")), true),
        (Condition::DestinationIp(network("10.0.0.2/32")), false),
        (Condition::DestinationPort(8080), true),
        (Condition::DestinationPort(80), false),
        (Condition::DestinationPortRange(8080..8081), true),
        (Condition::DestinationPortRange(8000..8080), false),
        (Condition::SourceIp(network("10.0.0.2/31")), true),
        (Condition::DirectRemoteIp(network("10.0.0.3/32")), true),
        (Condition::DirectRemoteIp(network("10.0.0.4/32")), false),
        (Condition::RemoteIp(network("10.0.0.4/32")), true),
        (Condition::RemoteIp(network("0.0.0.0/0")), true),
        (Condition::RemoteIp(network("::/0")), false),
    ] {
        assert_eq!(allows(condition.clone(), &request), expected, "{condition:?}");
    }
    let mapped = Request { remote: "[::ffff:10.0.0.4]:1".parse().unwrap(), ..Request::default() };
    assert!(allows(Condition::RemoteIp(network("10.0.0.0/8")), &mapped));
}

#[test]
fn a_request_without_a_path_matches_no_path() {
    let connect = Request { path: String::new(), method: Method::CONNECT, ..Request::default() };
    let any = || text(StringPattern::Prefix("".into()));
    assert!(!allows(Condition::UrlPath(any()), &connect));
    assert!(passes(Action::Deny, Condition::UrlPath(any()), &connect));
    let host = HeaderMatch::String(StringMatcher::new(StringPattern::Exact("SHOP.example".into()), true));
    assert!(!passes(Action::Deny, Condition::Header(header(":authority", host)), &connect));
}

#[test]
fn metadata_is_compared_by_type() {
    let object = |fields: Vec<(&str, MetadataValue)>| {
        MetadataValue::Object(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
    };
    let string = |text: &str| MetadataValue::String(text.into());
    let claims = object(vec![
        ("iss", string("me")),
        ("aud", MetadataValue::List(vec![string("a"), string("b")])),
        ("n", MetadataValue::Number(7.0)),
        ("b", MetadataValue::Bool(true)),
        ("null", MetadataValue::Null),
    ]);
    let mut request = Request::default();
    request.metadata.filter_metadata.insert("jwt".into(), object(vec![("payload", claims)]));
    let claim = |name: &str, value| {
        Condition::Metadata(MetadataMatcher::new("jwt", vec!["payload".into(), name.into()], value))
    };
    let one_of = |value| ValueMatcher::ListOneOf(Box::new(value));
    let is = |text: &str| ValueMatcher::String(exact(text));
    for (condition, expected) in [
        (claim("iss", is("me")), true),
        (claim("iss", is("you")), false),
        (claim("iss", one_of(is("me"))), false),
        (claim("aud", is("a")), false),
        (claim("aud", one_of(is("b"))), true),
        (claim("aud", ValueMatcher::Or(vec![one_of(is("c")), is("a")])), false),
        (claim("iss", ValueMatcher::Or(vec![one_of(is("c")), is("me")])), true),
        (claim("n", ValueMatcher::DoubleRange(7.0..8.0)), true),
        (claim("n", ValueMatcher::DoubleExact(8.0)), false),
        (claim("b", ValueMatcher::Bool(true)), true),
        (claim("null", ValueMatcher::Null), true),
        (claim("none", ValueMatcher::Null), false),
        (claim("none", ValueMatcher::Present(false)), true),
        (claim("iss", ValueMatcher::Present(true)), true),
    ] {
        assert_eq!(allows(condition.clone(), &request), expected, "{condition:?}");
    }
    let inverted = MetadataMatcher::new("jwt", vec!["none".into()], is("x")).inverted(true);
    assert!(allows(Condition::Metadata(inverted), &request));
}

#[test]
fn a_report_becomes_envoys_metadata() {
    let report = |action, mode, path: &str, prefix: &str| {
        let engine = engine(action, &[("p", Condition::UrlPath(exact("/a")), Condition::Always)]);
        let decision = engine.decide(&Request::to(path).subject());
        let mut metadata = Metadata::default();
        let (rules, shadow_rules) = (Some(Arc::clone(&engine)), Some(Arc::clone(&engine)));
        let config = Arc::new(Rbac { rules, shadow_rules, rules_stat_prefix: prefix.into(), ..Rbac::default() });
        Report::new(&config, &config, Namespace::Network, mode, decision).write(&mut metadata);
        let mut json = Vec::new();
        for (namespace, value) in &metadata.filter_metadata {
            json.extend_from_slice(namespace.as_bytes());
            value.write_json(&mut json);
        }
        String::from_utf8(json).unwrap()
    };
    assert_eq!(
        report(Action::Deny, Mode::Enforced, "/a", "x_"),
        r#"envoy.filters.network.rbac{"x_enforced_effective_policy_id":"p","x_enforced_engine_result":"denied"}"#
    );
    assert_eq!(
        report(Action::Deny, Mode::Shadow, "/", ""),
        r#"envoy.filters.network.rbac{"shadow_engine_result":"allowed"}"#
    );
    assert_eq!(
        report(Action::Log, Mode::Enforced, "/", ""),
        r#"envoy.common{"access_log_hint":false}envoy.filters.network.rbac{"enforced_engine_result":"allowed"}"#
    );
}

/// The semantics of Envoy's messages and of the module's docs, written as directly as possible.
mod naive {
    use super::*;

    pub(super) fn matched<'r>(rules: &'r Rules, request: &Request) -> Option<&'r str> {
        let strict = rules.action == Action::Allow;
        let one = |list: &[Condition]| list.iter().any(|condition| holds(condition, request, strict));
        let mut matching = rules.policies.iter().filter(|(_, it)| one(&it.permissions) && one(&it.principals));
        matching.next().map(|(name, _)| &**name)
    }

    fn holds(condition: &Condition, request: &Request, strict: bool) -> bool {
        let path = request.path.split('?').next().unwrap_or("").to_owned();
        let within = |network: &ipnet::IpNet, address: SocketAddr| network.contains(&address.ip());
        match condition {
            Condition::And(all) => !all.iter().any(|condition| !holds(condition, request, strict)),
            Condition::Or(any) => any.iter().any(|condition| holds(condition, request, strict)),
            Condition::Not(inner) => !holds(inner, request, !strict),
            Condition::Always => true,
            Condition::UrlPath(matcher) => !request.is_connection && !path.is_empty() && fits(matcher, &path),
            Condition::UriTemplate(template) => !request.is_connection && !path.is_empty() && template.matches(&path),
            Condition::Authenticated(None) => request.tls.is_some(),
            Condition::Authenticated(Some(matcher)) => {
                let Some(tls) = &request.tls else { return false };
                let Some(peer) = tls.peer.as_ref().filter(|peer| peer.is_verified) else { return fits(matcher, "") };
                let certificate = &peer.certificate;
                certificate.uri_sans.iter().any(|san| fits(matcher, san)) || fits(matcher, &certificate.subject)
            }
            Condition::MtlsAuthenticated(_) => {
                request.tls.as_ref().and_then(|tls| tls.peer.as_ref()).is_some_and(|peer| peer.is_verified)
            }
            Condition::RequestedServerName(matcher) => fits(matcher, request.server_name.as_deref().unwrap_or("")),
            Condition::DestinationIp(network) => within(network, request.destination),
            Condition::DestinationPort(port) => request.destination.port() == *port,
            Condition::DestinationPortRange(range) => range.contains(&u32::from(request.destination.port())),
            Condition::SourceIp(network) => within(network, request.source),
            Condition::DirectRemoteIp(network) => within(network, request.direct_remote),
            Condition::RemoteIp(network) => within(network, request.remote),
            Condition::Header(matcher) => header(matcher, request, strict),
            Condition::Metadata(matcher) => {
                let Some(MetadataValue::Object(fields)) = request.metadata.filter_metadata.get(&matcher.filter) else {
                    return value(&matcher.value, None) != matcher.invert;
                };
                value(&matcher.value, fields.get(&matcher.path[0])) != matcher.invert
            }
            Condition::RouteMetadata(_) => false,
        }
    }

    fn header(matcher: &HeaderMatcher, request: &Request, strict: bool) -> bool {
        if request.is_connection {
            return false;
        }
        let mut values: Vec<String> = match &matcher.key {
            HeaderKey::Method => vec![request.method.to_string()],
            HeaderKey::Authority => vec![request.authority.clone()],
            HeaderKey::Path => vec![request.path.clone()],
            HeaderKey::Scheme => vec!["http".into()],
            HeaderKey::Field(name) => {
                request.headers.get_all(name).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
            }
        };
        values.retain(|value| !value.is_empty() || matches!(matcher.key, HeaderKey::Field(_)));
        if values.is_empty() && matcher.treat_missing_header_as_empty {
            values.push(String::new());
        }
        if values.len() > 1 {
            values.push(values.join(","));
        }
        let test = |value: &String| match &matcher.matches {
            HeaderMatch::Present(wanted) => *wanted,
            HeaderMatch::String(matcher) => fits(matcher, value),
            HeaderMatch::Range { start, end } => value.parse::<i64>().is_ok_and(|it| it >= *start && it < *end),
        };
        let hit = match &matcher.matches {
            HeaderMatch::Present(wanted) => values.is_empty() != *wanted,
            _ if values.is_empty() => return false,
            _ if strict != matcher.invert_match => values.iter().all(test),
            _ => values.iter().any(test),
        };
        hit != matcher.invert_match
    }

    fn fits(matcher: &StringMatcher, value: &str) -> bool {
        let fold = |text: &str| if matcher.ignores_case() { text.to_ascii_lowercase() } else { text.to_owned() };
        let value = fold(value);
        match matcher.pattern() {
            StringPattern::Exact(text) => value == fold(text),
            StringPattern::Prefix(text) => value.starts_with(&fold(text)),
            StringPattern::Suffix(text) => value.ends_with(&fold(text)),
            StringPattern::Contains(text) => value.contains(&fold(text)),
            StringPattern::Regex(regex) => regex.matches(&value),
        }
    }

    fn value(matcher: &ValueMatcher, found: Option<&MetadataValue>) -> bool {
        match (matcher, found) {
            (ValueMatcher::Present(wanted), found) => found.is_some() == *wanted,
            (ValueMatcher::String(matcher), Some(MetadataValue::String(text))) => fits(matcher, text),
            (ValueMatcher::ListOneOf(item), Some(MetadataValue::List(items))) => {
                items.iter().any(|it| value(item, Some(it)))
            }
            (ValueMatcher::Or(list), found) => list.iter().any(|it| value(it, found)),
            _ => false,
        }
    }
}

/// Makes policies and requests of few values, so that they meet.
struct Generator(SplitMix64);

impl Generator {
    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.0.index(values.len())].clone()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    fn matcher(&mut self, values: &[&str]) -> StringMatcher {
        let value = self.pick(values);
        let half = value.len() / 2;
        let pattern = match self.0.below(8) {
            0 => StringPattern::Prefix(value[..half].into()),
            1 => StringPattern::Suffix(value[half..].into()),
            2 => StringPattern::Contains(value[half..].into()),
            3 => StringPattern::Regex(SafeRegex::new(".+").unwrap()),
            _ => StringPattern::Exact(if self.chance(20) { value.to_uppercase() } else { value.to_owned() }.into()),
        };
        StringMatcher::new(pattern, self.chance(30))
    }

    fn header_matcher(&mut self) -> HeaderMatcher {
        let (name, values): (_, &[&str]) = match self.0.below(4) {
            0 => (":method", &["GET", "POST"]),
            1 => (":authority", HOSTS),
            2 => ("x-a", VALUES),
            _ => ("x-b", VALUES),
        };
        let matches = match self.0.below(6) {
            0 => HeaderMatch::Present(self.chance(50)),
            1 => HeaderMatch::Range { start: 1, end: 5 },
            _ => HeaderMatch::String(self.matcher(values)),
        };
        let key = HeaderKey::parse(name).unwrap();
        HeaderMatcher { key, matches, invert_match: self.chance(20), treat_missing_header_as_empty: self.chance(20) }
    }

    fn condition(&mut self, depth: u32) -> Condition {
        if depth > 0 && self.chance(50) {
            let mut list = || -> Vec<_> { (0..self.0.below(4)).map(|_| self.condition(depth - 1)).collect() };
            return match list() {
                mut list if list.len() == 1 => Condition::Not(Box::new(list.remove(0))),
                list if self.chance(50) => Condition::And(list),
                list => Condition::Or(list),
            };
        }
        let networks = ["10.0.0.1/32", "10.0.0.0/30", "10.0.0.2/31", "::1/128"].map(|it| it.parse().unwrap());
        match self.0.below(14) {
            0 => Condition::Always,
            1 | 2 => Condition::UrlPath(self.matcher(PATHS)),
            3 => Condition::UriTemplate(UriTemplate::parse(self.pick(&["/a/*", "/**/c"])).unwrap()),
            4 | 5 => Condition::Authenticated(if self.chance(90) { Some(self.matcher(NAMES)) } else { None }),
            6 => Condition::RequestedServerName(self.matcher(HOSTS)),
            7 => Condition::DestinationPort(self.pick(&[80, 8080])),
            8 => Condition::DestinationPortRange(80..self.pick(&[81, 9000])),
            9 => Condition::RemoteIp(self.pick(&networks)),
            10 => Condition::DirectRemoteIp(self.pick(&networks)),
            11 => Condition::Metadata(self.metadata_matcher()),
            _ => Condition::Header(self.header_matcher()),
        }
    }

    fn metadata_matcher(&mut self) -> MetadataMatcher {
        let string = |it: &mut Self| ValueMatcher::String(it.matcher(VALUES));
        let value = match self.0.below(4) {
            0 => ValueMatcher::Present(self.chance(50)),
            1 => string(self),
            2 => ValueMatcher::ListOneOf(Box::new(string(self))),
            _ => ValueMatcher::Or(vec![string(self), ValueMatcher::ListOneOf(Box::new(string(self)))]),
        };
        let key = self.pick(&["k", "l"]);
        MetadataMatcher::new("f", vec![key.into()], value).inverted(self.chance(20))
    }

    fn rules(&mut self) -> Rules {
        let policies: BTreeMap<_, _> = (0..self.0.below(8)).map(|i| (format!("{i}").into(), self.policy())).collect();
        Rules::new(self.pick(&[Action::Allow, Action::Deny]), policies)
    }

    fn policy(&mut self) -> Policy {
        // Now and then enough alternatives for a set.
        let alternatives = if self.chance(10) { 30 } else { 1 + self.0.below(2) };
        let all = |it: &mut Self| Condition::And((0..2).map(|_| it.condition(1)).collect());
        let permissions = (0..alternatives).map(|_| if alternatives > 2 { self.condition(0) } else { all(self) });
        let permissions = permissions.collect();
        Policy::new(permissions, vec![all(self)])
    }

    fn request(&mut self) -> Request {
        let mut request = Request::to(self.pick(PATHS));
        request.method = self.pick(&[Method::GET, Method::POST]);
        request.authority = self.pick(HOSTS).to_owned();
        for name in ["x-a", "x-b"] {
            for _ in 0..self.0.below(3) {
                request = request.header(name, self.pick(VALUES).as_bytes());
            }
        }
        request.destination = self.pick(&["10.0.0.1:80", "10.0.0.2:8080"]).parse().unwrap();
        request.remote = self.pick(&["10.0.0.1:1", "10.0.0.9:1", "[::1]:1"]).parse().unwrap();
        request.direct_remote = self.pick(&["10.0.0.2:1", "10.0.0.3:1"]).parse().unwrap();
        request.server_name = self.chance(50).then(|| self.pick(HOSTS).to_owned());
        if self.chance(70) {
            let names = [self.pick(NAMES), self.pick(NAMES)];
            let is_verified = self.chance(80);
            request = request.from(&names[..self.0.index(3)], is_verified);
        }
        let string = MetadataValue::String(self.pick(VALUES).into());
        let list = MetadataValue::List(vec![MetadataValue::String(self.pick(VALUES).into()), MetadataValue::Null]);
        let fields = [("k", string), ("l", list)].map(|(key, value)| (key.into(), value));
        request.metadata.filter_metadata.insert("f".into(), MetadataValue::Object(fields.into()));
        request.is_connection = self.chance(10);
        request
    }
}

const PATHS: &[&str] = &["/", "/a", "/a/b", "/A/b/c?q=1", "/x/c", ""];
const HOSTS: &[&str] = &["a.example", "B.example:80", "c"];
const VALUES: &[&str] = &["3", "v", "V", "w,v", ""];
const NAMES: &[&str] = &["spiffe://td/ns/a/sa/b", "spiffe://td/ns/b/sa/b", "x", "CN=x"];

#[test]
fn compiled_policies_decide_as_the_semantics_say() {
    let mut generator = Generator(SplitMix64::new(11));
    let (mut hits, mut total) = (0, 0);
    for round in 0..600 {
        let engine = Arc::new(Engine::new(generator.rules()));
        for _ in 0..20 {
            let request = generator.request();
            let decision = engine.decide(&request.subject());
            let expected = naive::matched(engine.rules().unwrap(), &request);
            let found = decision.policy();
            assert_eq!(found, expected, "round {round}: {request:#?}\n{:#?}", engine.rules());
            total += 1;
            hits += usize::from(expected.is_some());
        }
    }
    assert!(hits * 10 > total && hits < total, "{hits} of {total} requests match");
}

#[test]
fn the_first_ordered_rule_that_matches_decides() {
    let below = |prefix: &str| Condition::UrlPath(text(StringPattern::Prefix(prefix.into())));
    let rules = vec![
        OrderedRule::new("secret", below("/a/secret"), Some(Action::Deny)),
        OrderedRule::new("logged", below("/a/log"), Some(Action::Log)),
        OrderedRule::new("", below("/a/none"), None),
        OrderedRule::new("all", below("/a"), Some(Action::Allow)),
    ];
    let engine = Engine::ordered(rules);
    for (path, allowed, policy) in [
        ("/a/secret", false, Some("secret")),
        ("/a/log", true, Some("logged")),
        ("/a/none", false, None),
        ("/a/b", true, Some("all")),
        ("/b", false, None),
    ] {
        let request = Request::to(path);
        let decision = engine.decide(&request.subject());
        assert_eq!((decision.is_allowed(), decision.policy()), (allowed, policy), "{path}");
    }
}

#[test]
fn large_lists_of_values_decide_as_small_ones() {
    let principals: Vec<_> =
        (0..1000).map(|i| Condition::Authenticated(Some(exact(&format!("spiffe://td/{i}"))))).collect();
    let policy = Policy::new(vec![Condition::Always], vec![Condition::Or(principals)]);
    let engine = Arc::new(Engine::new(Rules::new(Action::Allow, [("p".into(), policy)].into())));
    for (name, expected) in [("spiffe://td/0", true), ("spiffe://td/999", true), ("spiffe://td/1000", false)] {
        let request = Request::default().from(&[name], true);
        assert_eq!(engine.decide(&request.subject()).is_allowed(), expected, "{name}");
    }
}
