//! Routing of a request: finding its route and its cluster.

use std::sync::Arc;

use http::request::Parts;
use mesh_core::{
    cluster::ClusterState,
    model::{ClusterName, Metadata},
    request::RequestHead,
    route::{ChosenCluster, RouteRef, RouteResult},
    store::{ClusterSlot, Routes, Store},
};

use super::{RouteMatched, change_response};
use crate::call::{Call, StreamInfo};

/// The result of routing a request.
#[derive(Debug)]
pub(crate) enum Routing<'r> {
    /// The route matches.
    Matched(Matched<'r>),
    /// The virtual host requires TLS, and the request was sent without.
    TlsRequired,
    /// No route matches.
    NotFound,
}

/// The route of a request and its cluster, which all stages use.
#[derive(Clone, Debug)]
pub(crate) struct Matched<'r> {
    pub(crate) route: RouteRef<'r, Arc<ClusterSlot>>,
    /// The cluster; `None` if it does not exist, or the route does not forward.
    pub(crate) cluster: Option<Arc<ClusterState>>,
    /// Position of the cluster in the route's weighted clusters; `None` if the route has none.
    pub(crate) weighted: Option<usize>,
    name: NamedBy<'r>,
}

/// The source of the cluster's name.
#[derive(Clone, Debug)]
enum NamedBy<'r> {
    Nothing,
    Route(&'r ClusterSlot),
    Slot(Arc<ClusterSlot>),
    Request(ClusterName),
}

/// Routes a request, again if a filter clears the route cache.
#[derive(Debug)]
pub(crate) struct Router<'r> {
    routes: Option<&'r Routes>,
    /// The authority to use if no virtual host matches the request's.
    authority: Option<&'r str>,
    /// The store of the clusters that requests name in a header.
    store: Option<&'r Store>,
    /// The random number that selects weighted clusters.
    random: u64,
    /// The route was found elsewhere.
    is_fixed: bool,
    routing: Routing<'r>,
}

impl<'r> Router<'r> {
    /// Creates the router of a request that is not routed yet.
    pub(crate) fn new(
        routes: Option<&'r Routes>,
        authority: Option<&'r str>,
        store: Option<&'r Store>,
        random: u64,
    ) -> Self {
        Self { routes, authority, store, random, is_fixed: false, routing: Routing::NotFound }
    }

    /// Creates a router that always returns `routing`.
    pub(crate) fn fixed(routing: Routing<'r>) -> Self {
        Self { routes: None, authority: None, store: None, random: 0, is_fixed: true, routing }
    }

    /// Whether the route was found elsewhere.
    pub(crate) fn is_fixed(&self) -> bool {
        self.is_fixed
    }

    /// Routes the current request.
    pub(crate) fn route(&mut self, head: &Parts) {
        if let Some(routes) = self.routes {
            self.routing = Routing::find(routes, head, self.authority, self.random, self.store);
        }
    }

    /// Routes the current request again, now that filters may have changed it and have set `metadata`.
    pub(crate) fn route_again(&mut self, head: &Parts, metadata: Option<&Metadata>) {
        if let Some(routes) = self.routes {
            let from = RoutedFrom { head, metadata, authority: self.authority };
            self.routing = Routing::find_with(routes, from, self.random, self.store);
        }
    }

    pub(crate) fn routing(&self) -> &Routing<'r> {
        &self.routing
    }

    /// The route of the request, if there is one.
    pub(crate) fn matched(&self) -> Option<&Matched<'r>> {
        match &self.routing {
            Routing::Matched(matched) => Some(matched),
            Routing::TlsRequired | Routing::NotFound => None,
        }
    }
}

impl<'r> Routing<'r> {
    /// Routes a request by `routes`. `authority` is used if no virtual host matches the request's. `store` has the clusters
    /// that requests name in a header. `random` selects weighted clusters.
    pub(crate) fn find(
        routes: &'r Routes,
        head: &Parts,
        authority: Option<&str>,
        random: u64,
        store: Option<&Store>,
    ) -> Self {
        Self::find_with(routes, RoutedFrom { head, metadata: None, authority }, random, store)
    }

