//! Rules of routes as rules of VirtualServices, in the order in which Gateway API tries them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::backend::headers;
use super::listener::Listeners;
use crate::config::{
    Destination, DirectResponse, GatewayName, Headers, HttpAction, HttpMatch, HttpRoute, Located, Metadata,
    PathModifier, Redirect, RedirectPort, RequestRedirect, RetryPolicy, Rewrite, RouteFilter, RouteRule, StringMatch,
    UriRewrite, UrlRewrite, VirtualService, WeightedDestination,
};
use crate::host::Host;
use crate::registry::{Registry, Service};

/// What a rule applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Requests to a host at a listener.
    Listener {
        /// Which listener.
        index: usize,
        /// The host.
        host: Host,
    },
    /// Requests to a service from within the mesh.
    Service {
        /// The host of the service.
        host: Host,
        /// Its only port.
        port: Option<u16>,
        /// Namespace of the only clients.
        source_namespace: Option<String>,
    },
}

/// A rule that has been attached.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) target: Target,
    /// The route that it is in.
    pub(super) metadata: &'a Metadata,
    pub(super) rule: &'a RouteRule,
    /// Its place in the route.
    pub(super) index: usize,
    /// Where requests go; none if that cannot be followed.
    pub(super) destinations: Option<Vec<WeightedDestination>>,
}

/// One VirtualService for each host of a listener, and one for each service.
pub(super) fn virtual_services(
    entries: Vec<Entry<'_>>,
    listeners: &Listeners<'_>,
    registry: &Registry,
) -> Vec<VirtualService> {
    // The listener, or none for the mesh, and the host.
    let mut groups: BTreeMap<(Option<usize>, String), Vec<Entry<'_>>> = BTreeMap::new();
    for entry in entries {
        let key = match &entry.target {
            Target::Listener { index, host } => (Some(*index), host.to_string()),
            Target::Service { host, .. } => (None, host.to_string()),
        };
        groups.entry(key).or_default().push(entry);
    }
    let build = |((index, _), entries): ((Option<usize>, String), Vec<Entry<'_>>)| {
        let state = index.and_then(|index| listeners.0.get(index));
        let gateway = state.map_or(GatewayName::Mesh, |state| state.name());
        build(gateway, state.map(|state| state.listener.port), &entries, registry)
    };
    groups.into_iter().filter_map(build).collect()
}

fn build(
    gateway: GatewayName,
    port: Option<u16>,
    entries: &[Entry<'_>],
    registry: &Registry,
) -> Option<VirtualService> {
    let first = entries.first()?;
    let (metadata, position) = (first.metadata.clone(), first.metadata.position.clone());
    let (Target::Listener { host, .. } | Target::Service { host, .. }) = first.target.clone();
    let service = registry.find(&host, &metadata.namespace).filter(|_| gateway == GatewayName::Mesh);
    let last = service.map(|service| unrouted(service, entries)).unwrap_or_default();
    let mut rules: Vec<_> = entries
        .iter()
        .flat_map(|entry| {
            entry.rule.matches.iter().map(move |matcher| (Precedence::of(entry, matcher), entry, matcher))
        })
        .collect();
    // The sort is stable: matches of one rule keep their order.
    rules.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let http = rules.into_iter().map(|(_, entry, matcher)| rule(entry, matcher, port)).chain(last).collect();
    Some(VirtualService {
        metadata,
        hosts: vec![Located { value: host, position: position.clone() }],
        gateways: vec![Located { value: gateway, position }],
        http,
        tls: Vec::new(),
        tcp: Vec::new(),
        export_to: Vec::new(),
    })
}

/// The order of rules for the same requests: routes of the client's namespace, then Gateway API's order. The least is tried
/// first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence<'a> {
    is_for_all: bool,
    path: Reverse<(u8, usize)>,
    has_method: Reverse<bool>,
    headers: Reverse<usize>,
    query_params: Reverse<usize>,
    /// The oldest; hand-written files have no time and are the oldest.
    created: &'a Option<String>,
    name: (&'a str, &'a str),
    index: usize,
}

impl<'a> Precedence<'a> {
    fn of(entry: &Entry<'a>, matcher: &HttpMatch) -> Self {
        let path = match (&matcher.uri, &matcher.path_separated_prefix) {
            (Some(StringMatch::Exact(path)), _) => (3, path.len()),
            (Some(StringMatch::Prefix(prefix)), _) | (None, Some(prefix)) => (2, prefix.len()),
            (Some(StringMatch::Regex(expression)), _) => (1, expression.len()),
            (Some(StringMatch::Present) | None, _) => (0, 0),
        };
        let Metadata { namespace, name, creation_timestamp, .. } = entry.metadata;
        Self {
            is_for_all: !matches!(&entry.target, Target::Service { source_namespace: Some(_), .. }),
            path: Reverse(path),
            has_method: Reverse(matcher.method.is_some()),
            headers: Reverse(matcher.headers.len()),
            query_params: Reverse(matcher.query_params.len()),
            created: creation_timestamp,
            name: (namespace, name),
            index: entry.index,
        }
    }
}

