//! [`Authorizer`]: decides about requests in this process, and the layer that asks it.

use std::{fmt, pin::Pin, sync::Arc};

use http::Response;
use mesh_core::filter::{
    HttpFilter,
    ext_authz::{Authorization, BufferSettings, CheckRequest, ExtAuthz, Service},
};

use crate::{
    Body, BoxError,
    call::Call,
    filter::{FilterFactory, FilterLayer},
    layer::{HttpService, Middleware, layers},
    telemetry::HttpStats,
};

/// Decides about requests: what a service that Envoy's `ext_authz` asks does, as code of the program.
///
/// It gets the same [`CheckRequest`] as such a service, and its [`Authorization`] has the same effect.
pub trait Authorizer: Send + Sync + 'static {
    /// Decides about a request.
    ///
    /// # Cancel safety
    /// The future is dropped if the client goes away.
    fn authorize(&self, check: &CheckRequest) -> impl Future<Output = Authorization> + Send;
}

/// The decision of an [`Authorizer`] under way.
type Deciding<'a> = Pin<Box<dyn Future<Output = Authorization> + Send + 'a>>;

/// An [`Authorizer`] of any type.
pub(crate) trait AnyAuthorizer: Send + Sync {
    fn authorize<'a>(&'a self, check: &'a CheckRequest) -> Deciding<'a>;
}

impl<A: Authorizer> AnyAuthorizer for A {
    fn authorize<'a>(&'a self, check: &'a CheckRequest) -> Deciding<'a> {
        Box::pin(Authorizer::authorize(self, check))
    }
}

impl fmt::Debug for dyn AnyAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorizer")
    }
}

/// Asks an [`Authorizer`] about each request, before the inner service gets it.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use mesh_core::filter::ext_authz::{Authorization, CheckRequest};
/// use mesh_tower::{Body, BoxError, filter::{Authorizer, AuthorizerLayer}};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// struct OnlyReads;
///
/// impl Authorizer for OnlyReads {
///     async fn authorize(&self, check: &CheckRequest) -> Authorization {
///         if &*check.method == "GET" { Authorization::allow() } else { Authorization::deny(StatusCode::FORBIDDEN) }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let service = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
/// let service = AuthorizerLayer::new(OnlyReads).layer(service);
/// assert_eq!(service.clone().oneshot(Request::get("/").body(Body::empty())?).await?.status(), 200);
/// assert_eq!(service.oneshot(Request::post("/").body(Body::empty())?).await?.status(), 403);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AuthorizerLayer {
    config: Arc<ExtAuthz>,
    authorizer: Arc<dyn AnyAuthorizer>,
    layer: FilterLayer,
}

layers!(AuthorizerLayer);

impl AuthorizerLayer {
    /// Asks `authorizer` about all requests, without their bodies.
    #[must_use]
    pub fn new(authorizer: impl Authorizer) -> Self {
        Self::with_config(Arc::new(ExtAuthz::new(Service::InProcess)), Arc::new(authorizer))
    }

    /// Passes the body to the authorizer, up to a limit. Default: it is not read.
    #[must_use]
    pub fn with_request_body(self, settings: BufferSettings) -> Self {
        let mut config = ExtAuthz::clone(&self.config);
        config.with_request_body = Some(settings);
        Self::with_config(Arc::new(config), self.authorizer)
    }

    fn with_config(config: Arc<ExtAuthz>, authorizer: Arc<dyn AnyAuthorizer>) -> Self {
        let stats = HttpStats::default();
        let factory =
            FilterFactory { stats: &stats, logs: &Arc::default(), clients: None, authorizer: Some(&authorizer) };
        let layer = FilterLayer::with_factory(HttpFilter::new::<ExtAuthz>(Arc::clone(&config)), &factory);
        Self { config, authorizer, layer }
    }
}

impl Middleware for AuthorizerLayer {
    type Error<E: Into<BoxError> + Send> = E;

    async fn serve<S: HttpService>(self, service: S, call: Call) -> Result<Response<Body>, S::Error> {
        self.layer.serve(service, call).await
    }
}
