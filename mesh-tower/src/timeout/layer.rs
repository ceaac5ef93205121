//! [`TimeoutLayer`].

use std::time::Duration;

use http::Extensions;
use tower_layer::Layer;

use super::Timeout;
use crate::{route::RouteMatched, timer::Timers};

/// Limits the time of requests; see the [module](super).
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    timeout: Option<Duration>,
    timers: Timers,
}

impl TimeoutLayer {
    /// Of every request, until its response has ended; zero is unlimited.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout: Some(timeout), timers: Timers::default() }
    }

    /// Of the route that [`RouteLayer`](crate::route::RouteLayer) chose.
    #[must_use]
    pub fn of_route() -> Self {
        Self { timeout: None, timers: Timers::default() }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { inner, timeout: self.timeout, timers: self.timers.clone() }
    }
}

/// The timeout of a request: a layer's own, else the route's.
pub(super) fn timeout_of(extensions: &Extensions, own: Option<Duration>) -> Option<Duration> {
    let of_route = || Some(RouteMatched::of(extensions)?.entry().action()?.timeout);
    own.or_else(of_route).filter(|timeout| !timeout.is_zero())
}
