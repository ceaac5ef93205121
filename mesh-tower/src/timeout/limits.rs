//! The limits of one request, watched while it waits.
//!
//! All limits of a request share one timer, which is armed for the nearest of them and only once the request really
//! waits. The route timeout and the timeout of a try count from the end of the request, as in Envoy: they do not run
//! during an upload.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_core::resilience::timeout::Timeouts;

use super::ResponseCutOff;
use crate::{
    Body, BoxError,
    call::StreamInfo,
    timer::{Deadline, Timers},
};

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The route timeout.
    Route,
    /// The timeout of the try, or its longest silence.
    PerTry,
    /// The stream's longest life.
    MaxStreamDuration,
}

/// The limits of one request. By default there are none.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    route: Option<Duration>,
    max_stream_duration: Option<Instant>,
    /// Made when a limit is first waited for.
    deadline: Option<Deadline>,
}

/// The limits of one try, from the moment it has a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TryLimits {
    start: Instant,
    timeout: Duration,
}

impl TryLimits {
    /// `None` if a try is not limited by itself.
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

    /// Polls until there is a result, but no longer than the limits allow.
    pub(crate) async fn bound<R>(
        &mut self,
        of_try: Option<TryLimits>,
        info: &StreamInfo,
        timers: &Timers,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Result<R, Expired> {
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_expired(of_try, info, timers, cx).map(Err),
        })
        .await
    }

    /// Ready once a limit is reached; otherwise the task is woken then. `info` tells when the request was complete.
    pub(crate) fn poll_expired(
        &mut self,
        of_try: Option<TryLimits>,
        info: &StreamInfo,
        timers: &Timers,
        cx: &mut Context<'_>,
    ) -> Poll<Expired> {
        let Some((at, which)) = self.nearest(of_try, info) else { return Poll::Pending };
        let deadline = self.deadline.get_or_insert_with(|| timers.deadline(None));
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

/// A response body that is cut off when the route timeout of its request ends.
#[derive(Debug)]
pub(crate) struct LimitedBody {
    inner: Body,
    limits: Limits,
    info: StreamInfo,
    timers: Timers,
}

impl LimitedBody {
    pub(crate) fn wrap(inner: Body, limits: Limits, info: StreamInfo, timers: Timers) -> Body {
        if inner.is_end_stream() { inner } else { Body::new(Self { inner, limits, info, timers }) }
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { inner, limits, info, timers } = &mut *self;
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        limits.poll_expired(None, info, timers, cx).map(|_| Some(Err(ResponseCutOff.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
