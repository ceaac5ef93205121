use std::result::Result;

use mesh_core::filter::{
    FilterOverride, FilterOverrides,
    cors::CorsPolicy,
    fault::AbortStatus,
    header_mutation::{Mutation, Mutations},
    rbac,
};
use mesh_core::model::{
    AppendAction, FractionalPercent, HeaderMutation as Append, StringMatcher, StringPattern, format::Format,
};
use prost_types::Any;

use super::{chain::Chain, *};
use crate::decode::field::{FieldError, Notes};
use crate::json;
use crate::proto::envoy::config::route::v3::VirtualHost;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter::ConfigType,
};

const ROUTER: &str =
    "{name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

/// A filter called `name`; `rest` are fields of its configuration.
fn typed(name: &str, message: &str, rest: &str) -> String {
    format!("{{name: {name}, typed_config: {{'@type': type.googleapis.com/{message}{rest}}}}}")
}

/// The chain of these filters, and notes about fields without effect.
fn chain(filters: &[&str]) -> Result<(Chain, Vec<String>), String> {
    let text = format!("{{http_filters: [{}]}}", filters.join(", "));
    let manager: HttpConnectionManager = json::from_text(&text, "test").unwrap_or_else(|error| panic!("{error}"));
    let notes = Notes::default();
    let chain = decode_chain(&At::root(&notes), &manager.http_filters);
    finished(notes, chain)
}

/// Overrides of the filter `f`; `config` are the fields of an `Any`.
fn overrides(config: &str) -> Result<(FilterOverrides, Vec<String>), String> {
    let text = format!("{{typed_per_filter_config: {{f: {{'@type': type.googleapis.com/{config}}}}}}}");
    let host: VirtualHost = json::from_text(&text, "test").unwrap_or_else(|error| panic!("{text}: {error}"));
    let notes = Notes::default();
    let overrides = decode_overrides(&At::root(&notes), &host.typed_per_filter_config);
    finished(notes, overrides)
}

