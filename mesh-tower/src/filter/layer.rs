//! [`FilterLayer`].

use std::sync::Arc;

use http::Response;
use mesh_core::filter::{Filter as FilterKind, FilterConfig, HttpFilter};

use super::{FilterChain, FilterFactory, chain::single};
use crate::{
    Body, BoxError,
    call::{Call, StreamInfo, add_flags},
    layer::{HttpService, Middleware, layers},
    route::{RouteMatched, Router, Routing},
    telemetry::HttpStats,
    timer::now,
};

/// Any HTTP filter as a layer. Behind a [`RouteLayer`](crate::route::RouteLayer) it applies the overrides that routes have for
/// the filter's name. A filter that sends requests of its own to clusters finds none: the layer has no connections to them.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use mesh_core::{filter::fault::{Abort, AbortStatus, Fault}, model::FractionalPercent};
/// use mesh_tower::{Body, BoxError, filter::FilterLayer};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let status = AbortStatus::Http(StatusCode::IM_A_TEAPOT);
/// let abort = Abort::new(status, FractionalPercent::ALWAYS);
/// let layer = FilterLayer::new(Fault::default().with_abort(abort));
/// let service = layer.layer(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty()))));
/// assert_eq!(service.oneshot(Request::new(Body::empty())).await?.status(), 418);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FilterLayer {
    chain: Arc<FilterChain>,
}

layers!(FilterLayer);

impl FilterLayer {
    /// The filter with this configuration, under Envoy's name for it.
    #[must_use]
    pub fn new<F: FilterKind>(config: impl Into<Arc<F>>) -> Self
    where
        FilterConfig: From<Arc<F>>,
    {
        Self::from(HttpFilter::new(config))
    }
}

impl FilterLayer {
    /// A filter that is made with `factory`.
    pub(crate) fn with_factory(filter: HttpFilter, factory: &FilterFactory<'_>) -> Self {
        Self { chain: single(filter, factory) }
    }
}

impl From<HttpFilter> for FilterLayer {
    fn from(filter: HttpFilter) -> Self {
        let factory =
            FilterFactory { stats: &HttpStats::default(), logs: &Arc::default(), clients: None, authorizer: None };
        Self::with_factory(filter, &factory)
    }
}

impl Middleware for FilterLayer {
    type Error<E: Into<BoxError> + Send> = E;

    async fn serve<S: HttpService>(self, mut service: S, mut call: Call) -> Result<Response<Body>, S::Error> {
        // In a server of the mesh, it is the request's.
        let info = call.head.extensions.get().cloned().unwrap_or_else(|| StreamInfo::new(now()));
        let matched = RouteMatched::of(&call.head.extensions).cloned();
        let routing = matched.as_ref().map_or(Routing::NotFound, |matched| Routing::Matched(matched.into()));
        // The route was chosen by another layer, so it cannot be chosen again here.
        let mut router = Router::fixed(routing);
        let mut run = self.chain.start();
        match run.on_request(&mut call, &info, &mut router).await {
            Some(reply) => reply.respond(&mut call, &info, None),
            None => {
                let response = service.send(call.take_request().unwrap_or_default()).await?;
                call.respond(response);
            }
        }
        run.on_response(&mut call, &info, router.matched());
        let mut response = call.response.take().unwrap_or_default();
        add_flags(&mut response, info.state().response_flags);
        Ok(response)
    }
}