    fn find_with(routes: &'r Routes, from: RoutedFrom<'_>, random: u64, store: Option<&Store>) -> Self {
        let RoutedFrom { head, metadata, authority } = from;
        let head = RequestHead::from_parts(head);
        let result = match (routes.route_with(&head, metadata, random), authority) {
            (RouteResult::NoVirtualHost, Some(authority)) => {
                routes.route_with(&RequestHead { authority, ..head }, metadata, random)
            }
            (result, _) => result,
        };
        match result {
            RouteResult::Matched(route) => Self::Matched(Matched::new(route, &head, random, store)),
            RouteResult::TlsRequired(_) => Self::TlsRequired,
            RouteResult::NoVirtualHost | RouteResult::NoRoute(_) => Self::NotFound,
        }
    }
}

/// What a request is routed by.
#[derive(Clone, Copy)]
struct RoutedFrom<'a> {
    head: &'a Parts,
    /// What filters have set.
    metadata: Option<&'a Metadata>,
    /// The authority to use if no virtual host matches the request's.
    authority: Option<&'a str>,
}

impl<'r> Matched<'r> {
    /// Changes the headers of a local reply that neither the route nor an attempt to forward has made. As in Envoy, routes that
    /// do not forward change their own responses only.
    pub(crate) fn change_reply(&self, call: &mut Call, info: &StreamInfo) {
        if self.route.is_forwarding()
            && let Call { head, response: Some(response), .. } = call
        {
            // As in Envoy, `%RESPONSE_CODE%` is not known yet.
            change_response(&self.route, self.weighted, info, (head, response), None);
        }
    }

    fn new(route: RouteRef<'r, Arc<ClusterSlot>>, head: &RequestHead<'_>, random: u64, store: Option<&Store>) -> Self {
        if let Some(slot) = route.entry().only_cluster() {
            return Self { route, cluster: slot.load(), weighted: None, name: NamedBy::Route(slot) };
        }
        let choice = route.select_cluster(head, random);
        let weighted = choice.as_ref().and_then(|choice| choice.weighted);
        let (name, cluster) = match choice.map(|choice| choice.cluster) {
            Some(ChosenCluster::Resolved(slot)) => (NamedBy::Slot(Arc::clone(slot)), slot.load()),
            Some(ChosenCluster::Named(name)) => {
                (NamedBy::Request(name.into()), store.and_then(|store| store.cluster(name)))
            }
            Some(ChosenCluster::Unnamed) | None => (NamedBy::Nothing, None),
        };
        Self { route, cluster, weighted, name }
    }

    /// The name of the cluster; `None` if the route does not forward, or the header with the name is missing.
    pub(crate) fn cluster_name(&self) -> Option<&ClusterName> {
        match &self.name {
            NamedBy::Nothing => None,
            NamedBy::Route(slot) => Some(slot.name()),
            NamedBy::Slot(slot) => Some(slot.name()),
            NamedBy::Request(name) => Some(name),
        }
    }

    /// An owned copy, which can outlive the routes.
    pub(crate) fn to_owned(&self) -> RouteMatched {
        RouteMatched {
            entry: self.route.to_handle(),
            cluster_name: self.cluster_name().cloned(),
            cluster: self.cluster.clone(),
            weighted: self.weighted,
        }
    }
}

impl<'r> From<&'r RouteMatched> for Matched<'r> {
    fn from(matched: &'r RouteMatched) -> Self {
        let name = matched.cluster_name.clone().map_or(NamedBy::Nothing, NamedBy::Request);
        Self { route: (&matched.entry).into(), cluster: matched.cluster.clone(), weighted: matched.weighted, name }
    }
}
