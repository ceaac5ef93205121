//! What stands behind a connection manager.

use std::{convert::Infallible, future::poll_fn};

use http::{Request, Response};
use tower_service::Service;

use crate::{Body, StreamInfo, Transport, Upstream};

/// Answers the requests that a listener's routes do not answer themselves.
///
/// Not a `tower::Service`: the future borrows the responder and what is known of the request, so that a request costs
/// neither a box nor a clone. Any infallible service can be put in its place by [`ServiceResponder`].
pub trait Respond: Send + Sync + 'static {
    /// Answers `request`, of which `info` knows the route.
    fn respond(&self, request: Request<Body>, info: &StreamInfo) -> impl Future<Output = Response<Body>> + Send;
}

impl<T: Transport> Respond for Upstream<T> {
    fn respond(&self, request: Request<Body>, info: &StreamInfo) -> impl Future<Output = Response<Body>> + Send {
        self.send(request, info)
    }
}

/// A `tower::Service` that answers; it finds the [`StreamInfo`] in the extensions of its requests.
#[derive(Clone, Debug)]
pub struct ServiceResponder<S>(pub S);

impl<S> Respond for ServiceResponder<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn respond(&self, mut request: Request<Body>, info: &StreamInfo) -> Response<Body> {
        request.extensions_mut().insert(info.clone());
        let mut service = self.0.clone();
        match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => service.call(request).await.unwrap_or_else(|never| match never {}),
            Err(never) => match never {},
        }
    }
}
