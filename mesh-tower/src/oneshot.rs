//! One request to one service: waits until the service is ready, then calls it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// Future of one request to a service that was made or cloned for it.
    #[derive(Debug)]
    pub struct Oneshot<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        state: State<S, R, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<S, R, F> {
        Waiting { service: S, request: Option<R> },
        Called { #[pin] inner: F },
    }
}

impl<S: Service<R>, R> Oneshot<S, R> {
    pub(crate) fn new(service: S, request: R) -> Self {
        Self { state: State::Waiting { service, request: Some(request) } }
    }
}

impl<S: Service<R>, R> Future for Oneshot<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let called = match this.state.as_mut().project() {
                StateProjection::Called { inner } => return inner.poll(cx),
                StateProjection::Waiting { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    service.call(request.take().expect("a request is sent once"))
                }
            };
            this.state.set(State::Called { inner: called });
        }
    }
}
