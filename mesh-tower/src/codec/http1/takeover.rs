//! Connections whose protocol a program of this process switches, such as to WebSocket.
//!
//! Programs expect the upgraded stream as hyper's [`OnUpgrade`](hyper::upgrade::OnUpgrade), which only hyper can make. So hyper serves
//! such a request. If the program does not upgrade the connection, it is closed after the response, as in Envoy.

use std::{convert::Infallible, future::poll_fn, pin::pin, task::Poll};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Body, ResponseBody,
    call::Interim,
    codec::{
        io::DownstreamIo,
        lifecycle::{Ending, Lifecycle},
    },
    downstream::ReadAhead,
};

/// A connection that begins with a request which was not answered.
pub(super) struct TakenOver<I> {
    pub(super) io: ReadAhead<DownstreamIo<I>>,
    pub(super) lifecycle: Lifecycle,
}

/// Serves the connection to its end.
pub(super) async fn serve<I, S, F>(connection: TakenOver<I>, service: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Body>, Option<Interim>) -> F,
    F: Future<Output = Response<ResponseBody>> + Send,
{
    let TakenOver { io, mut lifecycle } = connection;
    let service = service_fn(|request: Request<Incoming>| {
        let answer = service(request.map(Body::from), None);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    // Whatever follows the request has not been checked, and would not be.
    builder.keep_alive(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let ended = poll_fn(|cx| {
        match lifecycle.poll_ending(cx) {
            Poll::Ready(Ending::Abrupt) => return Poll::Ready(Ok(())),
            Poll::Ready(Ending::Graceful) => connection.as_mut().graceful_shutdown(),
            Poll::Pending => {}
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "downstream connection ended");
    }
}
