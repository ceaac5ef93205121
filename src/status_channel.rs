//! Failed gRPC calls as errors, for tonic.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use mesh_tower::{BoxError, ResponseBody, ResponseCause};
use tonic::Status;
use tower_service::Service;

use crate::Channel;

/// A [`Channel`] whose failed gRPC calls are errors with a cause, made by [`Channel::with_status_source`].
#[derive(Clone, Debug)]
pub struct StatusChannel(Channel);

impl Channel {
    /// The same channel for clients of tonic that look at the `source` of a `Status`.
    ///
    /// A call that fails because of its connection is answered by a channel with `grpc-status`, in which there is no room for
    /// a cause. Here it is an error instead: a `tonic::Status` of the same code and message, whose source is the
    /// [`ResponseCause`]: that of a refused connection is an [`io::Error`](std::io::Error).
    #[must_use]
    pub fn with_status_source(self) -> StatusChannel {
        StatusChannel(self)
    }
}

impl<B> Service<Request<B>> for StatusChannel
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    /// A `tonic::Status`.
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx).map_err(|never| match never {})
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = answer.await.unwrap_or_else(|never| match never {});
            let Some(mut status) = Status::from_header_map(response.headers()) else { return Ok(response) };
            let Some(cause) = response.extensions_mut().remove::<ResponseCause>() else { return Ok(response) };
            status.set_source(cause.into_error());
            Err(status.into())
        })
    }
}
