//! Sends the body of a message on an HTTP/2 stream.
//!
//! ```text
//!             frame                     window
//!   Reading ────────► Waiting for the window ────► Reading ──end──► done
//!      │                      │
//!      │ the body fails       └─stall timeout──► the stream is reset
//!      ▼
//!   Failed: the frames before the failure leave, then the stream is reset
//! ```
//!
//! A body is read only when the stream has room for the frame before, so a slow receiver slows down the sender.
//!
//! h2 discards the frames that a stream has queued when it is reset. After a failure, a [`Payload::Mark`] is therefore queued
//! behind them, and the stream is reset when h2 has taken it.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h2::{Reason, SendStream};
use http_body::Body as HttpBody;
use mesh_core::causes::chain;
use tokio::sync::oneshot;

use crate::timer::{Deadline, now};

/// The payload of a DATA frame.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Data of the body.
    Data(Bytes),
    /// No data. Dropped when h2 has taken it, and with it all frames of the stream that were queued before.
    Mark {
        /// Tells its receiver when it is dropped.
        _taken: oneshot::Sender<()>,
    },
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Mark { .. } => 0,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Data(data) => data,
            Self::Mark { .. } => &[],
        }
    }

    fn advance(&mut self, count: usize) {
        if let Self::Data(data) = self {
            data.advance(count);
        }
    }
}

/// The error of a body.
type BodyError = Box<dyn Error + Send + Sync>;

/// A body that is sent on a stream.
pub(crate) trait Outgoing: HttpBody<Data = Bytes, Error = BodyError> + Unpin {
    /// How long the receiver may take no data; `None` = unlimited.
    fn stall_timeout(&self) -> Option<Duration>;

    /// Records that the receiver has taken no data for that time. The body is dropped afterwards.
    fn stalled(&mut self);

    /// The reason for resetting the stream when the body fails.
    fn reset_reason(error: &BodyError) -> Reason;
}

/// The reason in an error of another stream, if the body of this one comes from it. `INTERNAL_ERROR` otherwise. A stream that
/// has delivered data was not refused, and did not end well.
pub(crate) fn reason_of(error: &(dyn Error + 'static)) -> Reason {
    let reset = chain(error).find_map(|error| error.downcast_ref::<h2::Error>()).filter(|error| error.is_reset());
    let reason = reset.and_then(h2::Error::reason);
    reason
        .filter(|reason| ![Reason::NO_ERROR, Reason::REFUSED_STREAM].contains(reason))
        .unwrap_or(Reason::INTERNAL_ERROR)
}

/// Sends a body. Resolves when h2 has all of it, or when the stream has been reset.
pub(crate) struct SendBody<B> {
    body: B,
    send: SendStream<Payload>,
    pending: Option<Pending>,
    failed: Option<Failed>,
    /// The reason for resetting the stream when the body fails; `None` = it depends on the error.
    reset_reason: Option<Reason>,
    stall_timeout: Option<Duration>,
    stalled_at: Deadline,
}

/// Data that waits for the flow-control window.
struct Pending {
    data: Bytes,
    is_last: bool,
}

/// A stream that is reset when `taken` resolves.
struct Failed {
    reason: Reason,
    taken: oneshot::Receiver<()>,
}

impl<B: Outgoing> SendBody<B> {
    pub(crate) fn new(body: B, send: SendStream<Payload>) -> Self {
        let stall_timeout = body.stall_timeout();
        let stalled_at = Deadline::new(None);
        Self { body, send, pending: None, failed: None, reset_reason: None, stall_timeout, stalled_at }
    }

    /// The same, with the reason for resetting the stream when the body fails.
    pub(crate) fn failing_with(self, reason: Reason) -> Self {
        Self { reset_reason: Some(reason), ..self }
    }

    /// The body, of which everything that was read has been given to h2, or was still waiting for the window.
    pub(crate) fn into_body(self) -> B {
        self.body
    }

    pub(crate) fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Ready with a reason if the stream must be reset at once.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        loop {
            if self.failed.is_some() {
                return self.poll_failed(cx);
            }
            if let Some(is_last) = self.pending.as_ref().map(|pending| pending.is_last) {
                ready!(self.poll_pending(cx))?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // Also registers the task to be woken by a reset.
                return self.send.poll_reset(cx).map(|_| Ok(()));
            };
            match frame {
                None => return Poll::Ready(self.send_data(Bytes::new(), true)),
                Some(Err(error)) => self.fail(self.reset_reason.unwrap_or_else(|| B::reset_reason(&error)))?,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let is_last = self.body.is_end_stream();
                        // The last frame waits for the window in h2, unless a timeout is to end the wait.
                        if is_last && (data.is_empty() || self.stall_timeout.is_none()) {
                            return Poll::Ready(self.send_data(data, true));
                        }
                        if !data.is_empty() {
                            self.send.reserve_capacity(data.len());
                            self.pending = Some(Pending { data, is_last });
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Poll::Ready(self.send.send_trailers(trailers).map_err(|_| Reason::INTERNAL_ERROR));
                    }
                },
            }
        }
    }

    /// Sends as much of the pending data as the window allows.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        while let Some(Pending { data, is_last }) = &mut self.pending {
            let window = self.send.capacity();
            if window == 0 {
                match self.send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    // The stream was reset, or the connection has ended.
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Reason::CANCEL)),
                    Poll::Pending => return self.poll_stalled(cx).map(Err),
                }
            }
            let part = data.split_to(window.min(data.len()));
            let ends = data.is_empty() && *is_last;
            if data.is_empty() {
                self.pending = None;
            }
            self.stalled_at.set(None);
            self.send_data(part, ends)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the receiver has taken no data for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        let Some(timeout) = self.stall_timeout else { return Poll::Pending };
        if self.stalled_at.is_never() {
            self.stalled_at.set(now().checked_add(timeout));
        }
        ready!(self.stalled_at.poll_expired(cx));
        self.body.stalled();
        Poll::Ready(Reason::CANCEL)
    }

    /// Resets the stream when h2 has taken the frames that are queued.
    fn fail(&mut self, reason: Reason) -> Result<(), Reason> {
        let (sender, taken) = oneshot::channel();
        self.send.send_data(Payload::Mark { _taken: sender }, false).map_err(|_| reason)?;
        self.stalled_at.set(self.stall_timeout.and_then(|timeout| now().checked_add(timeout)));
        self.failed = Some(Failed { reason, taken });
        Ok(())
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let Some(Failed { reason, taken }) = &mut self.failed else { return Poll::Ready(Ok(())) };
        if Pin::new(taken).poll(cx).is_ready() || self.stalled_at.poll_expired(cx).is_ready() {
            return Poll::Ready(Err(*reason));
        }
        self.send.poll_reset(cx).map(|_| Ok(()))
    }

    fn send_data(&mut self, data: Bytes, end_of_stream: bool) -> Result<(), Reason> {
        self.send.send_data(Payload::Data(data), end_of_stream).map_err(|_| Reason::INTERNAL_ERROR)
    }
}

impl<B: Outgoing> Future for SendBody<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(reason) = ready!(self.poll_send(cx)) {
            self.send.send_reset(reason);
        }
        Poll::Ready(())
    }
}
