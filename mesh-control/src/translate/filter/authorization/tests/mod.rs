//! The translation of policies, compared with protobuf-JSON.

mod custom;

use std::sync::Arc;

use mesh_xds::json::from_text;

use super::*;
use crate::config::{Labels, Strictness};
use crate::diagnostic::Source;
use crate::load::Loaded;
use crate::translate::Node;

fn policy(metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{{metadata}}}\nspec: {spec}\n"
    )
}

fn load(text: &str) -> Loaded {
    let loaded = Loaded::from_sources(vec![Arc::new(Source::new("a.yaml", text))], Strictness::Strict);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    loaded
}

/// What the only policy `p` of namespace `foo` becomes.
fn built(spec: &str, protocol: Protocol) -> rbac::Rbac {
    let loaded = load(&policy("name: p, namespace: foo", spec));
    let policies: Vec<_> = loaded.mesh.config.authorization_policies.iter().collect();
    let action = match policies[0].action {
        AuthorizationAction::Deny => Action::Deny,
        AuthorizationAction::Audit => Action::Log,
        _ => Action::Allow,
    };
    build_action(&policies, action, protocol, &TrustDomains::new("cluster.local", &[])).rules.unwrap()
}

/// The policy of a rule has these permissions and principals.
#[track_caller]
fn check(rule: &str, permissions: &str, principals: &str) {
    let built = built(&format!("{{rules: [{rule}]}}"), Protocol::Http);
    let text = format!("{{permissions: [{permissions}], principals: [{principals}]}}");
    let expected: rbac::Policy = from_text(&text, "expected").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(built.policies["ns[foo]-policy[p]-rule[0]"], expected, "{rule}");
}

const ANYTHING: &str = "{and_rules: {rules: [{any: true}]}}";
const ANYONE: &str = "{and_ids: {ids: [{any: true}]}}";

#[test]
fn operations_become_permissions() {
    let header = |name: &str, rest: &str| format!("{{header: {{name: ':{name}', {rest}}}}}");
    let or = |rules: &[&str]| format!("{{or_rules: {{rules: [{}]}}}}", rules.join(", "));
    let template = "{uri_template: {name: uri-template, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.\
                    match.uri_template.v3.UriTemplateMatchConfig, path_template: /d/*/**}}}";
    let all = [
        or(&[
            &header("authority", "string_match: {exact: a.b, ignore_case: true}"),
            &header("authority", "string_match: {suffix: .c, ignore_case: true}"),
        ]),
        or(&[&header("method", "string_match: {exact: GET}"), &header("method", "present_match: true")]),
        or(&[
            "{url_path: {path: {exact: /a}}}",
            "{url_path: {path: {prefix: /b}}}",
            "{url_path: {path: {suffix: /c}}}",
            "{url_path: {path: {safe_regex: {regex: .+}}}}",
            template,
        ]),
        format!("{{not_rule: {}}}", or(&["{url_path: {path: {exact: /a/x}}}"])),
        or(&["{destination_port: 80}"]),
    ];
    check(
        "{to: [{operation: {hosts: [a.b, '*.c'], methods: [GET, '*'], paths: [/a, /b*, '*/c', '*', '/d/{*}/{**}'], \
         notPaths: [/a/x], ports: ['80']}}, {operation: {methods: [GET]}}]}",
        &format!(
            "{{and_rules: {{rules: [{}]}}}}, {{and_rules: {{rules: [{}]}}}}",
            all.join(", "),
            or(&[&header("method", "string_match: {exact: GET}")])
        ),
        ANYONE,
    );
}