/// The outcome of decoding, with texts in place of notes and errors.
fn finished<T>(notes: Notes, result: Result<T, Box<FieldError>>) -> Result<(T, Vec<String>), String> {
    match notes.finish(result) {
        Ok((value, ignored)) => Ok((value, ignored.iter().map(ToString::to_string).collect())),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

#[test]
fn filters_with_a_policy_are_decoded_and_filters_without_effect_are_left_out() {
    let fault = typed("my fault", FAULT, ", abort: {http_status: 503, percentage: {numerator: 50}}");
    let disabled = fault.replace("{name: my fault", "{name: disabled, disabled: true");
    let exchange = ", type_url: type.googleapis.com/io.istio.http.peer_metadata.Config, \
                    value: {downstream_discovery: [{istio_headers: {}}]}";
    let exchange = typed("istio.metadata_exchange", "udpa.type.v1.TypedStruct", exchange);
    let stats = typed("stats", "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", "");
    let (chain, ignored) = chain(&[&fault, &exchange, &stats, &disabled, ROUTER]).unwrap();
    let filters = chain.filters.iter().map(|filter| (&*filter.name, filter.disabled));
    assert_eq!(filters.collect::<Vec<_>>(), [("my fault", false), ("disabled", true)]);
    let FilterConfig::Fault(fault) = &chain.filters[0].config else { panic!("{:?}", chain.filters[0]) };
    assert_eq!(fault.abort.unwrap().status, AbortStatus::Http(http::StatusCode::SERVICE_UNAVAILABLE));
    assert!(chain.peer_metadata.downstream_discovery && !chain.peer_metadata.upstream_discovery);
    assert_eq!(ignored, ["http_filters[2]: filter stats: it is statistics only"]);
}

#[test]
fn a_chain_is_refused_at_its_first_faulty_filter() {
    let buffer = "envoy.extensions.filters.http.buffer.v3.Buffer";
    let wrapped = format!(", type_url: type.googleapis.com/{buffer}");
    let off = ROUTER.replace("{name: router", "{name: router, disabled: true");
    let fault = typed("a", FAULT, "");
    for (filters, expected) in [
        (
            &[&*typed("buffer", buffer, ""), ROUTER][..],
            "http_filters[0]: http filter buffer (envoy.filters.http.buffer): not supported",
        ),
        (
            &[&*typed("buffer", "udpa.type.v1.TypedStruct", &wrapped), ROUTER],
            "http_filters[0]: http filter buffer (envoy.filters.http.buffer): not supported",
        ),
        (&[ROUTER, &fault], "http_filters[1]: \"a\" follows the router, which must be last"),
        (&[&fault, &fault, ROUTER], "http_filters[1].name: \"a\" is used twice"),
        (&[&fault], "http_filters: the last filter must be envoy.filters.http.router"),
        (&[&off], "http_filters[0].disabled: http filter router cannot be disabled"),
        (
            &[&*typed("a", FAULT, ", response_rate_limit: {}"), ROUTER],
            "http_filters[0].typed_config.response_rate_limit: not supported",
        ),
    ] {
        assert_eq!(chain(filters).unwrap_err(), expected);
    }
}

#[test]
fn a_filter_is_skipped_only_if_it_is_optional_and_unknown() {
    let chain = |type_url: &str, is_optional: bool| {
        let filter = |name: &str, config: Any| HttpFilter {
            name: name.to_owned(),
            is_optional,
            config_type: Some(ConfigType::TypedConfig(config)),
            ..HttpFilter::default()
        };
        let unknown = filter("x", Any { type_url: type_url.to_owned(), value: vec![] });
        let router = Router::default();
        let filters = [unknown, filter("router", Any::from_msg(&router).unwrap())];
        decode_chain(&At::root(&Notes::default()), &filters).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(chain("type.googleapis.com/some.Unknown", true), Ok(()));
    assert_eq!(
        chain("type.googleapis.com/some.Unknown", false).unwrap_err(),
        "http_filters[0]: http filter x (some.Unknown): not supported"
    );
    let known = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer";
    assert!(chain(known, true).is_err(), "a filter of Envoy is not skipped");
}

#[test]
fn an_override_configures_a_filter_or_enables_or_disables_it() {
    let decoded = |config: &str| overrides(config).map(|(overrides, _)| overrides.get("f").cloned().unwrap());
    let fault = decoded(&format!("{FAULT}, max_active_faults: 7")).unwrap();
    let FilterOverride::Config(PerRouteConfig::Fault(config)) = &fault else { panic!("{fault:?}") };
    assert_eq!(config.max_active_faults.unwrap().get(), 7);

    let wrapper = "envoy.config.route.v3.FilterConfig";
    let wrapped = format!("config: {{'@type': type.googleapis.com/{FAULT}, max_active_faults: 7}}");
    assert_eq!(decoded(&format!("{wrapper}, {wrapped}")), Ok(fault));
    assert_eq!(decoded(&format!("{wrapper}, disabled: true")), Ok(FilterOverride::Disabled));
    assert_eq!(decoded(&format!("{wrapper}, config: {{}}")), Ok(FilterOverride::Enabled));

    let at = "typed_per_filter_config[\"f\"]";
    let (disabled, ignored) = overrides(&format!("{wrapper}, disabled: true, {wrapped}")).unwrap();
    assert_eq!(disabled.get("f"), Some(&FilterOverride::Disabled));
    assert_eq!(ignored, [format!("{at}.config: the filter is disabled")]);
    let buffer = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute";
    for (config, expected) in [
        (wrapper.to_owned(), format!("{at}.config: is missing")),
        (buffer.to_owned(), format!("{at}: http filter configuration {buffer}: not supported")),
        (
            format!("{wrapper}, is_optional: true, config: {{'@type': type.googleapis.com/{buffer}}}"),
            format!("{at}.config: http filter configuration {buffer}: not supported"),
        ),
    ] {
        assert_eq!(decoded(&config).unwrap_err(), expected);
    }
}

#[test]
fn an_unknown_override_is_skipped_only_if_it_is_optional() {
    let decode = |is_optional: bool| {
        let config = Any { type_url: "type.googleapis.com/some.Unknown".to_owned(), value: vec![] };
        let wrapper = crate::proto::envoy::config::route::v3::FilterConfig {
            is_optional,
            config: Some(config),
            ..Default::default()
        };
        let configs = [("f".to_owned(), Any::from_msg(&wrapper).unwrap())].into();
        let notes = Notes::default();
        decode_overrides(&At::root(&notes), &configs)
            .map(|overrides| overrides.get("f").cloned())
            .map_err(|error| error.to_string())
    };
    assert_eq!(decode(true), Ok(Some(FilterOverride::Enabled)));
    assert_eq!(
        decode(false).unwrap_err(),
        "typed_per_filter_config[\"f\"].config: http filter configuration some.Unknown: not supported"
    );
}

#[test]
fn cors_policies_are_decoded() {
    let policy = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
    let decoded = |fields: &str| match overrides(&format!("{policy}{fields}"))?.0.get("f") {
        Some(FilterOverride::Config(PerRouteConfig::Cors(policy))) => Ok::<_, String>(CorsPolicy::clone(policy)),
        other => panic!("{other:?}"),
    };
    let value = |text| Some(http::HeaderValue::from_static(text));
    assert_eq!(decoded(""), Ok(CorsPolicy::default()));
    let mut expected = CorsPolicy::default();
    expected.allow_origin_string_match = vec![StringMatcher::exact("a")];
    expected.allow_methods = value("GET");
    expected.allow_headers = value("x-a");
    expected.expose_headers = value("x-e");
    expected.max_age = value("600");
    expected.allow_credentials = Some(false);
    expected.allow_private_network_access = Some(true);
    expected.forward_not_matching_preflights = Some(false);
    expected.filter_enabled = FractionalPercent::from_parts_per_million(50_000);
    expected.shadow_enabled = FractionalPercent::from_parts_per_million(70_000);
    assert_eq!(
        decoded(
            ", allow_origin_string_match: [{exact: a}], allow_methods: GET, allow_headers: x-a, expose_headers: x-e, \
             max_age: '600', allow_credentials: false, filter_enabled: {default_value: {numerator: 5}}, \
             shadow_enabled: {default_value: {numerator: 7}}, allow_private_network_access: true, \
             forward_not_matching_preflights: false"
        ),
        Ok(expected)
    );
    assert_eq!(
        decoded(", max_age: \"\\n\"").unwrap_err(),
        "typed_per_filter_config[\"f\"].max_age: \"\\n\" is not a header value"
    );
    let cors = typed("c", "envoy.extensions.filters.http.cors.v3.Cors", "");
    assert_eq!(chain(&[&cors, ROUTER]).unwrap().0.filters[0].config, FilterConfig::Cors(Arc::new(Cors)));
}

#[test]
fn the_deprecated_field_for_cors_is_refused() {
    let route = "{match: {prefix: /}, route: {cluster: a, cors: {max_age: '1'}}}";
    for (text, path) in [
        ("cors: {max_age: '1'}".to_owned(), "virtual_hosts[0].cors"),
        (format!("routes: [{route}]"), "virtual_hosts[0].routes[0].route.cors"),
    ] {
        let text = format!("{{virtual_hosts: [{{name: h, domains: ['*'], {text}}}]}}");
        let config = json::from_text(&text, "test").unwrap_or_else(|error| panic!("{error}"));
        let error = crate::resource::decode_routes(&config).unwrap_err().error;
        assert_eq!(error.path, path);
        assert!(error.reason.contains("typed_per_filter_config"), "{error}");
    }
}

#[test]
fn header_mutations_are_decoded() {
    let mutations = "mutations: {request_mutations: [{remove: X-A}, {append: {header: {key: x-b, value: '%PROTOCOL%'}, \
                     append_action: ADD_IF_ABSENT, keep_empty_value: true}}], \
                     response_mutations: [{remove_on_match: {key_matcher: {prefix: x-}}}]}";
    let message = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
    let filter = typed("m", message, &format!(", most_specific_header_mutations_wins: true, {mutations}"));
    let append = Append {
        name: http::HeaderName::from_static("x-b"),
        value: Format::parse("%PROTOCOL%").unwrap(),
        append_action: AppendAction::AddIfAbsent,
        keep_empty_value: true,
    };
    let expected = Mutations::new(
        vec![Mutation::Remove(http::HeaderName::from_static("x-a")), Mutation::Append(append)],
        vec![Mutation::RemoveOnMatch(StringMatcher::new(StringPattern::Prefix("x-".into()), false))],
    );
    let config = chain(&[&filter, ROUTER]).unwrap().0.filters.remove(0).config;
    let mut filter = HeaderMutation::new(expected.clone());
    filter.most_specific_header_mutations_wins = true;
    assert_eq!(config, FilterConfig::HeaderMutation(Arc::new(filter)));
    let per_route = overrides(&format!("{message}PerRoute, {mutations}")).unwrap().0;
    let expected = FilterOverride::Config(PerRouteConfig::HeaderMutation(Arc::new(expected)));
    assert_eq!(per_route.get("f"), Some(&expected));
}

#[test]
fn a_header_mutation_is_refused_at_the_field_that_is_not_supported() {
    for (mutations, expected) in [
        (
            "request_mutations: [{remove: ':path'}]",
            "request_mutations[0].remove: \":path\" is not the name of a header field",
        ),
        ("request_mutations: [{}]", "request_mutations[0]: none of append, remove and remove_on_match is given"),
        (
            "response_mutations: [{remove_on_match: {}}]",
            "response_mutations[0].remove_on_match.key_matcher: is missing",
        ),
        ("query_parameter_mutations: [{remove: a}]", "query_parameter_mutations: not supported"),
        ("response_trailers_mutations: [{remove: a}]", "response_trailers_mutations: not supported"),
        ("request_trailers_mutations: [{remove: a}]", "request_trailers_mutations: not supported"),
    ] {
        let message = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
        let filter = typed("m", message, &format!(", mutations: {{{mutations}}}"));
        let expected = format!("http_filters[0].typed_config.mutations.{expected}");
        assert_eq!(chain(&[&filter, ROUTER]).unwrap_err(), expected);
    }
}

const RBAC: &str = "envoy.extensions.filters.http.rbac.v3.RBAC";

/// The chain of an RBAC filter with one policy.
fn rbac(permission: &str, principal: &str) -> Result<rbac::Rules, String> {
    let policies = format!("{{p: {{permissions: [{permission}], principals: [{principal}]}}}}");
    let filter = typed("rbac", RBAC, &format!(", rules: {{action: DENY, policies: {policies}}}"));
    let (chain, _) = chain(&[&filter, ROUTER])?;
    let FilterConfig::Rbac(rbac) = &chain.filters[0].config else { panic!("{:?}", chain.filters[0]) };
    Ok(rbac.rules.as_ref().unwrap().rules().unwrap().clone())
}

#[test]
fn policies_are_decoded() {
    use mesh_core::model::{MetadataMatcher, ValueMatcher};
    use rbac::{Action, Condition, Policy, SanMatcher, UriTemplate};

    let always = || Condition::Always;
    let exact = StringMatcher::exact;
    let template = "typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.\
                    UriTemplateMatchConfig, path_template: '/a/*'}";
    for (permission, expected) in [
        ("{any: true}", always()),
        ("{and_rules: {rules: [{any: true}]}}", Condition::And(vec![always()])),
        ("{or_rules: {rules: [{any: true}]}}", Condition::Or(vec![always()])),
        ("{not_rule: {any: true}}", Condition::Not(Box::new(always()))),
        ("{url_path: {path: {exact: /a}}}", Condition::UrlPath(exact("/a"))),
        (
            "{destination_ip: {address_prefix: 10.0.0.0, prefix_len: 8}}",
            Condition::DestinationIp("10.0.0.0/8".parse().unwrap()),
        ),
        (
            "{destination_ip: {address_prefix: '::ffff:10.0.0.0', prefix_len: 104}}",
            Condition::DestinationIp("10.0.0.0/8".parse().unwrap()),
        ),
        ("{destination_port: 80}", Condition::DestinationPort(80)),
        ("{destination_port_range: {start: 1, end: 65536}}", Condition::DestinationPortRange(1..65_536)),
        ("{requested_server_name: {exact: a}}", Condition::RequestedServerName(exact("a"))),
        (
            &format!("{{uri_template: {{name: t, {template}}}}}"),
            Condition::UriTemplate(UriTemplate::parse("/a/*").unwrap()),
        ),
        (
            "{metadata: {filter: f, path: [{key: k}], value: {list_match: {one_of: {string_match: {exact: v}}}}, invert: true}}",
            Condition::Metadata(
                MetadataMatcher::new(
                    "f",
                    vec!["k".into()],
                    ValueMatcher::ListOneOf(Box::new(ValueMatcher::String(exact("v")))),
                )
                .inverted(true),
            ),
        ),
        (
            "{sourced_metadata: {metadata_matcher: {filter: f, path: [{key: k}], value: {bool_match: true}}, \
             metadata_source: ROUTE}}",
            Condition::RouteMetadata(MetadataMatcher::new("f", vec!["k".into()], ValueMatcher::Bool(true))),
        ),
    ] {
        let rules = rbac(permission, "{any: true}").unwrap();
        assert_eq!(
            (rules.action, &rules.policies["p"]),
            (Action::Deny, &Policy::new(vec![expected], vec![always()])),
            "{permission}"
        );
    }
    let mtls = "'@type': type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config";
    for (principal, expected) in [
        ("{authenticated: {}}", Condition::Authenticated(None)),
        ("{authenticated: {principal_name: {exact: a}}}", Condition::Authenticated(Some(exact("a")))),
        ("{remote_ip: {address_prefix: '::1', prefix_len: 128}}", Condition::RemoteIp("::1/128".parse().unwrap())),
        ("{not_id: {any: true}}", Condition::Not(Box::new(always()))),
        (
            &format!("{{custom: {{name: m, typed_config: {{{mtls}, any_validated_client_certificate: true}}}}}}"),
            Condition::MtlsAuthenticated(None),
        ),
        (
            &format!(
                "{{custom: {{name: m, typed_config: {{{mtls}, san_matcher: {{san_type: URI, matcher: {{exact: a}}}}}}}}}}"
            ),
            Condition::MtlsAuthenticated(Some(SanMatcher::Uri(exact("a")))),
        ),
    ] {
        let rules = rbac("{any: true}", principal).unwrap();
        assert_eq!(rules.policies["p"], Policy::new(vec![always()], vec![expected]), "{principal}");
    }
}

#[test]
fn policies_that_cannot_be_enforced_are_refused() {
    let path = "http_filters[0].typed_config.rules.policies[\"p\"]";
    for (permission, principal, expected) in [
        ("{}", "{any: true}", "permissions[0]"),
        ("{any: false}", "{any: true}", "permissions[0].any"),
        ("{destination_port_range: {start: 2, end: 2}}", "{any: true}", "permissions[0].destination_port_range: 2..2"),
        ("{matcher: {name: x}}", "{any: true}", "permissions[0].matcher: extension x"),
        (
            "{url_path: {path: {safe_regex: {regex: '('}}}}",
            "{any: true}",
            "permissions[0].url_path.path.safe_regex.regex",
        ),
        (
            "{any: true}",
            "{filter_state: {key: k, string_match: {exact: a}}}",
            "principals[0].filter_state: not supported",
        ),
        ("{any: true}", "{custom: {name: x}}", "principals[0].custom: extension x"),
    ] {
        let error = rbac(permission, principal).unwrap_err();
        assert!(error.starts_with(&format!("{path}.{expected}")), "{error}\nexpected {path}.{expected}");
    }
    let with = |rest: &str| chain(&[&typed("rbac", RBAC, rest), ROUTER]).map(|(_, ignored)| ignored);
    let policy = "permissions: [{any: true}], principals: [{any: true}]";
    let condition = with(&format!(", rules: {{policies: {{p: {{{policy}, condition: {{id: 1}}}}}}}}")).unwrap_err();
    assert!(condition.contains("policies[\"p\"].condition: not supported"), "{condition}");
    let logger = |rest: &str| {
        let config = "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}";
        with(&format!(
            ", rules: {{audit_logging_options: {{logger_configs: [{{audit_logger: {{name: l, {config}}}{rest}}}]}}}}"
        ))
    };
    assert!(logger("").unwrap_err().contains("logger_configs[0].audit_logger: logger l"));
    assert_eq!(logger(", is_optional: true").unwrap().len(), 1);
}

#[test]
fn a_route_may_have_policies_of_its_own_or_none() {
    let per_route = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
    let config = |rest: &str| {
        let (overrides, _) = overrides(&format!("{per_route}{rest}")).unwrap();
        let Some(FilterOverride::Config(PerRouteConfig::Rbac(config))) = overrides.get("f").cloned() else {
            panic!("{overrides:?}")
        };
        config
    };
    assert_eq!(*config(""), Rbac::default());
    let denies = config(", rbac: {rules: {action: DENY}, rules_stat_prefix: a}");
    assert!(denies.rules.is_some() && &*denies.rules_stat_prefix == "a");
    assert!(overrides(&format!("{per_route}, rbac: {{track_per_rule_stats: true}}")).is_err());
}

#[test]
fn a_matcher_becomes_rules_in_its_order() {
    use mesh_core::request::RequestHead;
    use rbac::Subject;

    let any = |message: &str, rest: &str| {
        format!("{{name: x, typed_config: {{'@type': type.googleapis.com/{message}{rest}}}}}")
    };
    let action = |name: &str, action: &str| {
        let config = any("envoy.config.rbac.v3.Action", &format!(", name: {name}, action: {action}"));
        format!("{{action: {config}}}")
    };
    let header =
        |name: &str| any("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", &format!(", header_name: {name}"));
    let single = |input: &str, value: &str| format!("{{single_predicate: {{input: {input}, {value}}}}}");
    let local = single(
        &any("envoy.extensions.matching.common_inputs.network.v3.DirectSourceIPInput", ""),
        &format!(
            "custom_match: {}",
            any(
                "envoy.extensions.matching.input_matchers.ip.v3.Ip",
                ", stat_prefix: ip, cidr_ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]"
            )
        ),
    );
    let tree = format!(
        "{{matcher: {{matcher_tree: {{input: {}, prefix_match_map: {{map: {{/: {}, /admin: {}}}}}}}}}}}",
        header("':path'"),
        action("reads", "ALLOW"),
        action("admin", "DENY"),
    );
    let get = single(&header("':method'"), "value_match: {exact: GET}");
    let list = format!(
        "matcher_list: {{matchers: [{{predicate: {{not_matcher: {local}}}, on_match: {}}}, {{predicate: {get}, on_match: {tree}}}]}}",
        action("remote", "DENY")
    );
    let matcher = format!("{{{list}, on_no_match: {}}}", action("writes", "LOG"));
    let decode = |fields: &str| {
        let (chain, _) = chain(&[&typed("rbac", RBAC, fields), ROUTER])?;
        let FilterConfig::Rbac(rbac) = &chain.filters[0].config else { panic!("{:?}", chain.filters[0]) };
        Ok::<_, String>(Arc::clone(rbac.rules.as_ref().unwrap()))
    };
    let engine = decode(&format!(", matcher: {matcher}")).unwrap();
    let headers = http::HeaderMap::new();
    for (method, path, from, allowed, policy) in [
        (http::Method::GET, "/a", "127.0.0.1:1", true, Some("reads")),
        (http::Method::GET, "/admin/x", "127.0.0.1:1", false, Some("admin")),
        (http::Method::GET, "*", "127.0.0.1:1", false, None),
        (http::Method::POST, "/admin", "127.0.0.1:1", true, Some("writes")),
        (http::Method::GET, "/a", "10.0.0.1:1", false, Some("remote")),
    ] {
        let method = &method;
        let head = RequestHead { method, target_scheme: None, authority: "a", path_and_query: path, headers: &headers };
        let subject = Subject { head: Some(head), direct_remote: from.parse().ok(), ..Subject::default() };
        let decision = engine.decide(&subject);
        assert_eq!((decision.is_allowed(), decision.policy()), (allowed, policy), "{method} {path} {from}");
    }
    let both = decode(&format!(", rules: {{}}, matcher: {matcher}")).unwrap_err();
    assert!(both.contains("matcher: cannot be set together with rules"), "{both}");
    let query = any("envoy.type.matcher.v3.HttpRequestQueryParamMatchInput", ", query_param: q");
    let unknown = matcher.replace(&header("':method'"), &query);
    assert!(
        decode(&format!(", matcher: {unknown}"))
            .unwrap_err()
            .contains("HttpRequestQueryParamMatchInput): not supported")
    );
}
