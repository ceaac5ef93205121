//! MeshConfig, in the objects that Istio's users have it in.

use super::*;
use crate::config::{ExtAuthzProtocol, OutboundTrafficPolicy, PathNormalization, ProviderKind};

/// The ConfigMap with this MeshConfig.
fn config_map(mesh: &str) -> String {
    let indented: String = mesh.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n  namespace: istio-system\ndata:\n  \
         meshNetworks: 'networks: {{}}'\n  mesh: |-\n{indented}"
    )
}

/// The first line of a MeshConfig in [`config_map`].
const FIRST: u32 = 9;

#[test]
fn a_directory_without_it_has_the_defaults_of_istio() {
    let mesh_config = load(&[("mesh.yaml", MESH)]).mesh.config.mesh_config;
    assert_eq!((mesh_config.trust_domain(), mesh_config.root_namespace()), ("cluster.local", "istio-system"));
    assert!(mesh_config.trust_domain_aliases().is_empty() && mesh_config.enable_auto_mtls());
    assert_eq!(mesh_config.path_normalization, PathNormalization::Base);
    assert!(mesh_config.position.is_none());
}

const SETTINGS: &str = "\
# what an installation writes
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
  proxyMetadata: {A: B}
defaultProviders: {metrics: [prometheus]}
enablePrometheusMerge: true
rootNamespace: mesh-root
trustDomain: shop.example
trustDomainAliases: [old.example, older.example]
enableAutoMtls: false
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}
";

#[test]
fn it_is_read_from_the_config_map_and_from_an_operator() {
    let operator: String = SETTINGS.lines().map(|line| format!("    {line}\n")).collect();
    let operator = format!(
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{name: install}}\n\
         spec:\n  profile: demo\n  meshConfig:\n{operator}"
    );
    for text in [config_map(SETTINGS), operator] {
        let loaded = load(&[("mesh.yaml", MESH), ("x.yaml", &text)]);
        assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
        assert!(loaded.left_alone.is_empty());
        let mesh_config = loaded.mesh.config.mesh_config;
        assert_eq!((mesh_config.trust_domain(), mesh_config.root_namespace()), ("shop.example", "mesh-root"));
        assert_eq!(mesh_config.trust_domain_aliases(), ["old.example", "older.example"]);
        assert!(!mesh_config.enable_auto_mtls());
        assert_eq!(mesh_config.path_normalization, PathNormalization::DecodeAndMergeSlashes);
        assert_eq!(mesh_config.outbound_traffic_policy, Some(OutboundTrafficPolicy::RegistryOnly));
    }
}

#[test]
fn fields_without_effect_are_named_with_the_reason() {
    let found = findings(&config_map("trustDomain: a\ndefaultConfig: {concurrency: 2}\naccessLogFile: /dev/stdout\n"));
    assert_eq!(
        found,
        [
            "MESH0006 10 `defaultConfig` data.mesh.defaultConfig: defaultConfig has no effect: it configures the process of \
             Istio's proxy; mesh-proxy and programs have options of their own",
            "MESH0006 11 `accessLogFile` data.mesh.accessLogFile: accessLogFile has no effect: access logs are configured in \
             the program",
        ]
    );
}

