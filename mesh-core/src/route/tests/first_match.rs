//! The table compared with a linear scan, which finds the first match in configured order.

use fastrand::Rng;

use super::*;
use crate::model::FractionalPercent;

/// The route that a linear scan finds, as `(virtual host, route)`. The name of a route is its number.
fn scan(config: &RouteConfiguration, request: &Request, random: u64) -> Option<(usize, usize)> {
    let host = scan_domains(config, &request.authority)?;
    let path = request.path_and_query.split('?').next().unwrap_or("");
    let matches = |matches: &RouteMatch| {
        scan_path(matches, path, &request.method)
            && matches.headers.iter().all(|header| header.matches(&request.head()))
            && matches.runtime_fraction.is_none_or(|share| share.hits(random))
    };
    let route = config.virtual_hosts[host].routes.iter().position(|route| matches(&route.matches))?;
    Some((host, route))
}

fn scan_path(matches: &RouteMatch, path: &str, method: &Method) -> bool {
    let fold = |text: &str| if matches.case_sensitive { text.to_owned() } else { text.to_ascii_lowercase() };
    match &matches.path {
        PathMatcher::Prefix(prefix) => fold(path).starts_with(&fold(prefix)),
        PathMatcher::Exact(exact) => fold(path) == fold(exact),
        PathMatcher::PathSeparatedPrefix(prefix) => match fold(path).strip_prefix(&fold(prefix)) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'),
            None => false,
        },
        PathMatcher::Regex(regex) => regex.matches(path),
        PathMatcher::Connect => *method == Method::CONNECT,
    }
}

fn scan_domains(config: &RouteConfiguration, authority: &str) -> Option<usize> {
    let authority = authority.to_ascii_lowercase();
    let rank = |domain: &str| {
        let domain = domain.to_ascii_lowercase();
        let longer = authority.len() >= domain.len();
        if domain == authority {
            Some((3, domain.len()))
        } else if domain == "*" {
            Some((0, 0))
        } else if domain.strip_prefix('*').is_some_and(|suffix| authority.ends_with(suffix) && longer) {
            Some((2, domain.len()))
        } else if domain.strip_suffix('*').is_some_and(|prefix| authority.starts_with(prefix) && longer) {
            Some((1, domain.len()))
        } else {
            None
        }
    };
    let hosts = config.virtual_hosts.iter().enumerate();
    let ranked = hosts.filter_map(|(number, host)| Some((host.domains.iter().filter_map(|d| rank(d)).max()?, number)));
    ranked.max().map(|(_, number)| number)
}

fn word(rng: &mut Rng, alphabet: &[&str], longest: usize) -> String {
    (0..rng.usize(..=longest)).map(|_| *rng.choice(alphabet).unwrap()).collect()
}

fn random_path(rng: &mut Rng) -> String {
    format!("/{}", word(rng, &["a", "b", "A", "/", "ab", "é", "."], 6))
}

fn random_regex(rng: &mut Rng) -> PathMatcher {
    const PIECES: &[&str] = &[
        "/",
        "a",
        "b",
        "A",
        "a*",
        "b?",
        "a+",
        "(a|b)",
        "(?:/b)*",
        "[ab/]",
        "|",
        ".",
        ".*",
        "\\.",
        "\\/",
        "a{0,1}",
        "b{2}",
        "(?i)a",
        "^",
        "$",
        "\\b",
        "[^/]+",
        "[[:alpha:]]",
        "[]|]",
        "é",
    ];
    loop {
        let source = format!("/{}", word(rng, PIECES, 5));
        let source = if rng.u8(..4) == 0 { source[1..].to_owned() } else { source };
        if let Ok(regex) = SafeRegex::new(&source) {
            return PathMatcher::Regex(regex);
        }
    }
}

fn random_match(rng: &mut Rng) -> RouteMatch {
    let path = match rng.u8(..12) {
        0..4 => prefix(&random_path(rng)),
        4..7 => exact(&random_path(rng)),
        7..9 => segments(&random_path(rng)),
        9..11 => random_regex(rng),
        _ => PathMatcher::Connect,
    };
    let mut matches = RouteMatch { case_sensitive: rng.u8(..3) > 0, ..RouteMatch::path(path) };
    if rng.u8(..4) == 0 {
        matches.headers.push(header("x-a", HeaderMatch::Present(rng.bool())));
    }
    if rng.u8(..6) == 0 {
        matches.runtime_fraction = Some(FractionalPercent::from_parts_per_million(500_000));
    }
    matches
}

fn random_domain(rng: &mut Rng) -> String {
    let name = word(rng, &["a", "b", ".", "A", "a.b"], 4);
    match rng.u8(..4) {
        0 => format!("*{name}"),
        1 => format!("{name}*"),
        _ => format!("{name}c"),
    }
}

fn random_config(rng: &mut Rng) -> RouteConfiguration {
    let mut seen = std::collections::HashSet::new();
    let hosts = (0..rng.usize(1..6)).map(|number| {
        let domains: Vec<String> =
            (0..rng.usize(1..5)).map(|_| random_domain(rng)).filter(|d| seen.insert(d.to_ascii_lowercase())).collect();
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        let routes = (0..rng.usize(..40)).map(|route| answer(&route.to_string(), random_match(rng))).collect();
        host(&number.to_string(), &domains, routes)
    });
    config(hosts.collect())
}

fn random_request(rng: &mut Rng, config: &RouteConfiguration) -> Request {
    let domains: Vec<&str> = config.virtual_hosts.iter().flat_map(|host| &host.domains).map(|d| &**d).collect();
    let authority = match rng.choice(&domains) {
        Some(domain) if rng.u8(..8) > 0 => domain.replace('*', &word(rng, &["a", ".", "b"], 2)),
        _ => word(rng, &["a", ".", "c"], 3),
    };
    let mut request = Request::get(&random_path(rng)).host(&authority);
    if rng.u8(..8) == 0 {
        request = request.method(Method::CONNECT);
    }
    if rng.bool() {
        request = request.header("x-a", "1");
    }
    if rng.u8(..4) == 0 {
        request.path_and_query.push_str("?a=/b");
    }
    request
}

#[test]
fn a_table_finds_the_route_that_a_linear_scan_finds() {
    for seed in 0..200 {
        let mut rng = Rng::with_seed(seed);
        let config = random_config(&mut rng);
        let table = compile(config.clone()).unwrap();
        for _ in 0..60 {
            let (request, random) = (random_request(&mut rng, &config), rng.u64(..));
            let found = match table.route(&request.head(), random) {
                RouteResult::Matched(entry) => {
                    let host = entry.virtual_host().name.parse().unwrap();
                    Some((host, entry.route().name.parse().unwrap()))
                }
                _ => None,
            };
            assert_eq!(found, scan(&config, &request, random), "seed {seed}: {request:?} in {config:#?}");
        }
    }
}

#[test]
fn every_route_of_a_large_table_is_found() {
    let routes = (0..20_000).map(|n| answer(&n.to_string(), RouteMatch::path(prefix(&format!("/service-{n}/")))));
    let table = table(routes.collect());
    for n in (0..20_000).step_by(97) {
        assert_eq!(outcome(&table, &Request::get(&format!("/service-{n}/x"))), n.to_string());
    }
    assert_eq!(outcome(&table, &Request::get("/service-20000/x")), "no route");
}
