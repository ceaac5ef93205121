//! Access control in the pipeline of a listener: replies, overrides by routes, metadata, statistics, access logs.

use std::sync::Arc;

use mesh_core::{
    filter::{
        Filter as _, FilterOverride, HttpFilter,
        ext_authz::{ExtAuthz, Service},
        rbac::{Action as RbacAction, Condition, Policy, Rbac, Rules},
    },
    model::format::Format,
    model::{
        AccessLog, AccessLogFormat, AccessLogSink, Action, HeaderKey, HeaderMatch, HeaderMatcher, MetadataMatcher,
        PathMatcher, RouteAction, StringMatcher, StringPattern, ValueMatcher,
    },
};

use super::tests::{Fixture, echo, everything_to_the_service, http, route};

fn rules(action: RbacAction, name: &str, condition: Condition) -> Rules {
    let policy = Policy::new(vec![condition], vec![Condition::Always]);
    Rules::new(action, [(name.into(), policy)].into())
}

fn below(path: &str) -> Condition {
    Condition::UrlPath(StringMatcher::new(StringPattern::Prefix(path.into()), false))
}

fn with_header(name: &str) -> Condition {
    let key = HeaderKey::parse(name).unwrap();
    let matches = HeaderMatch::Present(true);
    Condition::Header(HeaderMatcher { key, matches, invert_match: false, treat_missing_header_as_empty: false })
}

/// Responses to these requests, each with its path and headers, and the lines of an access log in this format.
async fn exchange(filters: Vec<HttpFilter>, format: &str, requests: &[(&str, &str)]) -> (Fixture, Vec<String>, String) {
    let name: String = format!("{filters:?}{format}").bytes().map(|byte| (b'a' + byte % 26) as char).collect();
    let file = format!("mesh-rbac-{}-{:.40}-{}.log", std::process::id(), name, name.len());
    let path = std::env::temp_dir().join(file);
    let mut open = route(PathMatcher::Prefix("/open".into()), Action::Route(Box::new(RouteAction::to_cluster("c"))));
    let nothing = FilterOverride::Config(Arc::new(Rbac::default()).into());
    open.typed_per_filter_config.insert(Rbac::NAME, nothing);
    let mut routes = vec![open];
    routes.extend(everything_to_the_service());
    let mut config = http(routes);
    config.http_filters = filters;
    let format = AccessLogFormat::Text(Format::parse(format).unwrap());
    config.access_log.push(AccessLog::new(AccessLogSink::File(path.clone()), format));
    let fixture = Fixture::new(config, echo());
    let mut responses = Vec::new();
    for (path, headers) in requests {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n{headers}connection: close\r\n\r\n");
        let response = fixture.exchange(&request).await;
        let kept = |part: &&str| part.starts_with("HTTP") || part.starts_with("grpc") || part.starts_with("RBAC");
        responses.push(response.split(" | ").filter(kept).collect::<Vec<_>>().join(" | "));
    }
    fixture.telemetry.logs.flush();
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    (fixture, responses, log)
}

#[tokio::test]
async fn a_denied_request_is_answered_with_403_and_the_policy_in_its_details() {
    let filter = HttpFilter::new(Rbac::new(rules(RbacAction::Deny, "no entry", below("/a"))));
    let requests = [("/a", ""), ("/b", ""), ("/a", "content-type: application/grpc\r\n")];
    let (fixture, responses, log) =
        exchange(vec![filter], "%RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%\n", &requests).await;
    assert_eq!(
        responses,
        [
            "HTTP/1.1 403 Forbidden | RBAC: access denied",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 200 OK | grpc-message: RBAC: access denied | grpc-status: 7"
        ]
    );
    let denied = "rbac_access_denied_matched_policy[no_entry] -\n";
    assert_eq!(log, format!("{denied}- -\n{denied}"));
    assert_eq!((fixture.stat("http.in.rbac.allowed"), fixture.stat("http.in.rbac.denied")), (1, 2));
}

#[tokio::test]
async fn a_route_may_have_other_policies() {
    let filter = HttpFilter::new(Rbac::new(rules(RbacAction::Allow, "p", below("/a"))));
    let requests = [("/a", ""), ("/b", ""), ("/open", "")];
    let (_, responses, log) = exchange(vec![filter], "%RESPONSE_CODE_DETAILS%\n", &requests).await;
    let statuses: Vec<_> = responses.iter().map(|response| &response[9..12]).collect();
    assert_eq!(statuses, ["200", "403", "200"]);
    assert_eq!(log, "-\nrbac_access_denied_matched_policy[none]\n-\n");
}

