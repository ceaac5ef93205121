//! The labels `destination_service` and `destination_service_name` of requests whose cluster has no service.
//!
//! As in Istio, such a request counts as `BlackHoleCluster` or `PassthroughCluster`, with the host of the request itself.
//! The host is used for outbound requests only, because a client outside the mesh could invent any number of hosts.

use std::{cell::RefCell, sync::Arc};

use hashbrown::{Equivalent, HashMap};
use http::{HeaderValue, header::HOST, request::Parts, uri::Authority};
use mesh_core::model::DestinationService;

/// Services in the cache of a thread. A full cache is cleared.
const MAX_CACHED: usize = 1024;

/// Istio's name of the route that refuses requests for unknown hosts.
const BLOCK_ALL: &str = "block_all";

thread_local! {
    static CACHE: RefCell<HashMap<Key, Arc<DestinationService>>> = RefCell::default();
}

/// The authority of a request, kept until the end of the request.
#[derive(Clone, Debug)]
pub(crate) enum NamedHost {
    Target(Authority),
    Header(HeaderValue),
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    name: Box<str>,
    host: Box<str>,
}

/// A borrowed [`Key`].
#[derive(PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    name: &'a str,
    host: &'a str,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.name == *key.name && *self.host == *key.host
    }
}

impl NamedHost {
    pub(crate) fn of(request: &Parts) -> Option<Self> {
        match request.uri.authority() {
            Some(authority) => Some(Self::Target(authority.clone())),
            None => request.headers.get(HOST).cloned().map(Self::Header),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Target(authority) => authority.as_str(),
            Self::Header(value) => value.to_str().unwrap_or_default(),
        }
    }
}

/// The service in the labels of a request whose cluster has no service with a host. `host` is the host of the request, for
/// outbound requests. `None` if the service is unknown.
pub(crate) fn unregistered(
    of_cluster: Option<&DestinationService>,
    route_name: Option<&str>,
    host: Option<&NamedHost>,
) -> Option<Arc<DestinationService>> {
    if of_cluster.is_some_and(|service| !service.host.is_empty()) {
        return None;
    }
    let host = host.map_or("", NamedHost::as_str);
    let name = match of_cluster {
        Some(service) => &*service.name,
        None if route_name == Some(BLOCK_ALL) => DestinationService::BLACK_HOLE_CLUSTER,
        None => host,
    };
    (!name.is_empty()).then(|| cached(&KeyRef { name, host }))
}

fn cached(key: &KeyRef<'_>) -> Arc<DestinationService> {
    CACHE.with_borrow_mut(|map| {
        if let Some(service) = map.get(key) {
            return Arc::clone(service);
        }
        if map.len() >= MAX_CACHED {
            map.clear();
        }
        let service =
            Arc::new(DestinationService { host: key.host.into(), name: key.name.into(), namespace: Arc::default() });
        map.insert(Key { name: key.name.into(), host: key.host.into() }, Arc::clone(&service));
        service
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: &str) -> Option<NamedHost> {
        let (parts, ()) = http::Request::get("/").header(HOST, host).body(()).unwrap().into_parts();
        NamedHost::of(&parts)
    }

    #[test]
    fn an_unregistered_destination_has_istios_names() {
        let registered = DestinationService { host: "a.b".into(), name: "a".into(), namespace: "b".into() };
        let passthrough = DestinationService::unregistered("PassthroughCluster");
        let inbound = DestinationService::unregistered("InboundPassthroughCluster");
        for (of_cluster, route, host, expected) in [
            (Some(&registered), "", named("x:80"), None),
            (None, "", None, None),
            (None, "", named("x:80"), Some(("x:80", "x:80"))),
            (None, BLOCK_ALL, named("x:80"), Some(("x:80", "BlackHoleCluster"))),
            (None, BLOCK_ALL, None, Some(("", "BlackHoleCluster"))),
            (passthrough.as_ref(), "allow_any", named("x:80"), Some(("x:80", "PassthroughCluster"))),
            (inbound.as_ref(), "default", None, Some(("", "InboundPassthroughCluster"))),
        ] {
            let found = unregistered(of_cluster, Some(route), host.as_ref());
            assert_eq!(found.as_ref().map(|found| (&*found.host, &*found.name)), expected, "{route} {host:?}");
        }
    }

    #[test]
    fn the_cache_of_hosts_is_bounded() {
        let first = unregistered(None, None, named("host").as_ref()).unwrap();
        assert!(Arc::ptr_eq(&first, &unregistered(None, None, named("host").as_ref()).unwrap()));
        for number in 0..2 * MAX_CACHED {
            unregistered(None, None, named(&format!("host-{number}")).as_ref());
        }
        CACHE.with_borrow(|map| assert!(map.len() <= MAX_CACHED));
    }
}
