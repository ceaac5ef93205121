//! [`TimeoutLayer`].

use std::{pin::pin, time::Duration};

use http::{Extensions, Response};
use mesh_core::{local_reply::LocalReply, resilience::timeout::Timeouts};

use super::{LimitedBody, Limits, TimeIsUp};
use crate::{
    Body, BoxError,
    call::{Call, StreamInfo, local_reply},
    layer::{HttpService, Middleware, layers},
    route::RouteMatched,
    timer::now,
};

/// Applies timeouts to requests; see the [module](super).
///
/// ```
/// use std::time::Duration;
///
/// use http::{Request, Response};
/// use mesh_tower::{Body, BoxError, timeout::TimeoutLayer};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let slow = service_fn(async |_: Request<Body>| {
///     tokio::time::sleep(Duration::from_secs(5)).await;
///     Ok::<_, BoxError>(Response::new(Body::from("late")))
/// });
/// let service = TimeoutLayer::new(Duration::from_secs(1)).layer(slow);
/// let response = service.oneshot(Request::new(Body::empty())).await?;
/// assert_eq!(response.status(), 504);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    timeout: Option<Duration>,
}

layers!(TimeoutLayer);

impl TimeoutLayer {
    /// Creates a layer with a timeout for every request until the end of its response; zero = unlimited.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout: Some(timeout) }
    }

    /// Creates a layer with the timeout of the route that [`RouteLayer`](crate::route::RouteLayer) has found.
    #[must_use]
    pub fn from_route() -> Self {
        Self { timeout: None }
    }

    /// The timeout of a request: the layer's, or else the route's.
    fn timeout(&self, extensions: &Extensions) -> Option<Duration> {
        let of_route = || Some(RouteMatched::of(extensions)?.entry().action()?.timeout);
        self.timeout.or_else(of_route).filter(|timeout| !timeout.is_zero())
    }
}

impl Middleware for TimeoutLayer {
    type Error<E: Into<BoxError> + Send> = E;

    async fn serve<S: HttpService>(self, mut service: S, mut call: Call) -> Result<Response<Body>, S::Error> {
        let timeout = self.timeout(&call.head.extensions);
        let time_is_up = timeout.map(|_| TimeIsUp::of(&mut call.head.extensions));
        let is_grpc = call.is_grpc();
        let Some(mut request) = call.take_request() else { return Ok(Response::new(Body::empty())) };
        let info = StreamInfo::new(now());
        request.body_mut().count(&info);
        let mut limits = Limits::new(&info, &Timeouts { route: timeout, ..Timeouts::default() });
        let mut sending = pin!(service.send(request));
        match limits.bound(None, &info, |cx| sending.as_mut().poll(cx)).await {
            Ok(response) => Ok(response?.map(|body| LimitedBody::wrap(body, limits, info))),
            Err(_) => {
                if let Some(time_is_up) = time_is_up {
                    time_is_up.set();
                }
                Ok(local_reply(LocalReply::RESPONSE_TIMEOUT, is_grpc))
            }
        }
    }
}
