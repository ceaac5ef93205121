//! [`RouteLayer`].

use std::{collections::HashMap, sync::Arc};

use http::Response;
use mesh_core::{
    cluster::ClusterState,
    model::{ClusterName, RouteConfiguration},
    rng::Rng,
    route::RouteTableError,
    store::{ClusterSlot, RouteSlot, Routes, Store},
};

use super::{Routing, respond};
use crate::{
    Body, BoxError, ClusterHandle,
    call::{Call, StreamInfo},
    layer::{HttpService, Middleware, layers},
    rng::ThreadRng,
    timer::now,
};

/// Routes requests; see the [module](super).
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use mesh_core::model::{DirectResponse, PathMatcher, Route, RouteConfiguration, RouteMatch, VirtualHost};
/// use mesh_tower::{Body, BoxError, route::RouteLayer};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let gone = DirectResponse::new(StatusCode::GONE, "moved out");
/// let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/old".into())), gone);
/// let routes = RouteConfiguration::new("shop", vec![VirtualHost::new("shop", vec![route])]);
/// let layer = RouteLayer::new(routes, [])?;
/// let service = layer.layer(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty()))));
/// let request = Request::get("/old/page").header("host", "shop").body(Body::empty())?;
/// assert_eq!(service.oneshot(request).await?.status(), 410);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RouteLayer {
    source: Source,
    store: Option<Arc<Store>>,
}

layers!(RouteLayer);

#[derive(Clone, Debug)]
enum Source {
    Table(Arc<Routes>),
    Slot(Arc<RouteSlot>),
}

impl RouteLayer {
    /// Routes by a fixed route configuration. The clusters that it names are looked up among `clusters`; all others do
    /// not exist.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(
        config: impl Into<Arc<RouteConfiguration>>,
        clusters: impl IntoIterator<Item = ClusterHandle>,
    ) -> Result<Self, RouteTableError> {
        let clusters: HashMap<ClusterName, Arc<ClusterState>> =
            clusters.into_iter().map(|cluster| (cluster.state().config().name.clone(), cluster.into_state())).collect();
        let routes = Routes::compile(config.into(), &mut |name| {
            let slot = ClusterSlot::new(name.clone());
            slot.store(clusters.get(name).cloned());
            Arc::new(slot)
        })?;
        Ok(Self { source: Source::Table(Arc::new(routes)), store: None })
    }

    /// Routes by the configuration that is in `slot`, a slot of `store`, when a request arrives.
    #[must_use]
    pub fn from_store(store: Arc<Store>, slot: Arc<RouteSlot>) -> Self {
        Self { source: Source::Slot(slot), store: Some(store) }
    }

    fn routes(&self) -> Option<Arc<Routes>> {
        match &self.source {
            Source::Table(routes) => Some(Arc::clone(routes)),
            Source::Slot(slot) => slot.load(),
        }
    }
}

impl Middleware for RouteLayer {
    type Error<E: Into<BoxError> + Send> = E;

    async fn serve<S: HttpService>(self, mut service: S, mut call: Call) -> Result<Response<Body>, S::Error> {
        if let Some(response) = self.route(&mut call) {
            return Ok(response);
        }
        service.send(call.take_request().unwrap_or_default()).await
    }
}

impl RouteLayer {
    /// Puts the route of a request into its extensions, or returns a local reply.
    fn route(&self, call: &mut Call) -> Option<Response<Body>> {
        let routes = self.routes();
        let find = |routes| Routing::find(routes, &call.head, None, ThreadRng.next_u64(), self.store.as_deref());
        let routing = routes.as_deref().map_or(Routing::NotFound, find);
        if respond(call, &StreamInfo::new(now()), &routing) {
            return call.response.take();
        }
        if let Routing::Matched(matched) = routing {
            call.head.extensions.insert(matched.to_owned());
        }
        None
    }
}
