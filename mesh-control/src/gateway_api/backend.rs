//! The backends of rules.

use super::grants::{From, is_permitted};
use super::status::Condition;
use crate::config::{BackendRef, Config, Destination, Headers, Located, RouteFilter, WeightedDestination};
use crate::host::{CLUSTER_DOMAIN, Host};
use crate::registry::Registry;

/// The host of a Service.
pub(super) fn service_host(name: &str, namespace: &str) -> Option<Host> {
    Host::parse(&format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"), namespace).ok()
}

/// The destination of a backend.
///
/// # Errors
///
/// The condition `ResolvedRefs` of the route.
pub(super) fn destination(
    config: &Config,
    registry: &Registry,
    from: From<'_>,
    backend: &BackendRef,
) -> Result<WeightedDestination, Condition> {
    let object = &backend.object;
    let name = format!("{} {}/{}", object.kind, object.namespace(from.namespace), object.name);
    let refuse = |reason, message: String| Err(Condition::new("ResolvedRefs", false, reason, message));
    if (object.group.as_str(), object.kind.as_str()) != ("", "Service") {
        return refuse("InvalidKind", format!("{name}: expected a Service"));
    }
    if !is_permitted(config, from, object) {
        return refuse("RefNotPermitted", format!("no ReferenceGrant allows the reference to {name}"));
    }
    let Some(port) = backend.port else {
        return refuse("UnsupportedValue", format!("the reference to {name} has no port"));
    };
    let host = service_host(&object.name, object.namespace(from.namespace));
    let service = host.as_ref().and_then(|host| registry.find(host, from.namespace));
    let (Some(host), Some(service)) = (host, service) else {
        return refuse("BackendNotFound", format!("there is no {name}"));
    };
    if service.port(port).is_none() {
        return refuse("BackendNotFound", format!("{name} has no port {port}"));
    }
    let position = || backend.position.clone();
    let destination = Destination {
        position: position(),
        host: Located { value: host, position: position() },
        subset: None,
        port: Some(Located { value: port, position: position() }),
    };
    Ok(WeightedDestination { destination, weight: backend.weight, headers: headers(&backend.filters) })
}

/// The changes of headers of all filters.
pub(super) fn headers(filters: &[RouteFilter]) -> Headers {
    let mut all = Headers::default();
    for filter in filters {
        if let RouteFilter::Headers(Headers { request, response }) = filter {
            for (all, one) in [(&mut all.request, request), (&mut all.response, response)] {
                all.set.extend(one.set.clone());
                all.add.extend(one.add.clone());
                all.remove.extend(one.remove.iter().cloned());
            }
        }
    }
    all
}
