//! The service of [`FaultLayer`](super::FaultLayer), and its future.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use mesh_core::{
    filter::fault::{FaultAbort, FaultDecision},
    local_reply::LocalReply,
    policy::grpc,
    telemetry::ResponseFlags,
};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{FaultLayer, active::ActiveFault};
use crate::{
    reply::{flag, local_reply},
    timer::{Deadline, now},
};

/// Delays and fails requests on purpose.
#[derive(Clone, Debug)]
pub struct FaultInjection<S> {
    pub(super) inner: S,
    pub(super) layer: FaultLayer,
}

impl<S, B, R> Service<Request<B>> for FaultInjection<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let fault = self.layer.decide(&parts);
        let request = Request::from_parts(parts, body);
        let Some((FaultDecision { delay, abort }, active)) = fault else {
            return ResponseFuture {
                state: State::Passed { inner: self.inner.call(request) },
                flags: None,
                active: None,
            };
        };
        let is_grpc = grpc::is_grpc_request(request.headers());
        // The service that was asked whether it is ready is the one to call later.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        let deadline = self.layer.timers.deadline(delay.and_then(|delay| now().checked_add(delay)));
        let waiting = Waiting { service: ready, request, abort: abort.map(|abort| (abort, is_grpc)) };
        let state = State::Waiting { deadline: delay.map(|_| deadline), then: Some(waiting) };
        ResponseFuture { state, flags: delay.map(|_| ResponseFlags::DELAY_INJECTED), active: Some(active) }
    }
}

pin_project! {
    /// Future of [`FaultInjection`].
    ///
    /// # Cancel safety
    /// Dropping it gives the request up.
    #[derive(Debug)]
    pub struct ResponseFuture<S, Q>
    where
        S: Service<Q>,
    {
        #[pin]
        state: State<S, Q, S::Future>,
        flags: Option<ResponseFlags>,
        active: Option<ActiveFault>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<S, Q, F> {
        Waiting { deadline: Option<Deadline>, then: Option<Waiting<S, Q>> },
        Passed { #[pin] inner: F },
    }
}

/// What happens after the delay.
#[derive(Debug)]
struct Waiting<S, Q> {
    service: S,
    request: Q,
    abort: Option<(FaultAbort, bool)>,
}

impl<S, Q, R> Future for ResponseFuture<S, Q>
where
    S: Service<Q, Response = Response<R>>,
    R: From<Bytes>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut response = loop {
            let called = match this.state.as_mut().project() {
                StateProjection::Passed { inner } => break ready!(inner.poll(cx))?,
                StateProjection::Waiting { deadline, then } => {
                    if let Some(deadline) = deadline {
                        ready!(deadline.poll_expired(cx));
                    }
                    let mut then = then.take().expect("a future is not polled after it was ready");
                    if let Some((abort, is_grpc)) = then.abort {
                        break local_reply(LocalReply::fault(abort), is_grpc);
                    }
                    then.service.call(then.request)
                }
            };
            this.state.set(State::Passed { inner: called });
        };
        this.active.take();
        if let Some(flags) = this.flags.take() {
            flag(&mut response, flags);
        }
        Poll::Ready(Ok(response))
    }
}
