//! `extensionProviders`: services that policies refer to by name.
//!
//! Those that authorize requests are read, for AuthorizationPolicies with the action CUSTOM. Providers of traces, access
//! logs and metrics need a Telemetry resource to have an effect, which is refused, so they are accepted as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use mesh_xds::proto::envoy::r#type::v3::StatusCode as EnvoyStatusCode;

use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, FromNode, Located, Node, Object};

/// A service with a name. Istio `MeshConfig.ExtensionProvider`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExtensionProvider {
    /// Unique among the providers.
    pub name: Located<String>,
    /// What it is.
    pub kind: ProviderKind,
}

/// What a provider is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProviderKind {
    /// A service that authorizes requests.
    ExtAuthz(Box<ExtAuthzProvider>),
    /// Of traces, access logs or metrics: the name of its field, such as `opentelemetry`.
    Telemetry(&'static str),
}

/// A service that authorizes requests. Istio `EnvoyExternalAuthorizationHttpProvider` and
/// `EnvoyExternalAuthorizationGrpcProvider`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExtAuthzProvider {
    /// `[NAMESPACE/]HOST` of the service.
    pub service: Located<String>,
    /// 1-65535.
    pub port: u16,
    /// How long a check may take. Default 600 s.
    pub timeout: Duration,
    /// Allow requests if the service fails. Default false.
    pub fail_open: bool,
    /// Select the route of a request again after the check. Default false.
    pub clear_route_cache: bool,
    /// Status of the response if the service fails. Default 403.
    pub status_on_error: Option<StatusCode>,
    /// Send the body in the check; `None` = do not.
    pub include_request_body: Option<BodyInCheck>,
    /// How the service is asked.
    pub protocol: ExtAuthzProtocol,
}

/// How a service that authorizes requests is asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ExtAuthzProtocol {
    /// `envoyExtAuthzHttp`: a copy of the request's head; status 200 allows it.
    Http(ExtAuthzHttp),
    /// `envoyExtAuthzGrpc`: Envoy's `envoy.service.auth.v3.Authorization`.
    Grpc,
}

/// Headers and path of a check over HTTP. Lists of headers may have `NAME`, `PREFIX*` and `*SUFFIX`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExtAuthzHttp {
    /// Prepended to the path of the check; empty = none.
    pub path_prefix: String,
    /// Headers of the request that the check has, in addition to `host`, method, path, `content-length` and `authorization`.
    pub include_request_headers: Vec<String>,
    /// Other headers of the check.
    pub include_additional_headers: BTreeMap<String, String>,
    /// Headers of the service's response that an allowed request gets, in place of its own.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of the service's response that the response to a denied request gets; empty = all.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of the service's response that the response to an allowed request gets.
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// How much of the body a check has. Istio `EnvoyExternalAuthorizationRequestBody`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyInCheck {
    /// In bytes, at least 1.
    pub max_request_bytes: u32,
    /// Send the beginning of a larger body, instead of refusing the request with 413. Default false.
    pub allow_partial_message: bool,
    /// Send it as bytes over gRPC, which need not be UTF-8. Default false.
    pub pack_as_bytes: bool,
}

/// Default of [`ExtAuthzProvider::timeout`].
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Providers that have an effect only with a Telemetry resource.
const TELEMETRY: &[&str] = &[
    "datadog",
    "envoyFileAccessLog",
    "envoyHttpAls",
    "envoyOtelAls",
    "envoyTcpAls",
    "lightstep",
    "opencensus",
    "opentelemetry",
    "prometheus",
    "sds",
    "skywalking",
    "stackdriver",
    "zipkin",
];

impl FromNode for ExtensionProvider {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let name: Option<Located<String>> = object.required("name");
        if let Some(name) = name.as_ref().filter(|name| name.is_empty()) {
            cx.field("name").refuse(name.position.clone(), "name is empty", "name is required here");
        }
        let mut kinds: Vec<&str> = vec!["envoyExtAuthzGrpc", "envoyExtAuthzHttp"];
        kinds.extend(TELEMETRY);
        object.at_most_one_of(&kinds);
        if !kinds.iter().any(|kind| object.has(kind)) {
            let expected = "expected one of envoyExtAuthzHttp, envoyExtAuthzGrpc and the providers of telemetry";
            cx.invalid(object.mark(), "the provider is none of the known ones", expected);
        }
        let of_checks =
            |name| object.node(name).map(|node| read_ext_authz(node, cx.field(name), name == "envoyExtAuthzHttp"));
        let ext_authz = of_checks("envoyExtAuthzHttp").or_else(|| of_checks("envoyExtAuthzGrpc"));
        let of_telemetry = TELEMETRY.iter().filter(|name| object.node(name).is_some()).last();
        object.finish();
        let kind = match ext_authz {
            Some(provider) => ProviderKind::ExtAuthz(Box::new(provider?)),
            None => ProviderKind::Telemetry(of_telemetry?),
        };
        Some(Self { name: name?, kind })
    }
}

/// Reports names that several providers have.
pub(super) fn check_names(providers: &[ExtensionProvider], cx: Context<'_>) {
    for (index, provider) in providers.iter().enumerate() {
        if let Some(first) = providers[..index].iter().find(|first| first.name.value == provider.name.value) {
            let message = format!("two providers are called {:?}", provider.name.value);
            let diagnostic = Diagnostic::error(Code::Duplicate, provider.name.position.clone(), message);
            cx.report(diagnostic.label("second one").help(format!("the first one is at {}", first.name.position)));
        }
    }
}

