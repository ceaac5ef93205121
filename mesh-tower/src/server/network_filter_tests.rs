//! Network filters before the one that serves a connection, and those that serve it without HTTP.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use mesh_core::{
    filter::rbac::{Action, Condition, NetworkRbac, Policy, Rbac, Rules},
    model::{
        AccessLog, AccessLogFormat, AccessLogSink, FilterChain, Listener, NetworkFilter, StringMatcher, format::Format,
    },
};
use tokio::time::Instant;

use super::tests::{CLIENT_HELLO, Fixture, INSPECTORS, http, listener, tcp};

fn rules(action: Action, condition: Condition) -> Rules {
    let policy = Policy::new(vec![condition], vec![Condition::Always]);
    Rules::new(action, [("a policy".into(), policy)].into())
}

fn named(name: &str) -> Condition {
    Condition::RequestedServerName(StringMatcher::exact(name))
}

fn rbac(policies: Rbac) -> NetworkFilter {
    NetworkFilter::Rbac(Arc::new(NetworkRbac::new(policies, "tcp.")))
}

/// A listener that recognizes TLS and has this filter before another.
fn guarded(filter: NetworkFilter, last: NetworkFilter) -> Listener {
    listener(&INSPECTORS[..1], vec![FilterChain::new(vec![filter, last])])
}

fn logged(mut listener: Listener, name: &str) -> (Listener, PathBuf) {
    let path = std::env::temp_dir().join(format!("mesh-network-filter-{name}-{}", std::process::id()));
    let format = "%CONNECTION_TERMINATION_DETAILS% %DYNAMIC_METADATA(envoy.filters.network.rbac)%\n";
    let format = AccessLogFormat::Text(Format::parse(format).unwrap());
    listener.access_log.push(AccessLog::new(AccessLogSink::File(path.clone()), format));
    (listener, path)
}

#[tokio::test]
async fn a_denied_connection_is_closed_before_it_is_served() {
    for (last, name) in [(tcp("tls"), "tcp"), (http(), "http")] {
        let deny = rbac(Rbac::new(rules(Action::Deny, named("www.example.com"))));
        let (listener, path) = logged(guarded(deny, last), name);
        let fixture = Fixture::new(&listener);
        assert_eq!(fixture.exchange(CLIENT_HELLO, 1).await, b"", "{name}");
        assert_eq!((fixture.stat("tcp.rbac.allowed"), fixture.stat("tcp.rbac.denied")), (0, 1));
        assert_eq!(fixture.stat("listener.l.downstream_cx_total"), 1);
        fixture.telemetry.logs.flush();
        let line = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(
            line,
            "rbac_access_denied_matched_policy[a_policy] {\"enforced_effective_policy_id\":\"a policy\",\
             \"enforced_engine_result\":\"denied\"}\n",
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_allowed_connection_is_served() {
    let allow = |name: &str| rbac(Rbac::new(rules(Action::Allow, named(name))));
    let fixture = Fixture::new(&guarded(allow("www.example.com"), tcp("tls")));
    assert_eq!(fixture.exchange(CLIENT_HELLO, 1).await, [b"tls:", CLIENT_HELLO].concat());
    assert_eq!((fixture.stat("tcp.rbac.allowed"), fixture.stat("tcp.rbac.denied")), (1, 0));
    let fixture = Fixture::new(&guarded(allow("other.example.com"), tcp("tls")));
    assert_eq!(fixture.exchange(CLIENT_HELLO, 1).await, b"");
}

#[tokio::test]
async fn all_filters_before_the_last_one_have_to_allow_a_connection() {
    let allow = rbac(Rbac::new(rules(Action::Allow, Condition::Always)));
    let deny = rbac(Rbac::new(rules(Action::Deny, Condition::Always)));
    let chain = |filters: Vec<NetworkFilter>| listener(&[], vec![FilterChain::new(filters)]);
    let fixture = Fixture::new(&chain(vec![allow.clone(), deny, tcp("plain")]));
    assert_eq!(fixture.exchange(b"x", 1).await, b"");
    let fixture = Fixture::new(&chain(vec![allow.clone(), allow, tcp("plain")]));
    assert_eq!(fixture.exchange(b"x", 1).await, b"plain:x");
}

#[tokio::test]
async fn shadow_policies_close_no_connection() {
    let mut policies = Rbac::default().with_shadow_rules(rules(Action::Deny, Condition::Always));
    policies.shadow_rules_stat_prefix = "istio_dry_run_deny_".into();
    let fixture = Fixture::new(&guarded(rbac(policies), tcp("tls")));
    assert_eq!(fixture.exchange(CLIENT_HELLO, 1).await, [b"tls:", CLIENT_HELLO].concat());
    assert_eq!(fixture.stat("tcp.rbac.istio_dry_run_deny_.shadow_denied"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_denied_connection_may_be_kept_open_for_a_while() {
    let mut deny = NetworkRbac::new(Rbac::new(rules(Action::Deny, Condition::Always)), "tcp.");
    deny.delay_deny = Duration::from_secs(3);
    let fixture = Fixture::new(&guarded(NetworkFilter::Rbac(Arc::new(deny)), tcp("tls")));
    let since = Instant::now();
    assert_eq!(fixture.exchange(CLIENT_HELLO, 1).await, b"");
    assert_eq!(since.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn a_listener_may_answer_by_itself() {
    let of = |filter| listener(&[], vec![FilterChain::new(vec![filter])]);
    let fixture = Fixture::new(&of(NetworkFilter::DirectResponse(Bytes::from_static(b"go away"))));
    assert_eq!(fixture.exchange(b"x", 1).await, b"go away");
    let fixture = Fixture::new(&of(NetworkFilter::Echo));
    assert_eq!(fixture.exchange(b"hello", 5).await, b"hello");
}
