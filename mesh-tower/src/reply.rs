//! What stand-alone layers answer in place of the service inside.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use mesh_core::{local_reply::LocalReply, telemetry::ResponseFlags};
use pin_project_lite::pin_project;

/// The answer for a request that `is_grpc` or not. Its [`ResponseFlags`] lie in its extensions, so that layers further
/// out know it from an endpoint's.
pub(crate) fn local_reply<R: From<Bytes>>(reply: LocalReply, is_grpc: bool) -> Response<R> {
    let flags = reply.flags;
    let mut response = reply.into_response(is_grpc).map(R::from);
    response.extensions_mut().insert(flags);
    response
}

/// The flags of an answer that a layer gave; none if an endpoint gave it.
pub(crate) fn flags_of<R>(response: &Response<R>) -> ResponseFlags {
    response.extensions().get().copied().unwrap_or_default()
}

/// Adds flags to an answer.
pub(crate) fn flag<R>(response: &mut Response<R>, flags: ResponseFlags) {
    let all = flags_of(response).union(flags);
    response.extensions_mut().insert(all);
}

pin_project! {
    /// Future of a service that has passed a request on, or answers it itself.
    ///
    /// # Cancel safety
    /// Dropping it gives the request up.
    #[derive(Debug)]
    pub struct ResponseFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F, R> {
        Passed { #[pin] inner: F },
        Answered { answer: Option<Response<R>> },
    }
}

impl<F, R> ResponseFuture<F, R> {
    pub(crate) fn passed(inner: F) -> Self {
        Self { state: State::Passed { inner } }
    }

    pub(crate) fn answered(answer: Response<R>) -> Self {
        Self { state: State::Answered { answer: Some(answer) } }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().state.project() {
            StateProjection::Passed { inner } => inner.poll(cx),
            StateProjection::Answered { answer } => {
                Poll::Ready(Ok(answer.take().expect("a future is not polled after it was ready")))
            }
        }
    }
}