fn read_ext_authz(node: &Node, cx: Context<'_>, is_http: bool) -> Option<ExtAuthzProvider> {
    let object = Object::new(node, cx)?;
    let service: Option<Located<String>> = object.required("service");
    if let Some(service) = service.as_ref().filter(|service| !is_service(service)) {
        let message = format!("{:?} is not a service", service.value);
        cx.field("service").refuse(service.position.clone(), message, "expected HOST or NAMESPACE/HOST");
    }
    if !object.has("port") {
        object.missing("port");
    }
    let port = object.port("port");
    let timeout = object.optional("timeout").unwrap_or(DEFAULT_TIMEOUT);
    let (fail_open, clear_route_cache) = (object.flag("failOpen"), object.flag("clearRouteCache"));
    let status_on_error = status_on_error(&object);
    let include_request_body = object.node("includeRequestBodyInCheck");
    let include_request_body =
        include_request_body.and_then(|node| read_body(node, cx.field("includeRequestBodyInCheck")));
    let protocol = if is_http { ExtAuthzProtocol::Http(read_http(&object)) } else { ExtAuthzProtocol::Grpc };
    object.finish();
    Some(ExtAuthzProvider {
        service: service?,
        port: port?,
        timeout,
        fail_open,
        clear_route_cache,
        status_on_error,
        include_request_body,
        protocol,
    })
}

fn is_service(text: &str) -> bool {
    let (namespace, host) = text.split_once('/').unwrap_or(("default", text));
    let is_host = mesh_core::host::Host::parse(host, namespace).is_ok_and(|host| !host.is_wildcard());
    crate::name::Name::Namespace.admits(namespace) && is_host
}

fn read_http(object: &Object<'_>) -> ExtAuthzHttp {
    let path_prefix: Option<Located<String>> = object.optional("pathPrefix");
    if let Some(prefix) = &path_prefix
        && !prefix.is_empty()
        && !prefix.starts_with('/')
    {
        let message = format!("{:?} does not begin with \"/\"", prefix.value);
        object.cx.field("pathPrefix").refuse(prefix.position.clone(), message, "expected a path");
    }
    let mut include_request_headers: Vec<String> = header_names(object, "includeRequestHeadersInCheck");
    if include_request_headers.is_empty() {
        // Deprecated.
        include_request_headers = header_names(object, "includeHeadersInCheck");
    } else {
        object.at_most_one_of(&["includeRequestHeadersInCheck", "includeHeadersInCheck"]);
        object.node("includeHeadersInCheck");
    }
    ExtAuthzHttp {
        path_prefix: path_prefix.map(|prefix| prefix.value).unwrap_or_default(),
        include_request_headers,
        include_additional_headers: additional_headers(object),
        headers_to_upstream_on_allow: header_names(object, "headersToUpstreamOnAllow"),
        headers_to_downstream_on_deny: header_names(object, "headersToDownstreamOnDeny"),
        headers_to_downstream_on_allow: header_names(object, "headersToDownstreamOnAllow"),
    }
}

/// Headers of the check. Their values are literal.
fn additional_headers(object: &Object<'_>) -> BTreeMap<String, String> {
    const FIELD: &str = "includeAdditionalHeadersInCheck";
    let headers: BTreeMap<String, String> = object.optional(FIELD).unwrap_or_default();
    for (name, value) in &headers {
        let is_header = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
        if !is_header {
            let message = format!("{name:?} with the value {value:?} is not a header");
            object.cx.field(FIELD).invalid(object.value_mark(FIELD), message, "expected names and values of headers");
        } else if value.contains('%') {
            let message =
                format!("the value {value:?} of {name:?} is not supported: commands such as %REQ(…)% are not");
            object.cx.field(FIELD).invalid(object.value_mark(FIELD), message, "expected a value without `%`");
        }
    }
    headers
}

/// Names, prefixes and suffixes of headers.
fn header_names(object: &Object<'_>, field: &'static str) -> Vec<String> {
    let names: Vec<Located<String>> = object.list(field);
    let cx = object.cx.field(field);
    for (index, name) in (0..).zip(&names) {
        let literal = name.strip_suffix('*').or_else(|| name.strip_prefix('*')).unwrap_or(name);
        if name.is_empty() || literal.contains('*') {
            let message = format!("{:?} is not a name, prefix or suffix of headers", name.value);
            cx.index(index).refuse(name.position.clone(), message, "expected NAME, PREFIX* or *SUFFIX");
        }
    }
    names.into_iter().map(|name| name.value).collect()
}

fn status_on_error(object: &Object<'_>) -> Option<StatusCode> {
    let text: Located<String> = object.optional("statusOnError").filter(|text: &Located<String>| !text.is_empty())?;
    let status = text.parse::<u16>().ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status =
        status.filter(|status| status.as_u16() >= 200 && EnvoyStatusCode::try_from(i32::from(status.as_u16())).is_ok());
    if status.is_none() {
        let message = format!("{:?} is not a status of HTTP that Envoy knows", text.value);
        object.cx.field("statusOnError").refuse(text.position, message, "expected a status such as \"503\"");
    }
    status
}

fn read_body(node: &Node, cx: Context<'_>) -> Option<BodyInCheck> {
    let object = Object::new(node, cx)?;
    if !object.has("maxRequestBytes") {
        object.missing("maxRequestBytes");
    }
    let max_request_bytes = object.integer("maxRequestBytes", 1, u32::MAX.into());
    let body = BodyInCheck {
        max_request_bytes: max_request_bytes.unwrap_or(1),
        allow_partial_message: object.flag("allowPartialMessage"),
        pack_as_bytes: object.flag("packAsBytes"),
    };
    object.finish();
    max_request_bytes.map(|_| body)
}