#[test]
fn sources_become_principals() {
    let name = |matcher: &str| format!("{{authenticated: {{principal_name: {{{matcher}}}}}}}");
    let or = |ids: &[&str]| format!("{{or_ids: {{ids: [{}]}}}}", ids.join(", "));
    for (source, expected) in [
        (
            "principals: [cluster.local/ns/a/sa/b, '*', 'td/*', '*.b']",
            vec![
                name("exact: spiffe://cluster.local/ns/a/sa/b"),
                name("safe_regex: {regex: .+}"),
                name("prefix: spiffe://td/"),
                name("safe_regex: {regex: 'spiffe://.*\\.b'}"),
            ],
        ),
        (
            "namespaces: [a, 'b-*']",
            vec![name("safe_regex: {regex: .*/ns/a/.*}"), name("safe_regex: {regex: .*/ns/b-.*/.*}")],
        ),
        (
            "serviceAccounts: [a.b/c, d]",
            vec![
                name("safe_regex: {regex: 'spiffe://.+/ns/a\\.b/(.+/|)sa/c(/.+)?'}"),
                name("safe_regex: {regex: 'spiffe://.+/ns/foo/(.+/|)sa/d(/.+)?'}"),
            ],
        ),
        (
            "trustDomains: [td, '*', '*.td']",
            vec![
                name("prefix: spiffe://td/"),
                name("prefix: 'spiffe://'"),
                name("safe_regex: {regex: 'spiffe://[^/]*\\.td/.*'}"),
            ],
        ),
        (
            "ipBlocks: [10.0.0.1, '10.1.0.0/16']",
            vec![
                "{direct_remote_ip: {address_prefix: 10.0.0.1, prefix_len: 32}}".to_owned(),
                "{direct_remote_ip: {address_prefix: 10.1.0.0, prefix_len: 16}}".to_owned(),
            ],
        ),
        ("remoteIpBlocks: ['::1']", vec!["{remote_ip: {address_prefix: '::1', prefix_len: 128}}".to_owned()]),
    ] {
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        let rule = format!("{{from: [{{source: {{{source}}}}}]}}");
        check(&rule, ANYTHING, &format!("{{and_ids: {{ids: [{}]}}}}", or(&expected)));
        let (field, values) = source.split_once(':').unwrap();
        let not = format!("not{}{}", field[..1].to_uppercase(), &field[1..]);
        let rule = format!("{{from: [{{source: {{{not}:{values}}}}}]}}");
        check(&rule, ANYTHING, &format!("{{and_ids: {{ids: [{{not_id: {}}}]}}}}", or(&expected)));
    }
}

#[test]
fn tokens_are_matched_by_the_metadata_of_their_filter() {
    let claim = |name: &str, value: &str| {
        let path = format!("path: [{{key: payload}}, {name}]");
        format!("{{metadata: {{filter: envoy.filters.http.jwt_authn, {path}, value: {value}}}}}")
    };
    for (value, issuer, subject) in [
        ("a/b/c", "exact: a/b", "exact: c"),
        ("*", "safe_regex: {regex: .+}", "safe_regex: {regex: .+}"),
        ("*/s", "safe_regex: {regex: .+}", "exact: s"),
        ("*a/s", "suffix: a", "exact: s"),
        ("*s", "safe_regex: {regex: .+}", "suffix: s"),
        ("i/*", "exact: i", "safe_regex: {regex: .+}"),
        ("i/p*", "exact: i", "prefix: p"),
        ("p*", "prefix: p", "safe_regex: {regex: .+}"),
    ] {
        let of =
            |name: &str, matcher: &str| claim(&format!("{{key: {name}}}"), &format!("{{string_match: {{{matcher}}}}}"));
        let both = format!("{{and_ids: {{ids: [{}, {}]}}}}", of("iss", issuer), of("sub", subject));
        let rule = format!("{{from: [{{source: {{requestPrincipals: ['{value}']}}}}]}}");
        check(&rule, ANYTHING, &format!("{{and_ids: {{ids: [{both}]}}}}"));
    }
    let either =
        |value: &str| format!("{{or_match: {{value_matchers: [{{list_match: {{one_of: {value}}}}}, {value}]}}}}");
    let one = "{string_match: {exact: v}}";
    let two = "{or_match: {value_matchers: [{string_match: {exact: v}}, {string_match: {prefix: w}}]}}";
    for (condition, expected) in [
        ("key: request.auth.audiences, values: [v]", claim("{key: aud}", &either(one))),
        ("key: request.auth.presenter, values: [v, w*]", claim("{key: azp}", &either(two))),
        ("key: 'request.auth.claims[a][b]', values: [v]", claim("{key: a}, {key: b}", &either(one))),
        ("key: 'request.auth.claims[a]', notValues: [v]", format!("{{not_id: {}}}", claim("{key: a}", &either(one)))),
    ] {
        check(&format!("{{when: [{{{condition}}}]}}"), ANYTHING, &format!("{{and_ids: {{ids: [{expected}]}}}}"));
    }
}

#[test]
fn conditions_are_added_to_what_they_are_about() {
    for (condition, permission, principal) in [
        ("key: destination.port, values: ['80']", "{or_rules: {rules: [{destination_port: 80}]}}", "{any: true}"),
        (
            "key: connection.sni, notValues: [a]",
            "{not_rule: {or_rules: {rules: [{requested_server_name: {exact: a}}]}}}",
            "{any: true}",
        ),
        (
            "key: 'experimental.envoy.filters.a[k]', values: [v, '[w]']",
            "{metadata: {filter: envoy.filters.a, path: [{key: k}], value: {or_match: {value_matchers: [{string_match: \
             {exact: v}}, {list_match: {one_of: {string_match: {exact: w}}}}]}}}}",
            "{any: true}",
        ),
        (
            "key: 'request.headers[x-a]', values: [v*]",
            "{any: true}",
            "{or_ids: {ids: [{header: {name: x-a, string_match: {prefix: v}}}]}}",
        ),
    ] {
        check(
            &format!("{{when: [{{{condition}}}]}}"),
            &format!("{{and_rules: {{rules: [{permission}]}}}}"),
            &format!("{{and_ids: {{ids: [{principal}]}}}}"),
        );
    }
}