#[tokio::test]
async fn what_shadow_policies_would_do_is_only_reported() {
    let mut config = Rbac::new(rules(RbacAction::Allow, "all", Condition::Always)).with_shadow_rules(rules(
        RbacAction::Deny,
        "shadow",
        with_header("x-bad"),
    ));
    config.shadow_rules_stat_prefix = "dry_run_".into();
    config.track_per_rule_stats = true;
    let format = "%DYNAMIC_METADATA(envoy.filters.http.rbac)%\n";
    let requests = [("/", ""), ("/", "x-bad: 1\r\n")];
    let (fixture, responses, log) = exchange(vec![HttpFilter::new(config)], format, &requests).await;
    assert!(responses.iter().all(|response| response == "HTTP/1.1 200 OK"), "{responses:?}");
    let enforced = r#""enforced_effective_policy_id":"all","enforced_engine_result":"allowed"}"#;
    assert_eq!(
        log,
        format!(
            "{{\"dry_run_shadow_engine_result\":\"allowed\",{enforced}\n{{\"dry_run_shadow_effective_policy_id\":\"shadow\",\
             \"dry_run_shadow_engine_result\":\"denied\",{enforced}\n"
        )
    );
    for (name, expected) in [
        ("allowed", 2),
        ("denied", 0),
        ("dry_run_.shadow_allowed", 1),
        ("dry_run_.shadow_denied", 1),
        ("policy.all.allowed", 2),
        ("dry_run_.policy.shadow.shadow_denied", 1),
        ("dry_run_.policy.shadow.shadow_allowed", 0),
    ] {
        assert_eq!(fixture.stat(&format!("http.in.rbac.{name}")), expected, "{name}");
    }
}

#[tokio::test]
async fn a_filter_can_match_what_an_earlier_one_has_decided() {
    let mark = Rbac::default().with_shadow_rules(rules(RbacAction::Deny, "ext-authz-p", below("/checked")));
    let key = "shadow_effective_policy_id".into();
    let prefix = ValueMatcher::String(StringMatcher::new(StringPattern::Prefix("ext-authz".into()), false));
    let marked = Condition::Metadata(MetadataMatcher::new(Rbac::NAME, vec![key], prefix));
    let deny = Rbac::new(rules(RbacAction::Deny, "marked", marked));
    let filters = vec![HttpFilter::new(mark), HttpFilter::new(deny).with_name("second")];
    let (_, responses, _) = exchange(filters, "-\n", &[("/checked", ""), ("/other", "")]).await;
    assert_eq!(responses, ["HTTP/1.1 403 Forbidden | RBAC: access denied", "HTTP/1.1 200 OK"]);
}

#[tokio::test]
async fn only_requests_that_an_earlier_filter_has_marked_are_checked() {
    let mut mark = Rbac::default().with_shadow_rules(rules(RbacAction::Deny, "ext-authz-p", below("/checked")));
    mark.shadow_rules_stat_prefix = "custom_".into();
    let key = "custom_shadow_effective_policy_id".into();
    let prefix = ValueMatcher::String(StringMatcher::new(StringPattern::Prefix("ext-authz".into()), false));
    // There is no code of the program to ask, so what is checked is denied.
    let mut check = ExtAuthz::new(Service::InProcess);
    check.filter_enabled_metadata = Some(MetadataMatcher::new(Rbac::NAME, vec![key], prefix));
    let filters = vec![HttpFilter::new(mark), HttpFilter::new(check)];
    let requests = [("/checked", ""), ("/other", "")];
    let (fixture, responses, _) = exchange(filters, "-\n", &requests).await;
    assert_eq!(responses, ["HTTP/1.1 403 Forbidden", "HTTP/1.1 200 OK"]);
    assert_eq!(["error", "disabled"].map(|name| fixture.stat(&format!("http.in.ext_authz.{name}"))), [1, 1]);
}

#[tokio::test]
async fn addresses_are_those_of_the_connection() {
    let direct = Condition::DirectRemoteIp("10.9.8.7/32".parse().unwrap());
    let all = Condition::And(vec![direct, Condition::DestinationPort(8080)]);
    let filter = HttpFilter::new(Rbac::new(rules(RbacAction::Allow, "p", all)));
    let forged = "x-forwarded-for: 1.2.3.4\r\n";
    let (_, responses, _) = exchange(vec![filter], "-\n", &[("/", ""), ("/", forged)]).await;
    assert_eq!(responses, ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK"]);
}