#[test]
fn mistakes_have_their_position_in_the_config_map() {
    for (mesh, expected) in [
        ("\n\ntrustDomain: 'a b'", "IST0106 11 `'a b'` data.mesh.trustDomain: \"a b\" is not a trust domain"),
        ("trustDomainAliases: [a, B]", "IST0106 9 `B` data.mesh.trustDomainAliases[1]: \"B\" is not a trust domain"),
        ("trustDomian: a", "IST0106 9 `trustDomian` data.mesh.trustDomian: unknown field \"trustDomian\""),
        ("rootNamespace: a.b", "IST0106 9 `a.b` data.mesh.rootNamespace: \"a.b\" is not a namespace"),
        ("enableAutoMtls: 1", "IST0106 9 `1` data.mesh.enableAutoMtls: expected true or false"),
        ("meshMTLS: {}", "MESH0003 9 `meshMTLS` data.mesh.meshMTLS: meshMTLS is not supported yet"),
        ("connectTimeout: 1s", "MESH0003 9 `connectTimeout` data.mesh.connectTimeout: connectTimeout is not supported"),
        (
            "pathNormalization: {normalization: BAES}",
            "IST0106 9 `BAES` data.mesh.pathNormalization.normalization: the string \"BAES\" is not a value",
        ),
        (
            "defaultProviders: {tracing: [zipkin]}",
            "MESH0003 9 `tracing` data.mesh.defaultProviders.tracing: tracing is not supported",
        ),
        (
            "defaultProviders: {metrics: [prometheus, other]}",
            "MESH0003 9 `other` data.mesh.defaultProviders.metrics[1]: \"other\" is not supported yet",
        ),
        ("a: [", "MESH0002 "),
        ("a: 1\n---\nb: 1", "MESH0002 11 `b` data.mesh: expected one document, found several"),
    ] {
        let found = findings(&config_map(mesh));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{mesh:?} gave {found:#?}, expected {expected:?}");
    }
    // In another form than a literal block there are no lines of its own.
    let json = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "trustDomain: a\nfoo: b\n"}}"#;
    check(json, "IST0106 2 `\"trustDomain: a\\nfoo: b\\n\"` data.mesh.foo: unknown field \"foo\"");
    let networks = config_map("").replace("networks: {}", "networks: {a: {}}");
    check(&networks, "MESH0003 7 `'networks: {a: {}}'` data.meshNetworks: networks are not supported yet");
}

