//! Which service a request was for, where its cluster does not say: `destination_service` and its kin
//! (`features.md` M12).
//!
//! Istio's order: a request that no service takes counts as `BlackHoleCluster` or `PassthroughCluster`, and its host is
//! what it named itself. That name is believed on the way out of a workload only: whoever calls from outside could make
//! up any number of them.

use std::{cell::RefCell, sync::Arc};

use hashbrown::{Equivalent, HashMap};
use http::{HeaderValue, header::HOST, request::Parts, uri::Authority};
use mesh_core::model::DestinationService;

/// Services a thread remembers by what requests called them; past that it forgets all.
const MAX_REMEMBERED: usize = 1024;

/// Istio's names of the routes for hosts that are not known: one refuses, one lets pass.
const BLOCK_ALL: &str = "block_all";

thread_local! {
    static REMEMBERED: RefCell<HashMap<Remembered, Arc<DestinationService>>> = RefCell::default();
}

/// The authority of a request, kept until its end.
#[derive(Clone, Debug)]
pub(crate) enum NamedHost {
    Target(Authority),
    Header(HeaderValue),
}

#[derive(PartialEq, Eq, Hash)]
struct Remembered {
    name: Box<str>,
    host: Box<str>,
}

/// The same without owning it.
#[derive(PartialEq, Eq, Hash)]
struct Asked<'a> {
    name: &'a str,
    host: &'a str,
}

impl Equivalent<Remembered> for Asked<'_> {
    fn equivalent(&self, key: &Remembered) -> bool {
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

/// What a request counts as if neither its cluster's service has a host nor its listener knows better; `host` is what
/// the request named, where that is believed. `None` if nothing is known.
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
    (!name.is_empty()).then(|| remembered(&Asked { name, host }))
}

fn remembered(asked: &Asked<'_>) -> Arc<DestinationService> {
    REMEMBERED.with_borrow_mut(|map| {
        if let Some(service) = map.get(asked) {
            return Arc::clone(service);
        }
        if map.len() >= MAX_REMEMBERED {
            map.clear();
        }
        let service = Arc::new(DestinationService {
            host: asked.host.into(),
            name: asked.name.into(),
            namespace: Arc::default(),
        });
        map.insert(Remembered { name: asked.name.into(), host: asked.host.into() }, Arc::clone(&service));
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
    fn m12_an_unregistered_destination_has_istios_names() {
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
    fn hosts_that_clients_make_up_are_not_kept_forever() {
        let first = unregistered(None, None, named("host").as_ref()).unwrap();
        assert!(Arc::ptr_eq(&first, &unregistered(None, None, named("host").as_ref()).unwrap()));
        for number in 0..2 * MAX_REMEMBERED {
            unregistered(None, None, named(&format!("host-{number}")).as_ref());
        }
        REMEMBERED.with_borrow(|map| assert!(map.len() <= MAX_REMEMBERED));
    }
}
