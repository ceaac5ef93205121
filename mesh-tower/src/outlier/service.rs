//! The service of [`OutlierLayer`](super::OutlierLayer), and its future.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use mesh_core::{
    health::outlier::{LocalOriginFailure, Outcome},
    policy::grpc,
    telemetry::ResponseFlags,
};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{TimeIsUp, outcome_of_reset, outcome_of_response, record};
use crate::{BoxError, balance::SelectedEndpoint, reply::flags_of, retry::reset_reason, timer::now};

/// Records how requests to endpoints end.
#[derive(Clone, Debug)]
pub struct OutlierDetector<S> {
    pub(super) inner: S,
    pub(super) endpoint: Option<SelectedEndpoint>,
}

impl<S, B, R> Service<Request<B>> for OutlierDetector<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let extensions = request.extensions();
        let endpoint = self.endpoint.clone().or_else(|| extensions.get().cloned());
        let observed = endpoint.map(|endpoint| Observed { endpoint, time_is_up: extensions.get().cloned() });
        let is_grpc = grpc::is_grpc_request(request.headers());
        ResponseFuture { inner: self.inner.call(request), observed, is_grpc }
    }
}

/// A request under way; tells how it ended.
#[derive(Debug)]
struct Observed {
    endpoint: SelectedEndpoint,
    time_is_up: Option<TimeIsUp>,
}

impl Observed {
    fn record(&self, outcome: Outcome) {
        record(&self.endpoint.cluster, &self.endpoint.endpoint, outcome, now());
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if self.time_is_up.as_ref().is_some_and(TimeIsUp::take) {
            self.record(Outcome::LocalOrigin(LocalOriginFailure::Timeout));
        }
    }
}

pin_project! {
    /// Future of [`OutlierDetector`].
    ///
    /// # Cancel safety
    /// Dropping it gives the request up. That says nothing about the endpoint, unless a
    /// [`TimeoutLayer`](crate::timeout::TimeoutLayer) or a [`RetryLayer`](crate::retry::RetryLayer) does it because the
    /// request took too long: then it counts as a timeout.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        observed: Option<Observed>,
        is_grpc: bool,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx)).map_err(Into::into);
        let outcome = match &result {
            Ok(response) => match flags_of(response) {
                ResponseFlags::NONE => Some(outcome_of_response(response, *this.is_grpc)),
                flags if flags.contains(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT) => {
                    Some(Outcome::LocalOrigin(LocalOriginFailure::Timeout))
                }
                // Another layer answered; the endpoint has no part in it.
                _ => None,
            },
            Err(error) => outcome_of_reset(reset_reason(error)),
        };
        if let (Some(observed), Some(outcome)) = (this.observed.take(), outcome) {
            observed.record(outcome);
        }
        Poll::Ready(result)
    }
}
