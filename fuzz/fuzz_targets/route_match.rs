//! Route match: the compiled table finds the route that a linear scan finds, for any configuration and any request.
#![no_main]

use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use mesh_core::model::{
    Action, ClusterName, FractionalPercent, HeaderKey, HeaderMatch, HeaderMatcher, PathMatcher, QueryParameterMatch,
    QueryParameterMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, SafeRegex, StringMatcher, VirtualHost,
};
use mesh_core::request::RequestHead;
use mesh_core::route::{RouteResult, RouteTable};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let config = input.config();
    let Ok(table) = RouteTable::compile(config.clone().into(), &mut ClusterName::clone) else { return };
    for _ in 0..4 {
        let (authority, path) = (input.text("aB.:1"), input.text("/aAbé?&=\n"));
        let method = input.choose(&[Method::GET, Method::POST, Method::CONNECT]);
        let mut headers = HeaderMap::new();
        for _ in 0..input.below(3) {
            headers.append("x", HeaderValue::from_bytes(input.text("ab1é").as_bytes()).expect("printable"));
        }
        let random = u64::from(input.byte()) * 4_000;
        let head = RequestHead {
            method: &method,
            target_scheme: Some("http"),
            authority: &authority,
            path_and_query: &path,
            headers: &headers,
        };
        let found = match table.route(&head, random) {
            RouteResult::Matched(entry) => Ok(entry.route().name.clone()),
            RouteResult::NoRoute(host) => Err(Some(host.name.clone())),
            RouteResult::NoVirtualHost => Err(None),
            RouteResult::TlsRequired(_) => unreachable!("no virtual host of this target requires TLS"),
        };
        let expected = match host(&config, &authority) {
            None => Err(None),
            Some(host) => match host.routes.iter().find(|route| matches(&route.matches, &head, random)) {
                Some(route) => Ok(route.name.clone()),
                None => Err(Some(host.name.clone())),
            },
        };
        assert_eq!(found, expected, "{head:?} random {random} in {:#?}", config.virtual_hosts);
    }
});

/// The virtual host in the documented order: exact, longest suffix wildcard, longest prefix wildcard, `*`.
fn host<'c>(config: &'c RouteConfiguration, authority: &str) -> Option<&'c VirtualHost> {
    let authority = authority.to_ascii_lowercase();
    let rank = |domain: &str| {
        let domain = domain.to_ascii_lowercase();
        let longer = |fixed: &str| authority.len() > fixed.len();
        if domain == "*" {
            Some((0, 0))
        } else if let Some(suffix) = domain.strip_prefix('*') {
            (longer(suffix) && authority.ends_with(suffix)).then_some((2, suffix.len()))
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (longer(prefix) && authority.starts_with(prefix)).then_some((1, prefix.len()))
        } else {
            (domain == authority).then_some((3, 0))
        }
    };
    let ranked = config.virtual_hosts.iter().flat_map(|host| host.domains.iter().map(move |domain| (host, domain)));
    ranked.filter_map(|(host, domain)| Some((rank(domain)?, host))).max_by_key(|(rank, _)| *rank).map(|(_, host)| host)
}

/// Whether a route matches a request, by the documentation of Envoy's `RouteMatch`.
fn matches(route: &RouteMatch, head: &RequestHead<'_>, random: u64) -> bool {
    let (path, query) = (head.path(), head.query());
    let begins = |prefix: &str| match route.case_sensitive {
        true => path.starts_with(prefix),
        false => path.as_bytes().get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes())),
    };
    let path_matches = match &route.path {
        PathMatcher::Connect => head.method == Method::CONNECT,
        // The target of CONNECT has no path, so no other matcher matches it.
        _ if head.path_and_query.is_empty() => false,
        PathMatcher::Prefix(prefix) => begins(prefix),
        PathMatcher::Exact(exact) => begins(exact) && path.len() == exact.len(),
        PathMatcher::PathSeparatedPrefix(prefix) => {
            begins(prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
        }
        PathMatcher::Regex(regex) => regex.matches(path),
    };
    path_matches
        && route.headers.iter().all(|header| header.matches(head))
        && route.query_parameters.iter().all(|parameter| parameter.matches(query))
        && route.runtime_fraction.is_none_or(|share| share.hits(random))
}

/// Choices from the fuzzer's bytes; zeros when they are used up. Alphabets are small, so that values often coincide.
struct Input<'i>(&'i [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn choose<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()].clone()
    }

    fn text(&mut self, alphabet: &str) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..self.below(9)).map(|_| self.choose(&alphabet)).collect()
    }

    fn domain(&mut self) -> Box<str> {
        let name = self.text("aB.:1");
        match self.below(4) {
            0 => "*".into(),
            1 => format!("*{name}").into(),
            2 => format!("{name}*").into(),
            _ => name.into(),
        }
    }

    fn path(&mut self) -> PathMatcher {
        match self.below(5) {
            0 => PathMatcher::Prefix(self.text("/aAbé").into()),
            1 => PathMatcher::Exact(self.text("/aAbé").into()),
            2 => PathMatcher::PathSeparatedPrefix(format!("/{}a", self.text("/aAb")).into()),
            3 => match SafeRegex::new(&self.text("/aAb.*+?|()[]^$\\-{}1,:ixé\n")) {
                Ok(regex) => PathMatcher::Regex(regex),
                Err(_) => PathMatcher::Prefix("/".into()),
            },
            _ => PathMatcher::Connect,
        }
    }

    fn route(&mut self, name: String) -> Route {
        let mut matches = RouteMatch::path(self.path());
        matches.case_sensitive = self.flag();
        if self.flag() {
            let value = StringMatcher::exact(&self.text("ab1"));
            matches.headers.push(HeaderMatcher {
                key: HeaderKey::parse("x").expect("a header name"),
                matches: self.choose(&[
                    HeaderMatch::Present(true),
                    HeaderMatch::Present(false),
                    HeaderMatch::Range { start: 0, end: 11 },
                    HeaderMatch::String(value),
                ]),
                invert_match: self.flag(),
                treat_missing_header_as_empty: self.flag(),
            });
        }
        if self.flag() {
            let matches_parameter = QueryParameterMatch::Present(self.flag());
            matches.query_parameters.push(QueryParameterMatcher { name: "a".into(), matches: matches_parameter });
        }
        if self.flag() {
            matches.runtime_fraction = Some(FractionalPercent::from_parts_per_million(u32::from(self.byte()) * 4_000));
        }
        let action = Action::Route(Box::new(RouteAction::to_cluster("c")));
        let mut route = Route::new(matches, action);
        route.name = name.as_str().into();
        route
    }

    fn virtual_host(&mut self, number: u8) -> VirtualHost {
        let domains = (0..=self.below(3)).map(|_| self.domain()).collect();
        let routes = (0..self.below(7)).map(|route| self.route(format!("route {number}.{route}"))).collect();
        let mut host = VirtualHost::new(format!("host {number}"), routes);
        host.domains = domains;
        host
    }

    fn config(&mut self) -> RouteConfiguration {
        RouteConfiguration::new("r", (0..=self.below(3)).map(|number| self.virtual_host(number)).collect())
    }
}
