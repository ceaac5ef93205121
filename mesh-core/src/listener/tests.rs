//! Compares the index of filter chains with a slow, obvious search.

use std::net::IpAddr;

use ipnet::IpNet;

use super::*;
use crate::{
    model::{
        FilterChain, FilterChainMatch, Listener, ListenerAddress, NetworkFilter, SourceType, TcpProxy,
        TransportProtocol,
    },
    rng::{Rng, SplitMix64},
};

fn listener(rules: &[FilterChainMatch]) -> Listener {
    let proxy = NetworkFilter::TcpProxy(TcpProxy::new("p", "c").into());
    let mut listener = Listener::new("l", ListenerAddress::Api);
    listener.filter_chains =
        rules.iter().map(|rule| FilterChain::new(vec![proxy.clone()]).matching(rule.clone())).collect();
    listener
}

/// Takes one criterion after another, and keeps the chains whose value for it is the most specific one that matches.
fn search(rules: &[FilterChainMatch], connection: &ConnectionFacts) -> Option<usize> {
    let mut left: Vec<usize> = (0..rules.len()).collect();
    let mut keep = |specificity: &dyn Fn(&FilterChainMatch) -> Option<usize>| {
        let best = left.iter().filter_map(|chain| specificity(&rules[*chain])).max();
        left.retain(|chain| best.is_some() && specificity(&rules[*chain]) == best);
    };
    let port = connection.destination.map(|address| address.port());
    keep(&|rule| exact_or_any(rule.destination_port.as_slice(), port.as_ref()));
    keep(&|rule| longest_prefix(&rule.prefix_ranges, connection.destination.map(|address| address.ip())));
    keep(&|rule| longest_name(rule, connection.server_name.as_deref().unwrap_or_default()));
    keep(&|rule| exact_or_any(rule.transport_protocol.as_slice(), Some(&connection.transport_protocol)));
    keep(&|rule| {
        let offered = &connection.application_protocols;
        let first = offered.iter().position(|protocol| rule.application_protocols.contains(protocol));
        match first {
            Some(position) => Some(1 + offered.len() - position),
            None => rule.application_protocols.is_empty().then_some(0),
        }
    });
    keep(&|rule| longest_prefix(&rule.direct_source_prefix_ranges, connection.direct_source.map(|it| it.ip())));
    keep(&|rule| match rule.source_type {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => connection.is_same_ip_or_loopback().then_some(1),
        SourceType::External => (!connection.is_same_ip_or_loopback()).then_some(1),
    });
    keep(&|rule| longest_prefix(&rule.source_prefix_ranges, connection.source.map(|address| address.ip())));
    let port = connection.source.map(|address| address.port());
    keep(&|rule| exact_or_any(&rule.source_ports, port.as_ref()));
    assert!(left.len() < 2, "{left:?} overlap");
    left.pop()
}

fn exact_or_any<T: PartialEq>(wanted: &[T], is: Option<&T>) -> Option<usize> {
    match is {
        Some(is) if wanted.contains(is) => Some(1),
        _ => wanted.is_empty().then_some(0),
    }
}

fn longest_prefix(networks: &[IpNet], address: Option<IpAddr>) -> Option<usize> {
    if networks.is_empty() {
        return Some(0);
    }
    let fits = |network: &&IpNet| match address {
        Some(address) => network.contains(&address),
        None => network.prefix_len() == 0,
    };
    networks.iter().filter(fits).map(|network| network.prefix_len().into()).max()
}

fn longest_name(rule: &FilterChainMatch, name: &str) -> Option<usize> {
    if rule.server_names.iter().any(|wanted| **wanted == *name) {
        return Some(usize::MAX);
    }
    let suffixes = rule.server_names.iter().filter_map(|wanted| wanted.strip_prefix('*'));
    let longest = suffixes.filter(|suffix| name.len() > suffix.len() && name.ends_with(suffix)).map(str::len).max();
    longest.or_else(|| rule.server_names.is_empty().then_some(0))
}

/// Some of few values, so that rules and connections match often; none in half of all cases.
fn some<T: Clone>(rng: &mut SplitMix64, values: &[T]) -> Vec<T> {
    (0..rng.index(3).min(rng.index(3))).map(|_| values[rng.index(values.len())].clone()).collect()
}

fn networks(rng: &mut SplitMix64) -> Vec<IpNet> {
    let values = ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.1/32", "127.0.0.0/8", "fd00::/8", "fd00::1/128"];
    some(rng, &values.map(|network| network.parse().unwrap()))
}

const NAMES: [&str; 5] = ["a.example.com", "example.com", "b.a.example.com", "com", "other.test"];
const PROTOCOLS: [&str; 3] = ["h2", "http/1.1", "istio"];
const PORTS: [u16; 3] = [80, 443, 7000];

