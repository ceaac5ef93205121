//! Decisions for each retry condition that Envoy documents.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::{Decision, RequestProgress, ResetReason, RetryState};
use crate::{
    cluster::testing::{Bench, assignment, healthy},
    model::{
        HeaderKey, HeaderMatch, HeaderMatcher, Percent, RetryBudget, RetryOn, RetryPolicy, RoutingPriority,
        StringMatcher,
    },
    request::RequestHead,
    resilience::overrides::Overrides,
};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn head(headers: &HeaderMap) -> RequestHead<'_> {
    RequestHead { method: &Method::GET, target_scheme: None, authority: "a", path_and_query: "/", headers }
}

type State = RetryState<Arc<RetryPolicy>>;

fn policy(retry_on: &str) -> RetryPolicy {
    RetryPolicy { retry_on: RetryOn::parse(retry_on).unwrap(), ..RetryPolicy::default() }
}

fn cluster() -> Bench {
    Bench::new(assignment(healthy([1])), |_| {})
}

/// The state of a request with `overrides` under `policy`.
fn state(policy: RetryPolicy, overrides: &Overrides) -> Option<State> {
    let headers = HeaderMap::new();
    RetryState::new(Some(Arc::new(policy)), || head(&headers), overrides.clone(), RoutingPriority::Default)
}

fn respond(bench: &mut Bench, state: &mut State, status: u16) -> Decision {
    state.handle_response(status.try_into().unwrap(), &HeaderMap::new(), &bench.cluster, &mut bench.rng)
}

fn is_retried(state: Option<State>, decide: impl FnOnce(&mut State, &mut Bench) -> Decision) -> bool {
    let Some(mut state) = state else { return false };
    matches!(decide(&mut state, &mut cluster()), Decision::Retry { .. })
}

#[test]
fn each_condition_retries_its_responses() {
    let check = |retry_on: &str, status: u16, lines: &[(&'static str, &'static str)], expected: bool| {
        let mut policy = policy(retry_on);
        policy.retriable_status_codes = vec![StatusCode::IM_A_TEAPOT];
        policy.retriable_headers = vec![HeaderMatcher {
            key: HeaderKey::parse("x-again").unwrap(),
            matches: HeaderMatch::String(StringMatcher::exact("yes")),
            invert_match: false,
            treat_missing_header_as_empty: false,
        }];
        let retried = is_retried(state(policy, &Overrides::default()), |state, bench| {
            state.handle_response(status.try_into().unwrap(), &headers(lines), &bench.cluster, &mut bench.rng)
        });
        assert_eq!(retried, expected, "{retry_on:?} on {status} {lines:?}");
    };
    for (retry_on, retried, not_retried) in [
        ("5xx", [500, 503, 599], [200, 404, 499]),
        ("gateway-error", [502, 503, 504], [500, 501, 505]),
        ("retriable-4xx", [409; 3], [400, 404, 429]),
        ("retriable-status-codes", [418; 3], [500, 409, 200]),
        ("reset,connect-failure,refused-stream,reset-before-request", [0; 3], [500, 503, 409]),
        ("http3-post-connect-failure", [0; 3], [500, 503, 409]),
        ("cancelled,deadline-exceeded,internal,resource-exhausted,unavailable", [0; 3], [500, 503, 200]),
        ("", [0; 3], [500, 503, 409]),
    ] {
        retried.into_iter().filter(|status| *status > 0).for_each(|status| check(retry_on, status, &[], true));
        not_retried.into_iter().for_each(|status| check(retry_on, status, &[], false));
    }
    check("retriable-headers", 200, &[("x-again", "no"), ("x-again", "yes")], true);
    check("retriable-headers", 200, &[("x-again", "no")], false);
    check("5xx", 200, &[("x-again", "yes")], false);
    for (condition, status) in [
        ("cancelled", "1"),
        ("deadline-exceeded", "4"),
        ("resource-exhausted", "8"),
        ("internal", "13"),
        ("unavailable", "14"),
    ] {
        check(condition, 200, &[("grpc-status", status)], true);
        check(condition, 200, &[("grpc-status", "2")], false);
        check("5xx", 200, &[("grpc-status", status)], false);
    }
    // A rate-limited response is retried under its own condition only, not by its status.
    check("5xx,gateway-error", 503, &[("x-envoy-ratelimited", "true")], false);
    check("envoy-ratelimited", 429, &[("x-envoy-ratelimited", "true")], true);
    check("envoy-ratelimited", 429, &[], false);
}

