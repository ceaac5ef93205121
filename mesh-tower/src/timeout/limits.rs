//! The timeouts of a request in the pipeline.
//!
//! All timeouts of a request share one timer, which is set to the nearest one when the request first waits. The route
//! timeout and the per-try timeout start at the end of the request, as in Envoy, so they do not run during an upload.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::{grpc, local_reply::LocalReply, resilience::timeout::Timeouts};

use crate::{
    Body, BoxError,
    call::{ResponseCutOff, StreamInfo},
    timer::Deadline,
};

/// The timeout that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The route timeout.
    Route,
    /// The per-try timeout or the per-try idle timeout.
    PerTry,
    /// The maximum duration of the stream.
    MaxStreamDuration,
}

impl Expired {
    /// The local reply, if no response has begun.
    pub(crate) fn reply(self) -> LocalReply {
        match self {
            Self::Route => LocalReply::RESPONSE_TIMEOUT,
            Self::PerTry => LocalReply::PER_TRY_TIMEOUT,
            Self::MaxStreamDuration => {
                LocalReply { grpc_status: Some(grpc::DEADLINE_EXCEEDED), ..LocalReply::MAX_DURATION_TIMEOUT }
            }
        }
    }
}

/// The timeouts of a request. Default none.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    route: Option<Duration>,
    max_stream_duration: Option<Instant>,
    /// Created when the request first waits.
    deadline: Option<Deadline>,
}

/// The timeouts of a try, which start when it has a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TryLimits {
    start: Instant,
    timeout: Duration,
}

impl TryLimits {
    /// `None` if there is no per-try timeout.
    pub(crate) fn new(start: impl FnOnce() -> Instant, timeouts: &Timeouts) -> Option<Self> {
        let timeout = timeouts.per_try.into_iter().chain(timeouts.per_try_idle).min()?;
        Some(Self { start: start(), timeout })
    }
}

impl Limits {
    pub(crate) fn new(info: &StreamInfo, timeouts: &Timeouts) -> Self {
        let max_stream_duration = timeouts.max_stream_duration.and_then(|limit| info.start().checked_add(limit));
        Self { route: timeouts.route, max_stream_duration, deadline: None }
    }

    /// Whether there is no timeout.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.route.is_none() && self.max_stream_duration.is_none()
    }

    /// Polls until there is a result or a timeout expires.
    pub(crate) async fn bound<R>(
        &mut self,
        of_try: Option<TryLimits>,
        info: &StreamInfo,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Result<R, Expired> {
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_expired(of_try, info, cx).map(Err),
        })
        .await
    }

    /// Ready when a timeout has expired. Until then, the task is registered to be woken. `info` has the end of the request.
    pub(crate) fn poll_expired(
        &mut self,
        of_try: Option<TryLimits>,
        info: &StreamInfo,
        cx: &mut Context<'_>,
    ) -> Poll<Expired> {
        let Some((at, which)) = self.nearest(of_try, info) else { return Poll::Pending };
        let deadline = self.deadline.get_or_insert_with(|| Deadline::new(None));
        deadline.set(Some(at));
        deadline.poll_expired(cx).map(|()| which)
    }

    fn nearest(&self, of_try: Option<TryLimits>, info: &StreamInfo) -> Option<(Instant, Expired)> {
        let of_stream = self.max_stream_duration.map(|at| (at, Expired::MaxStreamDuration));
        if self.route.is_none() && of_try.is_none() {
            return of_stream;
        }
        let Some(complete) = info.request_completed_at() else { return of_stream };
        let of_route = self.route.and_then(|limit| Some((complete.checked_add(limit)?, Expired::Route)));
        let of_try = of_try.and_then(|limits| {
            let start = limits.start.max(complete);
            Some((start.checked_add(limits.timeout)?, Expired::PerTry))
        });
        [of_stream, of_route, of_try].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// A response body that fails when the route timeout expires.
#[derive(Debug)]
pub(crate) struct LimitedBody {
    inner: Body,
    limits: Limits,
    info: StreamInfo,
}

impl LimitedBody {
    pub(crate) fn wrap(inner: Body, limits: Limits, info: StreamInfo) -> Body {
        if inner.is_end_stream() { inner } else { Body::new(Self { inner, limits, info }) }
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { inner, limits, info } = &mut *self;
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        limits.poll_expired(None, info, cx).map(|_| Some(Err(ResponseCutOff.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
