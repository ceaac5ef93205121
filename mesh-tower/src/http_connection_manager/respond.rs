//! [`Respond`]: the end of the pipeline.

use std::{convert::Infallible, future::poll_fn};

use http::{Request, Response};
use tower_service::Service;

use super::HttpListener;
use crate::{
    Body, Transport, Upstream,
    call::{Call, ResponseSource, StreamInfo},
    route::Matched,
};

/// What is known about a request at the end of the pipeline.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    pub(crate) listener: &'a HttpListener,
    pub(crate) info: &'a StreamInfo,
    pub(crate) matched: &'a Matched<'a>,
}

/// Responds to the requests that a listener's filters and routes do not respond to.
///
/// This is not a `tower::Service`, because the future borrows the responder and the call, so that a request needs neither
/// a box nor a clone. [`ServiceResponder`] adapts any infallible service.
pub trait Respond: Send + Sync + 'static {
    /// Whether this is the program that the listener belongs to. Such a program responds on the client's connection itself, so
    /// it may upgrade or close the connection. Default false.
    const IS_PROGRAM: bool = false;

    /// Responds to the request of `call`.
    fn respond(&self, call: &mut Call, request: RequestContext<'_>) -> impl Future<Output = ()> + Send;
}

impl<T: Transport> Respond for Upstream<T> {
    fn respond(&self, call: &mut Call, request: RequestContext<'_>) -> impl Future<Output = ()> + Send {
        self.forward(call, request.info, request.matched)
    }
}

/// A `tower::Service` as a [`Respond`]. Its requests have the [`StreamInfo`] in their extensions.
#[derive(Clone, Debug)]
pub struct ServiceResponder<S>(pub S);

impl<S> Respond for ServiceResponder<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn respond(&self, call: &mut Call, request: RequestContext<'_>) {
        let Some(sent) = request.take_request(call) else { return };
        let mut service = self.0.clone();
        let response = match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => service.call(sent).await.unwrap_or_else(|never| match never {}),
            Err(never) => match never {},
        };
        request.info.state().response_source.get_or_insert(ResponseSource::Upstream);
        call.respond(response);
    }
}

impl RequestContext<'_> {
    /// Takes the request for a service of the program, with its [`StreamInfo`] in its extensions, and the client's
    /// [`PeerIdentity`](mesh_core::tls::PeerIdentity) if it has a certificate.
    pub(crate) fn take_request(self, call: &mut Call) -> Option<Request<Body>> {
        let peer = {
            let mut state = self.info.state();
            state.observe_route(|| self.matched.route.to_handle());
            state.downstream_tls.as_ref().and_then(|tls| tls.peer.clone())
        };
        let mut request = call.take_request()?;
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        request.extensions_mut().insert(self.info.clone());
        Some(request)
    }
}