#[test]
fn each_condition_retries_its_resets() {
    use ResetReason::{
        ConnectionFailure, ConnectionTermination, ConnectionTimeout, LocalReset, Overflow, PerTryTimeout,
        ProtocolError, RemoteRefusedStreamReset, RemoteReset,
    };
    const ALL: [ResetReason; 9] = [
        ConnectionFailure,
        ConnectionTimeout,
        RemoteRefusedStreamReset,
        RemoteReset,
        LocalReset,
        ProtocolError,
        ConnectionTermination,
        PerTryTimeout,
        Overflow,
    ];
    let check = |retry_on: &str, progress: RequestProgress, expected: &[ResetReason]| {
        for reason in ALL {
            let retried = is_retried(state(policy(retry_on), &Overrides::default()), |state, bench| {
                state.handle_reset(reason, progress, &bench.cluster, &mut bench.rng)
            });
            assert_eq!(retried, expected.contains(&reason), "{retry_on:?} on {reason:?}, {progress:?}");
        }
    };
    // 5xx includes every reset; an overflow of a circuit breaker is never retried.
    for retry_on in ["5xx", "gateway-error", "reset"] {
        check(retry_on, RequestProgress::Started, &ALL[..8]);
        check(retry_on, RequestProgress::NotStarted, &ALL[..8]);
    }
    check("connect-failure", RequestProgress::Started, &[ConnectionFailure, ConnectionTimeout]);
    check("refused-stream", RequestProgress::Started, &[RemoteRefusedStreamReset]);
    check("reset-before-request", RequestProgress::NotStarted, &ALL[..8]);
    check("reset-before-request", RequestProgress::Started, &[]);
    check("retriable-4xx,unavailable,retriable-headers", RequestProgress::NotStarted, &[]);
}

#[test]
fn tries_are_counted_as_envoy_counts_them() {
    // A request that needs two retries, one that needs more than it has, one that needs none.
    let mut bench = cluster();
    let two = || state(RetryPolicy { num_retries: 2, ..policy("5xx") }, &Overrides::default()).unwrap();

    let mut saved = two();
    assert!(matches!(respond(&mut bench, &mut saved, 500), Decision::Retry { .. }));
    assert_eq!(bench.stat("circuit_breakers.default.rq_retry_open"), 0);
    assert!(matches!(respond(&mut bench, &mut saved, 500), Decision::Retry { .. }));
    assert_eq!((saved.retries_made(), saved.may_retry()), (2, false));
    assert_eq!(respond(&mut bench, &mut saved, 200), Decision::Done);

    let mut lost = two();
    (0..2).for_each(|_| assert!(matches!(respond(&mut bench, &mut lost, 503), Decision::Retry { .. })));
    assert_eq!(respond(&mut bench, &mut lost, 503), Decision::LimitExceeded);

    let mut lucky = two();
    assert_eq!(respond(&mut bench, &mut lucky, 200), Decision::Done);

    let stats = ["upstream_rq_retry", "upstream_rq_retry_success", "upstream_rq_retry_limit_exceeded"];
    assert_eq!(stats.map(|name| bench.stat(name)), [4, 1, 1]);
    assert_eq!(bench.stat("upstream_rq_retry_overflow"), 0);
    let responses = ["500", "503", "5xx", "completed"].map(|what| format!("retry.upstream_rq_{what}"));
    assert_eq!(responses.map(|name| bench.stat(&name)), [2, 2, 4, 4], "responses that were retried are counted");
}

