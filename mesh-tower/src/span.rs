//! Polling of a future within a span.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
};

use tracing::Span;

/// Polls `future` within `span`.
///
/// `tracing::Instrument` takes the future by value, and the futures of a request are large. Without these moves, a request of
/// the proxy executes 3 % fewer instructions.
pub(crate) async fn within<F: Future>(span: Span, mut future: Pin<&mut F>) -> F::Output {
    poll_fn(|cx| span.in_scope(|| future.as_mut().poll(cx))).await
}
