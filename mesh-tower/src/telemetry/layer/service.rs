//! The service of [`MetricsLayer`](super::MetricsLayer), and its future.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, StatusCode};
use http_body::Body;
use mesh_core::{
    policy::{
        grpc,
        survey::{HeaderSurvey, header_bytes},
    },
    telemetry::ResponseFlags,
};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{MetricsBody, Who};
use crate::{
    reply::flags_of,
    telemetry::{IstioMetrics, RequestProtocol, RequestSample, SeriesKey},
};

/// Counts the requests of the service inside.
#[derive(Clone, Debug)]
pub struct Metrics<S> {
    pub(super) inner: S,
    pub(super) metrics: IstioMetrics,
    pub(super) who: Arc<Who>,
}

/// A request under way; counts it once, however it ends.
#[derive(Debug)]
pub(super) struct Recording {
    metrics: IstioMetrics,
    who: Arc<Who>,
    start: Instant,
    protocol: RequestProtocol,
    pub(super) status: Option<StatusCode>,
    pub(super) grpc_status: Option<u32>,
    pub(super) flags: ResponseFlags,
    /// What layers further in say of the answer.
    pub(super) flags_of_answer: ResponseFlags,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

impl<S, B, R> Service<Request<B>> for Metrics<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body,
    R: Body,
{
    type Response = Response<MetricsBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let survey = HeaderSurvey::of(request.headers());
        let recording = Recording {
            metrics: self.metrics.clone(),
            who: Arc::clone(&self.who),
            start: Instant::now(),
            protocol: if survey.is_grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
            status: None,
            grpc_status: None,
            flags: ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION,
            flags_of_answer: ResponseFlags::NONE,
            request_bytes: survey.bytes + request.body().size_hint().lower(),
            response_bytes: 0,
        };
        ResponseFuture { inner: self.inner.call(request), recording: Some(recording) }
    }
}

pin_project! {
    /// Future of [`Metrics`].
    ///
    /// # Cancel safety
    /// A request whose future is dropped counts as given up by the client: response code 0, flag `DC`.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        recording: Option<Recording>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<MetricsBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(cx));
        let mut recording = this.recording.take();
        Poll::Ready(match outcome {
            Ok(response) => {
                if let Some(recording) = &mut recording {
                    recording.status = Some(response.status());
                    recording.flags_of_answer = flags_of(&response);
                    recording.grpc_status = grpc::status_of(response.headers());
                    recording.response_bytes = header_bytes(response.headers());
                }
                Ok(response.map(|body| MetricsBody::new(body, recording)))
            }
            Err(error) => {
                if let Some(recording) = &mut recording {
                    recording.flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
                }
                Err(error)
            }
        })
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let who = &self.who;
        let key = SeriesKey {
            reporter: who.reporter,
            source: who.source.as_ref(),
            destination: who.destination.as_ref(),
            service: who.service.as_ref(),
            protocol: self.protocol,
            response_code: self.status.map_or(0, |status| status.as_u16()),
            grpc_status: self.grpc_status,
            flags: self.flags,
        };
        let sample = RequestSample {
            duration: self.start.elapsed(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
        };
        self.metrics.record(key, sample);
    }
}
