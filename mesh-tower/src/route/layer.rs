//! [`RouteLayer`].

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use http::{Response, request::Parts};
use mesh_core::{
    cluster::ClusterState,
    local_reply::LocalReply,
    model::{ClusterName, RouteConfiguration},
    policy::grpc,
    request::RequestHead,
    rng::Rng,
    route::{ChosenCluster, RouteResult, RouteTableError},
    store::{ClusterSlot, RouteSlot, Routes, Store},
};
use tower_layer::Layer;

use super::{
    HeldRoute, RouteMatched, Router,
    direct::{direct_answer, redirect_to_tls},
};
use crate::{reply::local_reply, rng::ThreadRng};

/// Routes requests; see the [module](super).
#[derive(Clone, Debug)]
pub struct RouteLayer {
    source: Source,
    store: Option<Arc<Store>>,
}

#[derive(Clone, Debug)]
enum Source {
    Table(Arc<Routes>),
    Slot(Arc<RouteSlot>),
}

impl RouteLayer {
    /// By a route configuration that does not change. The clusters it names are looked for among `clusters`; those that
    /// are not there do not exist.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(
        config: impl Into<Arc<RouteConfiguration>>,
        clusters: impl IntoIterator<Item = Arc<ClusterState>>,
    ) -> Result<Self, RouteTableError> {
        let clusters: HashMap<ClusterName, Arc<ClusterState>> =
            clusters.into_iter().map(|cluster| (cluster.config().name.clone(), cluster)).collect();
        let routes = Routes::compile(config.into(), &mut |name| {
            let slot = ClusterSlot::new(name.clone());
            slot.store(clusters.get(name).cloned());
            Arc::new(slot)
        })?;
        Ok(Self { source: Source::Table(Arc::new(routes)), store: None })
    }

    /// By routes of `store` as they are when a request comes. `slot` and the clusters of its routes are kept up to date by
    /// whoever fills the store.
    #[must_use]
    pub fn from_store(store: Arc<Store>, slot: Arc<RouteSlot>) -> Self {
        Self { source: Source::Slot(slot), store: Some(store) }
    }

    /// The route of a request, or the answer that it gets without one.
    pub(super) fn decide<R: From<Bytes>>(&self, parts: &Parts) -> Result<RouteMatched, Box<Response<R>>> {
        let not_found = || Box::new(local_reply(LocalReply::ROUTE_NOT_FOUND, grpc::is_grpc_request(&parts.headers)));
        let routes = self.routes().ok_or_else(not_found)?;
        let head = RequestHead::from_parts(parts);
        let random = ThreadRng.next_u64();
        match routes.route(&head, random) {
            RouteResult::Matched(entry) => match direct_answer(&entry, &head, None) {
                Some(answer) => Err(Box::new(answer.map(R::from))),
                None => Ok(self.matched(entry.to_handle(), &head, random)),
            },
            RouteResult::TlsRequired(_) => Err(Box::new(redirect_to_tls(&head).map(R::from))),
            RouteResult::NoVirtualHost | RouteResult::NoRoute(_) => Err(not_found()),
        }
    }

    fn routes(&self) -> Option<Arc<Routes>> {
        match &self.source {
            Source::Table(routes) => Some(Arc::clone(routes)),
            Source::Slot(slot) => slot.load(),
        }
    }

    fn matched(&self, entry: HeldRoute, head: &RequestHead<'_>, random: u64) -> RouteMatched {
        let choice = entry.select_cluster(head, random);
        let weighted = choice.as_ref().and_then(|choice| choice.weighted);
        let (cluster_name, cluster) = match choice.map(|choice| choice.cluster) {
            Some(ChosenCluster::Resolved(slot)) => (Some(slot.name().clone()), slot.load()),
            Some(ChosenCluster::Named(name)) => {
                (Some(ClusterName::from(name)), self.store.as_ref().and_then(|store| store.cluster(name)))
            }
            Some(ChosenCluster::Unnamed) | None => (None, None),
        };
        RouteMatched { entry, cluster_name, cluster, weighted }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Router<S>;

    fn layer(&self, inner: S) -> Router<S> {
        Router { inner, layer: Arc::new(self.clone()) }
    }
}