#[test]
fn only_one_may_be_there_and_other_config_maps_are_left_alone() {
    let (first, second) = (config_map("trustDomain: a\n"), config_map("trustDomain: b\n"));
    let found = findings(&format!("{first}---\n{second}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("MESH0004 ") && found[0].ends_with("the settings of the mesh are there twice"));
    for other in [first.replace("name: istio\n", "name: istio-ca\n"), first.replace("istio-system", "shop")] {
        let loaded = load(&[("x.yaml", &other)]);
        assert!(loaded.diagnostics.is_empty() && loaded.left_alone.len() == 1, "{:?}", loaded.diagnostics);
        assert_eq!(loaded.mesh.config.mesh_config.trust_domain(), "cluster.local");
    }
}

#[test]
fn providers_that_authorize_requests_are_read_whole() {
    let text = config_map(
        "extensionProviders:\n\
         - name: http\n  envoyExtAuthzHttp:\n    service: auth/authz.auth.svc.cluster.local\n    port: 8000\n    \
         timeout: 0.5s\n    failOpen: true\n    clearRouteCache: true\n    statusOnError: '503'\n    pathPrefix: /check\n    \
         includeRequestHeadersInCheck: [x-a, 'x-b*']\n    includeAdditionalHeadersInCheck: {x-c: d}\n    \
         includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true}\n    \
         headersToUpstreamOnAllow: [x-user]\n    headersToDownstreamOnDeny: ['*-reason']\n    \
         headersToDownstreamOnAllow: [x-ok]\n\
         - name: grpc\n  envoyExtAuthzGrpc: {service: authz.example, port: 9000}\n\
         - name: traces\n  opentelemetry: {service: otel.example, port: 4317}\n",
    );
    let loaded = load(&[("x.yaml", &text)]);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let mesh_config = &loaded.mesh.config.mesh_config;
    let ext_authz = |name| match &mesh_config.extension_provider(name).unwrap().kind {
        ProviderKind::ExtAuthz(provider) => provider,
        ProviderKind::Telemetry(name) => panic!("{name}"),
    };
    let http = ext_authz("http");
    assert_eq!((http.service.as_str(), http.port), ("auth/authz.auth.svc.cluster.local", 8000));
    assert_eq!((http.timeout.as_millis(), http.fail_open, http.clear_route_cache), (500, true, true));
    assert_eq!(http.status_on_error.map(|status| status.as_u16()), Some(503));
    let body = http.include_request_body.unwrap();
    assert_eq!((body.max_request_bytes, body.allow_partial_message, body.pack_as_bytes), (10, true, false));
    let ExtAuthzProtocol::Http(protocol) = &http.protocol else { panic!("it is asked over HTTP") };
    assert_eq!(protocol.path_prefix, "/check");
    assert_eq!(protocol.include_request_headers, ["x-a", "x-b*"]);
    assert_eq!(protocol.include_additional_headers["x-c"], "d");
    assert_eq!(protocol.headers_to_upstream_on_allow, ["x-user"]);
    assert_eq!(protocol.headers_to_downstream_on_deny, ["*-reason"]);
    assert_eq!(protocol.headers_to_downstream_on_allow, ["x-ok"]);
    let grpc = ext_authz("grpc");
    assert!(matches!(grpc.protocol, ExtAuthzProtocol::Grpc) && !grpc.fail_open && grpc.include_request_body.is_none());
    assert_eq!((grpc.timeout.as_secs(), grpc.status_on_error), (600, None));
    assert!(matches!(mesh_config.extension_provider("traces").unwrap().kind, ProviderKind::Telemetry("opentelemetry")));
    assert!(mesh_config.extension_provider("other").is_none());
}

#[test]
fn mistakes_in_providers_are_found() {
    for (provider, expected) in [
        ("{name: a, envoyExtAuthzGrpc: {port: 1}}", "service: service is missing"),
        ("{name: a, envoyExtAuthzGrpc: {service: a.example}}", "port: port is missing"),
        ("{name: a, envoyExtAuthzGrpc: {service: a.example, port: 0}}", "port: 0"),
        ("{name: a, envoyExtAuthzGrpc: {service: a/b/c, port: 1}}", "service: \"a/b/c\" is not a service"),
        ("{name: a, envoyExtAuthzGrpc: {service: a.example, port: 1, timeout: 0s}}", "timeout: \"0s\" is too short"),
        (
            "{name: a, envoyExtAuthzGrpc: {service: a.example, port: 1, statusOnError: '99'}}",
            "statusOnError: \"99\" is",
        ),
        ("{name: a, envoyExtAuthzGrpc: {service: a.example, port: 1, pathPrefix: /}}", "pathPrefix: unknown field"),
        (
            "{name: a, envoyExtAuthzHttp: {service: a.example, port: 1, pathPrefix: a}}",
            "pathPrefix: \"a\" does not begin",
        ),
        (
            "{name: a, envoyExtAuthzHttp: {service: a.example, port: 1, headersToUpstreamOnAllow: ['a*b']}}",
            "headersToUpstreamOnAllow[0]: \"a*b\" is not a name",
        ),
        (
            "{name: a, envoyExtAuthzGrpc: {service: a.example, port: 1, statusOnError: '299'}}",
            "statusOnError: \"299\" is not a status of HTTP that Envoy knows",
        ),
        (
            "{name: a, envoyExtAuthzHttp: {service: a.example, port: 1, includeAdditionalHeadersInCheck: {'a b': c}}}",
            "includeAdditionalHeadersInCheck: \"a b\" with the value \"c\" is not a header",
        ),
        (
            "{name: a, envoyExtAuthzHttp: {service: a.example, port: 1, includeAdditionalHeadersInCheck: {a: '%REQ(b)%'}}}",
            "includeAdditionalHeadersInCheck: the value \"%REQ(b)%\" of \"a\" is not supported",
        ),
        (
            "{name: a, envoyExtAuthzHttp: {service: a.example, port: 1, includeRequestBodyInCheck: {}}}",
            "includeRequestBodyInCheck.maxRequestBytes: maxRequestBytes is missing",
        ),
    ] {
        let found = findings(&config_map(&format!("extensionProviders:\n- {provider}\n")));
        let kind = if provider.contains("Grpc") { "envoyExtAuthzGrpc" } else { "envoyExtAuthzHttp" };
        let expected = format!("data.mesh.extensionProviders[0].{kind}.{expected}");
        let line = format!("IST0106 {} ", FIRST + 1);
        let is_expected = found.len() == 1 && found[0].starts_with(&line) && found[0].contains(&expected);
        assert!(is_expected, "{provider} gave {found:#?}, expected {expected:?}");
    }
    let twice = "extensionProviders: [{name: a, zipkin: {}}, {name: a, zipkin: {}}]\n";
    check(&config_map(twice), "MESH0004 9 `a` data.mesh.extensionProviders: two providers are called \"a\"");
    let none = "extensionProviders: [{name: a}]\n";
    check(&config_map(none), "IST0106 9 `{` data.mesh.extensionProviders[0]: the provider is none");
}