#[test]
fn a_retry_holds_its_permit_until_the_next_decision() {
    // Of three parallel requests that fail, max_retries 1 allows one retry.
    let mut bench = Bench::new(assignment(healthy([1])), |config| config.circuit_breakers.default.max_retries = 1);
    let mut requests: Vec<_> = (0..3).map(|_| state(policy("5xx"), &Overrides::default()).unwrap()).collect();
    let decisions: Vec<_> = requests.iter_mut().map(|request| respond(&mut bench, request, 503)).collect();
    assert!(matches!(decisions[..], [Decision::Retry { .. }, Decision::Overflow, Decision::Overflow]), "{decisions:?}");
    assert_eq!(bench.stat("upstream_rq_retry_overflow"), 2);
    drop(requests.remove(0));
    let mut next = state(policy("5xx"), &Overrides::default()).unwrap();
    assert!(
        matches!(respond(&mut bench, &mut next, 503), Decision::Retry { .. }),
        "a dropped request returns its permit"
    );
}

#[test]
fn a_budget_replaces_max_retries() {
    let mut bench = Bench::new(assignment(healthy([1])), |config| {
        config.circuit_breakers.default.max_retries = 0;
        config.circuit_breakers.default.retry_budget =
            Some(RetryBudget { budget_percent: Percent::new(20).unwrap().into(), min_retry_concurrency: 3 });
    });
    let active: Vec<_> = (0..25).map(|_| bench.cluster.try_request(RoutingPriority::Default).unwrap()).collect();
    let mut requests: Vec<_> = (0..8).map(|_| state(policy("5xx"), &Overrides::default()).unwrap()).collect();
    let mut retried = |count: usize, bench: &mut Bench| {
        let decisions = requests.drain(..count).map(|mut request| (respond(bench, &mut request, 503), request));
        let retried: Vec<_> = decisions.filter(|(decision, _)| matches!(decision, Decision::Retry { .. })).collect();
        retried.len()
    };
    assert_eq!(retried(6, &mut bench), 5, "20 % of 25");
    drop(active);
    assert_eq!(retried(2, &mut bench), 2, "the minimum is 3");
}