#[test]
fn connections_have_no_attributes_of_requests() {
    let http_only = "{to: [{operation: {methods: [GET]}}]}";
    let both = "{to: [{operation: {methods: [GET], ports: ['80']}}]}";
    let spec = format!("rules: [{http_only}, {both}, {{to: [{{operation: {{ports: ['80']}}}}]}}]");
    let allowed = built(&format!("{{{spec}}}"), Protocol::Tcp);
    assert_eq!(allowed.policies.keys().collect::<Vec<_>>(), ["ns[foo]-policy[p]-rule[2]"]);
    let denied = built(&format!("{{action: DENY, {spec}}}"), Protocol::Tcp);
    assert_eq!(denied.policies.len(), 3, "what denies, denies more");
    let everything: rbac::Permission = from_text(ANYTHING, "expected").unwrap();
    assert_eq!(denied.policies["ns[foo]-policy[p]-rule[0]"].permissions, [everything]);
    assert_eq!(denied.policies["ns[foo]-policy[p]-rule[1]"], denied.policies["ns[foo]-policy[p]-rule[2]"]);
}

#[test]
fn a_policy_without_rules_allows_nothing() {
    let built = built("{}", Protocol::Http);
    assert_eq!(built.policies["ns[foo]-policy[p]-rule[0]"], rule::matches_nothing());
}

/// The filters of requests of a node with the label `app: a`, as their names and policies.
fn filters(text: &str, node: &Node, side: Side) -> Vec<(String, Vec<String>, Vec<String>)> {
    let loaded = load(text);
    let view = View::new(&loaded.mesh, node);
    let mut filters = Vec::new();
    add_http(&view, side, &mut filters);
    let read = |filter: http::HttpFilter| {
        let Some(http::http_filter::ConfigType::TypedConfig(config)) = filter.config_type else { panic!("no config") };
        let config: http_rbac::Rbac = config.to_msg().unwrap();
        let names =
            |rules: Option<rbac::Rbac>| rules.map_or_else(Vec::new, |rules| rules.policies.into_keys().collect());
        (filter.name, names(config.rules), names(config.shadow_rules))
    };
    filters.into_iter().map(read).collect()
}

fn node(role: Role) -> Node {
    let labels = Labels::from([("app".to_owned(), "a".to_owned())]);
    Node::new(role, Some("a"), Some("foo"), labels).unwrap()
}

#[test]
fn a_node_has_the_policies_that_select_it_in_the_order_of_actions() {
    let deny = "action: DENY, rules: [{}]";
    let text = [
        policy("name: allow, namespace: foo", "{rules: [{}]}"),
        policy("name: deny, namespace: foo", &format!("{{selector: {{matchLabels: {{app: a}}}}, {deny}}}")),
        policy("name: audit, namespace: foo", "{action: AUDIT, rules: [{}]}"),
        policy("name: mesh, namespace: istio-system", &format!("{{{deny}}}")),
        policy("name: b, namespace: foo", &format!("{{selector: {{matchLabels: {{app: b}}}}, {deny}}}")),
        policy("name: other, namespace: bar", &format!("{{{deny}}}")),
        policy("name: dry, namespace: foo, annotations: {istio.io/dry-run: 'true'}", "{rules: [{}]}"),
    ]
    .concat();
    let named = |namespace: &str, name: &str| format!("ns[{namespace}]-policy[{name}]-rule[0]");
    let name = |suffix: &str| format!("envoy.filters.http.rbac{suffix}");
    let expected = |suffixes: [&str; 2]| {
        vec![
            (name(suffixes[0]), vec![named("foo", "audit")], vec![]),
            (name(suffixes[1]), vec![named("foo", "deny"), named("istio-system", "mesh")], vec![]),
            (name(""), vec![named("foo", "allow")], vec![named("foo", "dry")]),
        ]
    };
    let gateway = node(Role::Gateway);
    assert_eq!(filters(&text, &gateway, Side::Edge), expected(["", ""]));
    let library = node(Role::Library);
    assert_eq!(filters(&text, &library, Side::Inbound), expected([".AUDIT", ".DENY"]));
    assert_eq!(filters(&text, &library, Side::Outbound), vec![], "calls are the other side's to allow");
}