/// A rule with random values for the criteria in the bit set `criteria`.
fn rule(rng: &mut SplitMix64, criteria: u64) -> FilterChainMatch {
    let mut rule = FilterChainMatch::default();
    let names = [&NAMES[..], &["*.example.com", "*.com", "*.a.example.com"]].concat();
    if criteria & 1 != 0 {
        rule.destination_port = some(rng, &PORTS).pop();
        rule.prefix_ranges = networks(rng);
    }
    if criteria & 2 != 0 {
        rule.server_names = some(rng, &names).into_iter().map(Into::into).collect();
        rule.transport_protocol = some(rng, &[TransportProtocol::Tls, TransportProtocol::RawBuffer]).pop();
        rule.application_protocols = some(rng, &PROTOCOLS).into_iter().map(Into::into).collect();
    }
    if criteria & 4 != 0 {
        rule.direct_source_prefix_ranges = networks(rng);
        rule.source_type = some(rng, &[SourceType::External, SourceType::SameIpOrLoopback]).pop().unwrap_or_default();
    }
    if criteria & 8 != 0 {
        rule.source_prefix_ranges = networks(rng);
        rule.source_ports = some(rng, &PORTS);
    }
    rule
}

fn connection(rng: &mut SplitMix64) -> ConnectionFacts {
    let address = |rng: &mut SplitMix64| -> Option<std::net::SocketAddr> {
        let addresses = ["10.1.0.1", "10.1.9.9", "10.9.9.9", "127.0.0.1", "192.0.2.1", "fd00::1", "fd00::2", "::1"];
        let ip: IpAddr = addresses[rng.index(addresses.len())].parse().unwrap();
        (rng.below(10) > 0).then(|| (ip, PORTS[rng.index(PORTS.len())]).into())
    };
    ConnectionFacts {
        is_destination_restored: false,
        destination: address(rng),
        direct_source: address(rng),
        source: address(rng),
        transport_protocol: if rng.below(2) == 0 { TransportProtocol::Tls } else { TransportProtocol::RawBuffer },
        server_name: (rng.below(4) > 0).then(|| NAMES[rng.index(NAMES.len())].into()),
        application_protocols: some(rng, &PROTOCOLS).into_iter().map(Into::into).collect(),
    }
}

#[test]
fn the_index_agrees_with_a_slow_search() {
    let (mut found, mut lost) = (0, 0);
    for seed in 0..300 {
        let mut rng = SplitMix64::new(seed);
        let criteria = rng.below(16);
        let mut rules: Vec<FilterChainMatch> = Vec::new();
        for _ in 0..10 {
            let rule = rule(&mut rng, criteria);
            rules.push(rule);
            let overlaps = FilterChainIndex::new(&listener(&rules));
            if let Err(OverlappingFilterChains { earlier, later }) = overlaps {
                assert_eq!(later, rules.len() - 1, "seed {seed}");
                assert!(overlap(&rules[earlier], &rules[later]), "seed {seed}: {rules:?}");
                rules.pop();
            } else {
                let (newest, others) = rules.split_last().unwrap();
                assert!(!others.iter().any(|rule| overlap(rule, newest)), "seed {seed}: {rules:?}");
            }
        }
        let index = FilterChainIndex::new(&listener(&rules)).unwrap();
        for _ in 0..40 {
            let connection = connection(&mut rng);
            let expected = search(&rules, &connection);
            assert_eq!(index.find(&connection), expected, "seed {seed}: {connection:?} {rules:?}");
            *(if expected.is_some() { &mut found } else { &mut lost }) += 1;
        }
    }
    assert!(found > 1000 && lost > 1000, "{found} {lost}: the cases are one-sided");
}

/// Whether two rules have a value in common for every criterion.
fn overlap(a: &FilterChainMatch, b: &FilterChainMatch) -> bool {
    fn common<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        (a.is_empty() && b.is_empty()) || a.iter().any(|value| b.contains(value))
    }
    a.destination_port == b.destination_port
        && common(&a.prefix_ranges, &b.prefix_ranges)
        && common(&a.server_names, &b.server_names)
        && a.transport_protocol == b.transport_protocol
        && common(&a.application_protocols, &b.application_protocols)
        && common(&a.direct_source_prefix_ranges, &b.direct_source_prefix_ranges)
        && a.source_type == b.source_type
        && common(&a.source_prefix_ranges, &b.source_prefix_ranges)
        && common(&a.source_ports, &b.source_ports)
}

#[test]
fn only_the_default_chain_is_a_fallback() {
    let of_port = FilterChainMatch {
        destination_port: Some(443),
        server_names: vec!["a.test".into()],
        ..FilterChainMatch::default()
    };
    let of_name = FilterChainMatch { server_names: vec!["b.test".into()], ..FilterChainMatch::default() };
    let mut listener = listener(&[of_port, of_name]);
    let connection = |port: u16, name: &str| ConnectionFacts {
        destination: Some(([10, 0, 0, 1], port).into()),
        server_name: Some(name.into()),
        ..ConnectionFacts::default()
    };
    let index = FilterChainIndex::new(&listener).unwrap();
    assert_eq!(index.find(&connection(443, "a.test")), Some(0));
    assert_eq!(index.find(&connection(80, "b.test")), Some(1));
    assert_eq!(index.find(&connection(443, "b.test")), None);
    listener.default_filter_chain = Some(listener.filter_chains[0].clone());
    assert_eq!(FilterChainIndex::new(&listener).unwrap().find(&connection(443, "b.test")), Some(2));
}
