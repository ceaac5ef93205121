//! AuthorizationPolicies.

use super::findings;

fn policy(spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: x}}\nspec: {spec}\n")
}

/// The findings about a policy, in a mesh with the provider `p`.
fn found(text: &str) -> Vec<String> {
    findings(&format!("{text}---\n{PROVIDER}"))
}

/// A provider and its service.
const PROVIDER: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: 'extensionProviders: [{name: p, envoyExtAuthzHttp: {service: authz.example, port: 80}}, {name: g, envoyExtAuthzGrpc:
    {service: authz.example, port: 80}}, {name: z, zipkin: {}}, {name: n, envoyExtAuthzHttp: {service: none.example, port: 80}}]'
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: authz}
spec: {hosts: [authz.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
";

#[track_caller]
fn check(spec: &str, expected: &str) {
    let found = found(&policy(spec));
    assert_eq!(found.len(), 1, "expected one finding of {spec:?}, found {found:#?}");
    assert!(found[0].starts_with(expected), "{spec:?}\n gave      {}\n expected {expected}", found[0]);
}

#[track_caller]
fn check_source(source: &str, expected: &str) {
    check(&format!("{{rules: [{{from: [{{source: {source}}}]}}]}}"), expected);
}

#[track_caller]
fn check_operation(operation: &str, expected: &str) {
    check(&format!("{{rules: [{{to: [{{operation: {operation}}}]}}]}}"), expected);
}

#[test]
fn policies_that_istio_accepts_are_read() {
    for spec in [
        "{}",
        "{rules: [{}]}",
        "{action: DENY, rules: [{}]}",
        "{action: AUDIT}",
        "{selector: {matchLabels: {app: reviews}}, action: ALLOW, rules: [{from: [{source: {principals: ['*']}}]}]}",
        "{rules: [{from: [{source: {serviceAccounts: [a/b, c]}}, {source: {trustDomains: ['*.example', td, '*']}}]}]}",
        "{rules: [{from: [{source: {ipBlocks: [10.0.0.1, '10.1.0.0/16', '::1', 'fd00::/8']}}]}]}",
        "{rules: [{to: [{operation: {paths: [/a, /b*, '*/c', '*', '/d/{*}/{**}', '/d/{**}/e']}}]}]}",
        "{rules: [{to: [{operation: {ports: ['0', '65535'], notPorts: ['80']}}]}]}",
        "{rules: [{when: [{key: 'request.headers[x-a]', notValues: [b]}]}]}",
    ] {
        assert_eq!(found(&policy(spec)), Vec::<String>::new(), "{spec}");
    }
    let custom = "{action: CUSTOM, provider: {name: p}, rules: [{to: [{operation: {paths: [/a]}}]}]}";
    assert_eq!(found(&policy(custom)), Vec::<String>::new());
}

#[test]
fn an_action_requires_its_fields() {
    for (spec, expected) in [
        ("{action: ALOW}", "IST0106 4 `ALOW` spec.action: the string \"ALOW\" is not a value"),
        ("{action: DENY}", "IST0106 4 `action` spec.rules: action DENY without rules has no effect"),
        ("{action: DENY, rules: []}", "IST0106 4 `action` spec.rules: action DENY without rules"),
        ("{action: CUSTOM, provider: {name: p}}", "IST0106 4 `action` spec.rules: action CUSTOM without rules"),
        ("{action: CUSTOM, rules: [{}]}", "IST0106 4 `action` spec.provider: provider is missing"),
        ("{action: CUSTOM, provider: {name: ''}, rules: [{}]}", "IST0106 4 `''` spec.provider.name: name is empty"),
        ("{provider: {name: p}}", "IST0106 4 `provider` spec.provider: provider cannot be set with action ALLOW"),
        (
            "{action: CUSTOM, provider: {name: p}, rules: [{from: [{source: {notNamespaces: [a]}}]}]}",
            "IST0106 4 `{` spec.rules[0].from[0].source.namespaces: namespaces is not supported with action CUSTOM",
        ),
        (
            "{action: CUSTOM, provider: {name: p}, rules: [{when: [{key: source.principal, values: [a]}]}]}",
            "IST0106 4 `{` spec.rules[0].when[0].key: a condition on an identity",
        ),
        ("{targetRefs: [{kind: Gateway, name: a}]}", "MESH0003 4 `targetRefs` spec.targetRefs: targetRefs is not"),
        ("{targetRef: {kind: Gateway, name: a}}", "MESH0003 4 `targetRef` spec.targetRef: targetRef is not"),
        ("{rule: []}", "IST0106 4 `rule` spec.rule: unknown field \"rule\""),
    ] {
        check(spec, expected);
    }
}

#[test]
fn empty_parts_of_a_rule_are_refused() {
    for (spec, expected) in [
        ("{rules: [{from: []}]}", "IST0106 4 `from` spec.rules[0].from: from is empty"),
        ("{rules: [{to: []}]}", "IST0106 4 `to` spec.rules[0].to: to is empty"),
        ("{rules: [{from: [{}]}]}", "IST0106 4 `{` spec.rules[0].from[0].source: source is missing"),
        ("{rules: [{from: [{source: {}}]}]}", "IST0106 4 `{` spec.rules[0].from[0].source: source is empty"),
        ("{rules: [{to: [{operation: {}}]}]}", "IST0106 4 `{` spec.rules[0].to[0].operation: operation is empty"),
        (
            "{rules: [{to: [{operation: {methods: []}}]}]}",
            "IST0106 4 `methods` spec.rules[0].to[0].operation.methods: methods is empty",
        ),
        ("{rules: [{when: [{key: source.ip}]}]}", "IST0106 4 `{` spec.rules[0].when[0]: the condition has neither"),
        ("{rules: [{when: [{values: [a]}]}]}", "IST0106 4 `{` spec.rules[0].when[0].key: key is missing"),
        ("{rules: [~]}", "IST0106 4 `~` spec.rules[0]: expected an object"),
    ] {
        check(spec, expected);
    }
}

#[test]
fn values_have_the_form_of_their_field() {
    for (source, expected) in [
        ("{principals: ['']}", "IST0106 4 `''` spec.rules[0].from[0].source.principals[0]: the value is empty"),
        ("{ipBlocks: [10.0.0.0/33]}", "IST0106 4 `10.0.0.0/33` spec.rules[0].from[0].source.ipBlocks[0]: \"10.0"),
        ("{remoteIpBlocks: [a]}", "IST0106 4 `a` spec.rules[0].from[0].source.remoteIpBlocks[0]: \"a\" is not an IP"),
        ("{serviceAccounts: ['a/*']}", "IST0106 4 `'a/*'` spec.rules[0].from[0].source.serviceAccounts[0]: \"a/*\""),
        ("{serviceAccounts: [a/b/c]}", "IST0106 4 `a/b/c` spec.rules[0].from[0].source.serviceAccounts[0]: \"a/b/c\""),
        ("{serviceAccounts: [/a]}", "IST0106 4 `/a` spec.rules[0].from[0].source.serviceAccounts[0]: \"/a\" is not"),
        (
            "{serviceAccounts: [a], namespaces: [b]}",
            "IST0106 4 `namespaces` spec.rules[0].from[0].source.namespaces: namespaces cannot be set together",
        ),
        ("{trustDomains: ['a*b']}", "IST0106 4 `'a*b'` spec.rules[0].from[0].source.trustDomains[0]: \"a*b\" is not"),
        ("{trustDomains: [a/b]}", "IST0106 4 `a/b` spec.rules[0].from[0].source.trustDomains[0]: \"a/b\" is not"),
    ] {
        check_source(source, expected);
    }
    let accounts: Vec<_> = (0..17).map(|i| format!("a{i}")).collect();
    check_source(
        &format!("{{serviceAccounts: [{}]}}", accounts.join(",")),
        "IST0106 4 `serviceAccounts` spec.rules[0].from[0].source.serviceAccounts: 17 service accounts",
    );
    for (operation, expected) in [
        ("{ports: ['65536']}", "IST0106 4 `'65536'` spec.rules[0].to[0].operation.ports[0]: \"65536\" is not a port"),
        ("{ports: ['+1']}", "IST0106 4 `'+1'` spec.rules[0].to[0].operation.ports[0]: \"+1\" is not a port"),
        ("{ports: [80]}", "IST0106 4 `80` spec.rules[0].to[0].operation.ports[0]: expected a string"),
        (
            "{paths: ['/{**}/{*}']}",
            "IST0106 4 `'/{**}/{*}'` spec.rules[0].to[0].operation.paths[0]: \"/{**}/{*}\": {**}",
        ),
        (
            "{paths: ['/a{*}']}",
            "IST0106 4 `'/a{*}'` spec.rules[0].to[0].operation.paths[0]: \"/a{*}\": \"a{*}\" is neither",
        ),
        (
            "{paths: ['/a//{*}']}",
            "IST0106 4 `'/a//{*}'` spec.rules[0].to[0].operation.paths[0]: \"/a//{*}\": \"\" cannot",
        ),
        ("{paths: ['a/{*}']}", "IST0106 4 `'a/{*}'` spec.rules[0].to[0].operation.paths[0]: \"a/{*}\" does not begin"),
        ("{paths: ['/a?/{*}']}", "IST0106 4 `'/a?/{*}'` spec.rules[0].to[0].operation.paths[0]: \"/a?/{*}\": \"a?\""),
        ("{hosts: ['a*b']}", "IST0106 4 `'a*b'` spec.rules[0].to[0].operation.hosts[0]: \"a*b\": only one `*`"),
    ] {
        check_operation(operation, expected);
    }
    check(
        "{rules: [{when: [{key: destination.port, values: [x]}]}]}",
        "IST0106 4 `x` spec.rules[0].when[0].values[0]: \"x\" is not a port",
    );
    check(
        "{rules: [{when: [{key: source.pod, values: [x]}]}]}",
        "IST0106 4 `source.pod` spec.rules[0].when[0].key: \"source.pod\" is not a key: unknown attribute",
    );
}

#[test]
fn likely_mistakes_are_warnings() {
    for spec in [
        "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}",
        "{action: DENY, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}",
    ] {
        check(spec, "IST0106 4 `{` spec.rules[0]: the rule denies all connections to ports that are not HTTP");
    }
    for spec in [
        "{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]}",
        "{action: DENY, rules: [{from: [{source: {principals: ['*'], requestPrincipals: ['*']}}]}]}",
    ] {
        assert_eq!(found(&policy(spec)), Vec::<String>::new(), "{spec}");
    }
    check("{selector: {}}", "IST0106 4 `{` spec.selector: the selector has no labels");
    check("{selector: {matchLabels: {app: '*'}}}", "IST0106 4 `'*'` spec.selector.matchLabels.app: \"*\" cannot be");
}

#[test]
fn a_dry_run_is_an_annotation_of_allow_and_deny() {
    let annotated = |value: &str, spec: &str| {
        let metadata = format!("{{name: x, annotations: {{istio.io/dry-run: '{value}'}}}}");
        found(&policy(spec).replace("{name: x}", &metadata))
    };
    assert_eq!(annotated("true", "{}"), Vec::<String>::new());
    assert_eq!(annotated("0", "{action: DENY, rules: [{}]}"), Vec::<String>::new());
    assert!(annotated("yes", "{}")[0].contains("has the value \"yes\""));
    assert!(annotated("true", "{action: AUDIT}")[0].contains("is for actions ALLOW and DENY, not for AUDIT"));
}

#[test]
fn a_provider_that_cannot_be_asked_is_a_warning() {
    let custom = |name: &str, provider: &str, selector: &str| {
        let spec = format!("{{action: CUSTOM, provider: {{name: {provider}}}, rules: [{{}}]{selector}}}");
        policy(&spec).replace("{name: x}", &format!("{{name: {name}}}"))
    };
    for (provider, expected) in [
        ("pp", "the MeshConfig has no extension provider \"pp\", so the requests that a rule matches are denied"),
        ("z", "extension provider \"z\" is of the kind zipkin, which does not authorize requests"),
        ("n", "no service is \"none.example\", which extension provider \"n\" names"),
        ("g", "authz.example is asked with gRPC, but its port 80 has another protocol"),
    ] {
        let found = found(&custom("x", provider, ""));
        let expected = format!("IST0101 4 `{provider}` spec.provider.name: {expected}");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:#?}\n expected {expected}");
    }
    let two = |of_first: &str, of_second: &str| {
        let both = [custom("x", "p", of_first), custom("y", "g", of_second)].join("---\n");
        let mut found = found(&both);
        found.retain(|finding| finding.contains("another provider"));
        found
    };
    let labels = |value: &str| format!(", selector: {{matchLabels: {{app: {value}}}}}");
    let found = two("", &labels("a"));
    let expected =
        "IST0101 9 `g` spec.provider.name: AuthorizationPolicy default/x names another provider, so a workload";
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    assert_eq!(two(&labels("b"), &labels("a")), Vec::<String>::new());
}
