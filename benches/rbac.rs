//! What does a decision of access control cost, with one rule and with many?
//!
//! Each rule allows one peer one path, as an AuthorizationPolicy of Istio does. The request is that of the last rule. In the
//! second column all rules are about one path, in the third about one peer; then one rule has as many peers. A denied
//! request is one that no rule is about.

#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

mod support;

use std::sync::Arc;

use http::{HeaderMap, Method};
use mesh_core::{
    filter::rbac::{Action, Condition, Engine, Policy, Rules, Subject},
    model::{HeaderKey, HeaderMatch, HeaderMatcher, StringMatcher},
    request::RequestHead,
    tls::{CertificateInfo, PeerIdentity, TlsInfo},
};

use self::support::{Cost, measure};

const CALLS: u32 = 1_024;

fn main() {
    println!(
        "rules   one path and peer each         one path                       one peer                       one rule, many peers          denied"
    );
    for rules in [1, 100, 10_000] {
        let distinct = engine(rules, path, peer);
        let one_path = engine(rules, |_| path(0), peer);
        let one_peer = engine(rules, path, |_| peer(0));
        let last = rules - 1;
        let costs = [
            cost(&distinct, &path(last), &peer(last), true),
            cost(&one_path, &path(0), &peer(last), true),
            cost(&one_peer, &path(last), &peer(0), true),
            cost(&many_peers(rules), &path(0), &peer(last), true),
            cost(&distinct, "/unknown", &peer(last), false),
        ];
        println!("{rules:6} {}", costs.map(|cost| cost.to_string()).join(" "));
    }
}

fn path(rule: usize) -> String {
    format!("/api/v1/resource-{rule}")
}

fn peer(rule: usize) -> String {
    format!("spiffe://cluster.local/ns/default/sa/client-{rule}")
}

fn policy(path: &str, peers: impl Iterator<Item = String>) -> Policy {
    let method = HeaderMatcher {
        key: HeaderKey::Method,
        matches: HeaderMatch::String(StringMatcher::exact("GET")),
        invert_match: false,
        treat_missing_header_as_empty: false,
    };
    let path = Condition::UrlPath(StringMatcher::exact(path));
    let permission = Condition::And(vec![Condition::Or(vec![Condition::Header(method)]), Condition::Or(vec![path])]);
    let peers = peers.map(|peer| Condition::Authenticated(Some(StringMatcher::exact(&peer)))).collect();
    Policy::new(vec![permission], vec![Condition::And(vec![Condition::Or(peers)])])
}

fn engine(rules: usize, path: impl Fn(usize) -> String, peer: impl Fn(usize) -> String) -> Engine {
    let named = |rule| {
        let name = format!("ns[default]-policy[policy-{rule}]-rule[0]").into_boxed_str();
        (name, policy(&path(rule), std::iter::once(peer(rule))))
    };
    Engine::new(Rules::new(Action::Allow, (0..rules).map(named).collect()))
}

fn many_peers(peers: usize) -> Engine {
    Engine::new(Rules::new(Action::Allow, [("p".into(), policy(&path(0), (0..peers).map(peer)))].into()))
}

fn cost(engine: &Engine, path: &str, peer: &str, allowed: bool) -> Cost {
    let mut certificate = CertificateInfo::default();
    certificate.uri_sans.push(peer.into());
    let mut identity = PeerIdentity::default();
    (identity.certificate, identity.is_verified) = (Arc::new(certificate), true);
    let mut tls = TlsInfo::default();
    tls.peer = Some(identity);
    let headers = HeaderMap::new();
    let head = RequestHead {
        method: &Method::GET,
        target_scheme: None,
        authority: "api.default.svc.cluster.local",
        path_and_query: path,
        headers: &headers,
    };
    let subject = Subject { head: Some(head), tls: Some(&tls), ..Subject::default() };
    assert_eq!(engine.decide(&subject).is_allowed(), allowed);
    measure(CALLS, || engine.decide(&subject).is_allowed())
}