#[test]
fn a_trusted_request_can_override_retries() {
    let mut bench = cluster();
    let parse = |lines: &[(&'static str, &'static str)]| Overrides::take_from(&mut headers(lines));
    let none = Overrides::default();
    let new = |policy: Option<RetryPolicy>, overrides: &Overrides| {
        let (policy, headers) = (policy.map(Arc::new), HeaderMap::new());
        RetryState::new(policy, || head(&headers), overrides.clone(), RoutingPriority::Default)
    };
    assert!(new(None, &none).is_none() && new(Some(policy("")), &none).is_none());
    assert!(new(None, &parse(&[("x-envoy-retry-on", "nonsense")])).is_none());
    assert!(new(None, &parse(&[("x-envoy-max-retries", "3")])).is_none(), "there is no condition");

    let mut state = new(None, &parse(&[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "2")])).unwrap();
    let decisions: Vec<_> = (0..3).map(|_| respond(&mut bench, &mut state, 503)).collect();
    assert!(matches!(decisions[..], [Decision::Retry { .. }, Decision::Retry { .. }, Decision::LimitExceeded]));

    let codes = parse(&[("x-envoy-retry-on", "retriable-status-codes"), ("x-envoy-retriable-status-codes", "404,409")]);
    let mut state = new(None, &codes).unwrap();
    assert!(matches!(respond(&mut bench, &mut state, 404), Decision::Retry { .. }));

    let mut state = new(Some(policy("5xx")), &parse(&[("x-envoy-retry-grpc-on", "unavailable")])).unwrap();
    let unavailable = headers(&[("grpc-status", "14")]);
    let decision = state.handle_response(StatusCode::OK, &unavailable, &bench.cluster, &mut bench.rng);
    assert!(matches!(decision, Decision::Retry { .. }), "conditions are added");

    let names = parse(&[("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "x-again")]);
    let mut state = new(None, &names).unwrap();
    let again = headers(&[("x-again", "")]);
    let decision = state.handle_response(StatusCode::OK, &again, &bench.cluster, &mut bench.rng);
    assert!(matches!(decision, Decision::Retry { .. }));
}

#[test]
fn only_requests_with_a_retriable_header_are_retried() {
    let matcher = HeaderMatcher {
        key: HeaderKey::Method,
        matches: HeaderMatch::String(StringMatcher::exact("GET")),
        invert_match: false,
        treat_missing_header_as_empty: false,
    };
    let policy = Arc::new(RetryPolicy { retriable_request_headers: vec![matcher], ..policy("5xx") });
    let is_eligible = |method: &Method| {
        let headers = HeaderMap::new();
        let request = RequestHead { method, ..head(&headers) };
        RetryState::new(Some(&*policy), || request, Overrides::default(), RoutingPriority::Default).is_some()
    };
    assert!(is_eligible(&Method::GET) && !is_eligible(&Method::POST));
}

#[test]
fn the_next_try_avoids_previous_hosts_if_configured() {
    let bench = Bench::new(assignment(healthy([1, 2])), |_| {});
    let first = bench.find(1).id();
    for (previous_hosts, expected) in [(true, 1), (false, 0)] {
        let policy = RetryPolicy { previous_hosts, host_selection_retry_max_attempts: 5, ..policy("5xx") };
        let mut state = state(policy, &Overrides::default()).unwrap();
        state.handle_pick(first);
        assert_eq!((state.avoid().endpoints.len(), state.avoid().max_attempts), (expected, 5));
    }
}

#[test]
fn delays_grow_with_the_number_of_the_retry() {
    // The window doubles. With a fixed seed, the longest of many delays is close to its end.
    let mut longest = [Duration::ZERO; 4];
    let mut bench = cluster();
    for _ in 0..300 {
        let mut state = state(RetryPolicy { num_retries: 4, ..policy("5xx") }, &Overrides::default()).unwrap();
        for longest in &mut longest {
            let Decision::Retry { after } = respond(&mut bench, &mut state, 500) else { panic!("a retry") };
            *longest = after.max(*longest);
        }
    }
    let windows = [25, 75, 175, 250].map(Duration::from_millis);
    for (longest, window) in longest.iter().zip(windows) {
        assert!(*longest < window && *longest > window.mul_f64(0.9), "{longest:?} of {window:?}");
    }
}

#[test]
fn another_endpoint_is_tried_at_once_after_a_failed_connection() {
    let check = |previous_hosts, tried: &[u16], reason, at_once| {
        let mut bench = Bench::new(assignment(healthy([1, 2])), |_| {});
        let policy = RetryPolicy { previous_hosts, num_retries: 100, ..policy("5xx") };
        let mut state = state(policy, &Overrides::default()).unwrap();
        tried.iter().for_each(|port| state.handle_pick(bench.find(*port).id()));
        let mut delays = (0..20).map(|_| {
            match state.handle_reset(reason, RequestProgress::NotStarted, &bench.cluster, &mut bench.rng) {
                Decision::Retry { after } => after,
                decision => panic!("{decision:?} instead of a retry"),
            }
        });
        assert_eq!(delays.all(|delay| delay.is_zero()), at_once, "{previous_hosts} {tried:?} {reason:?}");
    };
    check(true, &[1], ResetReason::ConnectionFailure, true);
    check(true, &[1, 1], ResetReason::ConnectionTimeout, true);
    check(true, &[1, 2], ResetReason::ConnectionFailure, false);
    check(true, &[1], ResetReason::ConnectionTermination, false);
    // The next try may go to the same endpoint.
    check(false, &[1], ResetReason::ConnectionFailure, false);
}
