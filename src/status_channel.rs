//! A channel that returns failed gRPC calls as errors, for tonic.

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

/// A [`Channel`] that returns an error with a source if a gRPC call fails. Created by [`Channel::with_status_source`].
#[derive(Clone, Debug)]
pub struct StatusChannel(Channel);

impl Channel {
    /// Converts the channel for tonic clients that read the `source` of a `Status`.
    ///
    /// If the connection of a call fails, a channel responds with a `grpc-status`, which has no source. The returned channel
    /// instead fails with a `tonic::Status` of the same code and message. Its source is the error of the [`ResponseCause`], such
    /// as an [`io::Error`](std::io::Error) if the connection is refused.
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
