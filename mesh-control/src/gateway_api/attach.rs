//! Which routes attach to which listeners and services.

use super::backend::{destination, service_host};
use super::grants::From;
use super::listener::{Listeners, State};
use super::rule::{Entry, Target};
use super::status::{Condition, RouteStatus};
use crate::config::gateway_api::GROUP;
use crate::config::{Config, GRPCRoute, HTTPRoute, Located, Metadata, ParentRef, RouteRule, WeightedDestination};
use crate::host::Host;
use crate::registry::{Registry, Service};

/// The rules of all routes with their targets, and the status of each route for each parent.
#[derive(Debug, Default)]
pub(super) struct Attached<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) statuses: Vec<RouteStatus>,
}

/// A route of any kind for requests.
#[derive(Clone, Copy)]
struct Route<'a> {
    metadata: &'a Metadata,
    parent_refs: &'a [ParentRef],
    hostnames: &'a [Located<Host>],
    rules: &'a [RouteRule],
}

/// Attaches the routes to what their `parentRefs` name.
pub(super) fn attach<'a>(config: &'a Config, registry: &'a Registry, listeners: &mut Listeners<'a>) -> Attached<'a> {
    let http = config.http_routes.iter().map(|HTTPRoute { metadata, parent_refs, hostnames, rules }| Route {
        metadata,
        parent_refs,
        hostnames,
        rules,
    });
    let grpc = config.grpc_routes.iter().map(|GRPCRoute { metadata, parent_refs, hostnames, rules }| Route {
        metadata,
        parent_refs,
        hostnames,
        rules,
    });
    let mut attached = Attached::default();
    for route in http.chain(grpc) {
        let (rules, resolved) = resolve(config, registry, route);
        for parent in route.parent_refs {
            let targets = match (parent.object.group.as_str(), parent.object.kind.as_str()) {
                (GROUP, "Gateway") => to_gateway(config, route, parent, listeners),
                ("", "Service") => Some(to_service(registry, route, parent)),
                _ => None,
            };
            // Without a target, the parent is another controller's.
            let Some(targets) = targets else { continue };
            let accepted = match &targets {
                Ok(_) => Condition::new("Accepted", true, "Accepted", String::new()),
                Err(condition) => condition.clone(),
            };
            for target in targets.unwrap_or_default() {
                if let Target::Listener { index, .. } = target {
                    listeners.0[index].attached += 1;
                }
                attached.entries.extend(rules.iter().enumerate().map(|(index, (rule, destinations))| Entry {
                    target: target.clone(),
                    metadata: route.metadata,
                    rule,
                    index,
                    destinations: destinations.clone(),
                }));
            }
            attached.statuses.push(RouteStatus {
                kind: route.metadata.kind,
                namespace: route.metadata.namespace.clone(),
                name: route.metadata.name.clone(),
                parent: parent.clone(),
                conditions: vec![accepted, resolved.clone()],
            });
        }
    }
    attached
}

/// A rule and its destinations; none if one of them cannot be followed.
type Resolved<'a> = (&'a RouteRule, Option<Vec<WeightedDestination>>);

/// The rules with their destinations, and the condition `ResolvedRefs`.
fn resolve<'a>(config: &Config, registry: &Registry, route: Route<'a>) -> (Vec<Resolved<'a>>, Condition) {
    let mut condition = Condition::new("ResolvedRefs", true, "ResolvedRefs", String::new());
    let from = From { group: GROUP, kind: route.metadata.kind.as_str(), namespace: &route.metadata.namespace };
    let mut resolve_rule = |rule: &'a RouteRule| {
        let found = rule.backend_refs.iter().map(|backend| destination(config, registry, from, backend));
        let mut destinations = Some(Vec::new());
        for found in found {
            match found {
                Ok(found) => destinations.iter_mut().for_each(|list| list.push(found.clone())),
                Err(error) => (destinations, condition) = (None, error),
            }
        }
        (rule, destinations)
    };
    (route.rules.iter().map(&mut resolve_rule).collect(), condition)
}

/// The listeners of a Gateway that the route attaches to; `None` if the Gateway is not served here.
fn to_gateway(
    config: &Config,
    route: Route<'_>,
    parent: &ParentRef,
    listeners: &Listeners<'_>,
) -> Option<Result<Vec<Target>, Condition>> {
    let Metadata { namespace, kind, .. } = route.metadata;
    let is_parent = |state: &State<'_>| {
        let gateway = &state.gateway.metadata;
        gateway.name == parent.object.name && gateway.namespace == parent.object.namespace(namespace)
    };
    let all: Vec<_> = listeners.0.iter().enumerate().filter(|(_, state)| is_parent(state)).collect();
    if all.is_empty() {
        return None;
    }
    let refuse = |reason, message: &str| Some(Err(Condition::new("Accepted", false, reason, message.to_owned())));
    let is_named = |state: &State<'_>| {
        parent.section_name.as_ref().is_none_or(|name| *name == state.listener.name)
            && parent.port.is_none_or(|port| port == state.listener.port)
    };
    let named: Vec<_> = all.into_iter().filter(|(_, state)| is_named(state)).collect();
    if named.is_empty() {
        return refuse("NoMatchingParent", "the Gateway has no such listener");
    }
    let allowed: Vec<_> =
        named.into_iter().filter(|(_, state)| state.allows(config, kind.as_str(), namespace)).collect();
    if allowed.is_empty() {
        return refuse("NotAllowedByListeners", "no listener allows routes of this kind and namespace");
    }
    let targets: Vec<_> = allowed
        .into_iter()
        .filter(|(_, state)| state.problem.is_none())
        .flat_map(|(index, state)| {
            let hosts = common_hosts(state, route.hostnames);
            hosts.into_iter().map(move |host| Target::Listener { index, host })
        })
        .collect();
    if targets.is_empty() {
        return refuse("NoMatchingListenerHostname", "no listener serves one of the hostnames");
    }
    Some(Ok(targets))
}

/// The hosts that a listener and a route have in common, in the narrower form.
fn common_hosts(state: &State<'_>, hostnames: &[Located<Host>]) -> Vec<Host> {
    let Some(own) = state.host() else { return Vec::new() };
    if hostnames.is_empty() {
        return vec![own];
    }
    let common = hostnames.iter().filter(|host| own.intersects(host));
    common.map(|host| if host.covers(&own) { own.clone() } else { host.value.clone() }).collect()
}

/// The service that a route of the mesh is for.
fn to_service(registry: &Registry, route: Route<'_>, parent: &ParentRef) -> Result<Vec<Target>, Condition> {
    let own = &route.metadata.namespace;
    let namespace = parent.object.namespace(own);
    let host = service_host(&parent.object.name, namespace);
    let found: Option<&Service> = host.as_ref().and_then(|host| registry.find(host, own));
    let has_port = |service: &&Service| parent.port.is_none_or(|port| service.port(port).is_some());
    let Some(service) = found.filter(has_port) else {
        let message = format!("there is no such Service or port in {namespace}");
        return Err(Condition::new("Accepted", false, "NoMatchingParent", message));
    };
    let source_namespace = (namespace != own).then(|| own.clone());
    Ok(vec![Target::Service { host: service.host.clone(), port: parent.port, source_namespace }])
}
