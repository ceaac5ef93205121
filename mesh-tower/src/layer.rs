//! Stand-alone layers: a [`Middleware`] is an async function around a service, and [`Layered`] is the tower service of it.
//!
//! Bodies of any type are accepted and passed on as [`Body`]. A middleware runs the same code as the pipeline.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::{Body, BoxError, call::Call};

/// A service for HTTP requests with responses of any body type.
pub trait HttpService: Clone + Send + 'static {
    /// The error of the service.
    type Error: Into<BoxError> + Send;

    /// Waits until the service is ready and sends it a request.
    ///
    /// # Errors
    /// Those of the service.
    fn send(&mut self, request: Request<Body>) -> impl Future<Output = Result<Response<Body>, Self::Error>> + Send;
}

impl<S, R> HttpService for S
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Error = S::Error;

    async fn send(&mut self, request: Request<Body>) -> Result<Response<Body>, S::Error> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        Ok(self.call(request).await?.map(Body::new))
    }
}

/// The handling of a request by a layer.
pub trait Middleware: Clone + Send + Sync + 'static {
    /// The error of the layer's service. `E` is the error of the inner service.
    type Error<E: Into<BoxError> + Send>: Into<BoxError> + Send;

    /// Responds to the request of `call`. `service` is the inner service.
    ///
    /// # Errors
    /// Those of the inner service.
    fn serve<S: HttpService>(
        self,
        service: S,
        call: Call,
    ) -> impl Future<Output = Result<Response<Body>, Self::Error<S::Error>>> + Send;
}

/// The service of a stand-alone layer: a middleware around a service.
#[derive(Clone)]
pub struct Layered<M, S> {
    middleware: M,
    inner: S,
}

impl<M, S> Layered<M, S> {
    /// `middleware` around `inner`.
    pub fn new(middleware: M, inner: S) -> Self {
        Self { middleware, inner }
    }
}

impl<M, S, B, R> Service<Request<B>> for Layered<M, S>
where
    M: Middleware,
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
    M::Error<S::Error>: From<S::Error>,
{
    type Response = Response<Body>;
    type Error = M::Error<S::Error>;
    /// Dropping it cancels the request.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(<M::Error<S::Error> as From<S::Error>>::from)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that is ready must be called, not its clone.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        Box::pin(self.middleware.clone().serve(ready, Call::new(request.map(Body::new))))
    }
}

impl<M: fmt::Debug, S> fmt::Debug for Layered<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layered").field(&self.middleware).finish()
    }
}

/// Makes layers of middlewares.
macro_rules! layers {
    ($($middleware:ty),* $(,)?) => {$(
        impl<S> tower_layer::Layer<S> for $middleware {
            type Service = crate::layer::Layered<Self, S>;

            fn layer(&self, inner: S) -> Self::Service {
                crate::layer::Layered::new(self.clone(), inner)
            }
        }
    )*};
}
pub(crate) use layers;