fn rule(entry: &Entry<'_>, matcher: &HttpMatch, port: Option<u16>) -> HttpRoute {
    let RouteRule { position, name, filters, timeouts, retry, .. } = entry.rule;
    let mut matcher = matcher.clone();
    let mut request_port = port;
    if let Target::Service { port, source_namespace, .. } = &entry.target {
        matcher.listener.port = *port;
        matcher.listener.source_namespace.clone_from(source_namespace);
        request_port = *port;
    }
    let redirect = filters.iter().find_map(|filter| match filter {
        RouteFilter::RequestRedirect(redirect) => Some(redirect),
        _ => None,
    });
    let action = match (redirect, &entry.destinations) {
        (Some(redirect), _) => HttpAction::Redirect(redirect_to(redirect, request_port)),
        (None, Some(destinations)) if destinations.iter().any(|it| it.weight > 0) => {
            HttpAction::Route(destinations.iter().filter(|it| it.weight > 0).cloned().collect())
        }
        (None, _) => HttpAction::DirectResponse(DirectResponse { status: 500, body: String::new() }),
    };
    let is_forwarded = matches!(action, HttpAction::Route(_));
    let rewrite = filters.iter().find_map(|filter| match filter {
        RouteFilter::UrlRewrite(rewrite) if is_forwarded => Some(rewrite_of(rewrite, &matcher)),
        _ => None,
    });
    let per_try_timeout = timeouts.backend_request;
    let retries = match retry {
        Some(policy) => Some(RetryPolicy { per_try_timeout, ..policy.clone() }),
        None => per_try_timeout.map(|_| RetryPolicy { per_try_timeout, ..RetryPolicy::istio_default() }),
    };
    HttpRoute {
        position: position.clone(),
        name: name.clone(),
        matches: vec![matcher],
        action,
        rewrite: rewrite.unwrap_or_default(),
        timeout: timeouts.request,
        retries,
        fault: None,
        headers: headers(filters),
        cors_policy: None,
    }
}

fn redirect_to(redirect: &RequestRedirect, request_port: Option<u16>) -> Redirect {
    let RequestRedirect { scheme, hostname, path, port, status_code } = redirect;
    let port = match (port, scheme, request_port) {
        (Some(port), ..) => RedirectPort::Port(*port),
        (None, Some(_), _) | (None, None, Some(80 | 443)) => RedirectPort::ProtocolDefault,
        (None, None, _) => RedirectPort::FromRequest,
    };
    Redirect {
        uri: path.clone(),
        authority: hostname.clone(),
        scheme: scheme.clone(),
        port: Some(port),
        redirect_code: *status_code,
    }
}

fn rewrite_of(rewrite: &UrlRewrite, matcher: &HttpMatch) -> Rewrite {
    let regex = |pattern: String, substitution: &str| UriRewrite::Regex {
        pattern,
        // A backslash begins the number of a group.
        substitution: substitution.replace('\\', "\\\\"),
    };
    let uri = rewrite.path.as_ref().map(|path| match (path, &matcher.path_separated_prefix) {
        (PathModifier::ReplaceFullPath(path), _) => regex("^.*$".to_owned(), path),
        (PathModifier::ReplacePrefixMatch(new), prefix) => {
            let new = new.trim_end_matches('/');
            match prefix {
                Some(prefix) if new.is_empty() => regex(format!("^{}/*", regex::escape(prefix)), "/"),
                Some(_) => UriRewrite::Uri(new.to_owned()),
                // The prefix is the slash that every path begins with.
                None => UriRewrite::Uri(format!("{new}/")),
            }
        }
    });
    Rewrite { uri, authority: rewrite.hostname.clone() }
}

/// Rules for the requests to a service that no route is for: those to ports without a route for all clients.
fn unrouted(service: &Service, entries: &[Entry<'_>]) -> Vec<HttpRoute> {
    let is_routed = |number: u16| {
        entries.iter().any(|entry| match &entry.target {
            Target::Service { port, source_namespace: None, .. } => port.is_none_or(|port| port == number),
            _ => false,
        })
    };
    let ports = service.ports.iter().filter(|port| !is_routed(port.number));
    ports
        .map(|port| {
            let position = || service.position.clone();
            let mut matcher = HttpMatch::every_path(position());
            matcher.listener.port = Some(port.number);
            let destination = Destination {
                position: position(),
                host: Located { value: service.host.clone(), position: position() },
                subset: None,
                port: Some(Located { value: port.number, position: position() }),
            };
            let headers = Headers::default();
            HttpRoute {
                position: position(),
                name: "default".to_owned(),
                matches: vec![matcher],
                action: HttpAction::Route(vec![WeightedDestination { destination, weight: 1, headers }]),
                rewrite: Rewrite::default(),
                timeout: None,
                retries: None,
                fault: None,
                headers: Headers::default(),
                cors_policy: None,
            }
        })
        .collect()
}
