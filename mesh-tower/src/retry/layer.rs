//! [`RetryLayer`].

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use http::{Extensions, Response};
use mesh_core::{
    cluster::ClusterState,
    local_reply::LocalReply,
    model::{Cluster, RetryBudget, RetryPolicy, RoutingPriority, Thresholds},
    resilience::{overrides::Overrides, timeout::Timeouts},
    retry::{Decision, RequestProgress, ResetReason, RetryState},
    telemetry::ResponseFlags,
};

use super::{Attempt, Outcome, Retries, TriedEndpoints, repeat, reset_reason};
use crate::{
    Body, BoxError, ClusterHandle,
    call::{Call, StreamInfo, add_flags, flags_of, local_reply},
    layer::{HttpService, Middleware, layers},
    route::RouteMatched,
    timeout::{Limits, TimeIsUp, TryLimits},
    timer::{self, now},
};

/// Retries requests under a [`RetryPolicy`] and within a budget. Local replies of other layers of this crate (an
/// overflow, no route, no healthy endpoint) are never retried, since another try would get the same; the 504 of an
/// inner [`TimeoutLayer`](crate::timeout::TimeoutLayer) counts as a reset.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use mesh_core::model::{Percent, RetryBudget, RetryOn, RetryPolicy};
/// use mesh_tower::{Body, BoxError, retry::RetryLayer};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let tries = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
/// let flaky = service_fn(move |_: Request<Body>| {
///     let first = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
///     let status = if first { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
///     async move { Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty())?) }
/// });
/// let policy = RetryPolicy::new(RetryOn::FIVE_XX).with_num_retries(2);
/// let budget = RetryBudget::new(Percent::new(20)?, 3);
/// let service = RetryLayer::new(policy, budget).layer(flaky);
/// assert_eq!(service.oneshot(Request::new(Body::empty())).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer {
    policy: Option<Arc<RetryPolicy>>,
    limits: RetryLimits,
    retry_buffer_bytes: usize,
}

layers!(RetryLayer);

/// Where the limits on retries come from.
#[derive(Clone, Debug)]
enum RetryLimits {
    /// A budget of the layer's own, a share of the requests through it.
    Own(Arc<ClusterState>),
    /// Those of a cluster, whose circuit breaker counts requests.
    Cluster(Arc<ClusterState>),
    /// Those of the cluster that the request's route chose.
    Route,
}

impl RetryLayer {
    /// Retries under `policy`, and within `budget`: a share of the requests that are active in the services which this layer
    /// makes.
    #[must_use]
    pub fn new(policy: impl Into<Arc<RetryPolicy>>, budget: RetryBudget) -> Self {
        let mut thresholds = Thresholds::default();
        thresholds.max_requests = u32::MAX;
        thresholds.retry_budget = Some(budget);
        let limits = RetryLimits::Own(ClusterHandle::with_thresholds(thresholds).into_state());
        Self { limits, ..Self::with_policy(Some(policy.into())) }
    }

    /// Retries under `policy`, and within what the circuit breaker of `cluster` allows, by `max_retries` or by its budget.
    /// Requests count there if a [`CircuitBreakerLayer`](crate::circuit_breaker::CircuitBreakerLayer) counts them.
    #[must_use]
    pub fn with_cluster(policy: impl Into<Arc<RetryPolicy>>, cluster: impl Into<ClusterHandle>) -> Self {
        let cluster = cluster.into().into_state();
        Self { limits: RetryLimits::Cluster(cluster), ..Self::with_policy(Some(policy.into())) }
    }

    /// Retries under the policy of the route that [`RouteLayer`](crate::route::RouteLayer) chose, and within what the
    /// circuit breaker of its cluster allows.
    #[must_use]
    pub fn from_route() -> Self {
        Self::with_policy(None)
    }

    /// The longest request body that is kept for a retry, in bytes. Default 64 KiB.
    #[must_use]
    pub fn retry_buffer_bytes(self, retry_buffer_bytes: usize) -> Self {
        Self { retry_buffer_bytes, ..self }
    }

    fn with_policy(policy: Option<Arc<RetryPolicy>>) -> Self {
        let retry_buffer_bytes = Cluster::DEFAULT_RETRY_BUFFER_BYTES;
        Self { policy, limits: RetryLimits::Route, retry_buffer_bytes }
    }

    fn policy(&self, extensions: &Extensions) -> Option<Arc<RetryPolicy>> {
        let of_route = || RouteMatched::of(extensions)?.entry().retry_policy();
        self.policy.as_ref().or_else(of_route).cloned()
    }

    /// The cluster whose limits apply; `None` if the cluster of the request does not exist.
    fn cluster(&self, extensions: &Extensions) -> Option<Arc<ClusterState>> {
        match &self.limits {
            RetryLimits::Own(cluster) | RetryLimits::Cluster(cluster) => Some(Arc::clone(cluster)),
            RetryLimits::Route => RouteMatched::of(extensions)?.cluster().cloned(),
        }
    }
}

impl Middleware for RetryLayer {
    type Error<E: Into<BoxError> + Send> = BoxError;

    async fn serve<S: HttpService>(self, service: S, mut call: Call) -> Result<Response<Body>, BoxError> {
        let overrides = Overrides::take_from(&mut call.head.headers);
        let Some(cluster) = self.cluster(&call.head.extensions) else { return once(service, call).await };
        let policy = self.policy(&call.head.extensions);
        let priority = RouteMatched::priority_of(&call.head.extensions);
        let timeouts = Timeouts { per_try: per_try_timeout(policy.as_deref(), &overrides), ..Timeouts::default() };
        let tried = policy.as_ref().filter(|policy| policy.previous_hosts);
        let tried = tried.map(|policy| TriedEndpoints::new(policy.host_selection_retry_max_attempts));
        let Some(mut retries) = Retries::new(policy, overrides, priority, &mut call) else {
            return once(service, call).await;
        };
        let info = StreamInfo::new(now());
        if let Some(body) = &mut call.body {
            body.count(&info);
        }
        let attempts = Attempts {
            limits: Limits::new(&info, &timeouts),
            timeouts,
            time_is_up: timeouts.per_try.map(|_| TimeIsUp::default()),
            tried,
            extensions: std::mem::take(&mut call.head.extensions),
            service,
            info,
            cluster,
        };
        self.run(attempts, priority, &mut retries, call).await
    }
}

impl RetryLayer {
    async fn run<S: HttpService>(
        &self,
        mut attempts: Attempts<S>,
        priority: RoutingPriority,
        retries: &mut Retries<Arc<RetryPolicy>>,
        mut call: Call,
    ) -> Result<Response<Body>, BoxError> {
        // The budget is a share of the active requests, which include this one.
        let _active = match &self.limits {
            RetryLimits::Own(cluster) => cluster.try_request(priority).ok(),
            RetryLimits::Cluster(_) | RetryLimits::Route => None,
        };
        let (result, decision) = repeat(&mut attempts, &mut call, Some(retries), self.retry_buffer_bytes).await;
        let is_grpc = call.is_grpc();
        let mut response = match result {
            Attempted::Response => call.response.take().unwrap_or_default(),
            Attempted::TimedOut => local_reply(LocalReply::PER_TRY_TIMEOUT, is_grpc),
            Attempted::Failed(error) => return Err(error),
        };
        match decision {
            Decision::LimitExceeded => add_flags(&mut response, ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED),
            Decision::Overflow => add_flags(&mut response, ResponseFlags::UPSTREAM_OVERFLOW),
            Decision::Done | Decision::Retry { .. } => {}
        }
        Ok(response)
    }
}

/// Sends a request that is not retried.
async fn once<S: HttpService>(mut service: S, mut call: Call) -> Result<Response<Body>, BoxError> {
    let request = call.take_request().unwrap_or_default();
    service.send(request).await.map_err(Into::into)
}

fn per_try_timeout(policy: Option<&RetryPolicy>, overrides: &Overrides) -> Option<Duration> {
    let of_policy = policy.and_then(|policy| policy.per_try_timeout);
    overrides.per_try_timeout.or(of_policy).filter(|timeout| !timeout.is_zero())
}

/// A request to the inner service, sent once or several times.
struct Attempts<S> {
    service: S,
    info: StreamInfo,
    limits: Limits,
    timeouts: Timeouts,
    time_is_up: Option<TimeIsUp>,
    tried: Option<TriedEndpoints>,
    /// Those of the request, cloned for every try.
    extensions: Extensions,
    cluster: Arc<ClusterState>,
}

/// The result of a try.
enum Attempted {
    /// A response, in the call.
    Response,
    TimedOut,
    Failed(BoxError),
}

impl<S: HttpService> Attempt for Attempts<S> {
    type Policy = Arc<RetryPolicy>;
    type Result = Attempted;

    fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    async fn attempt(&mut self, call: &mut Call, _: Option<&mut RetryState<Arc<RetryPolicy>>>) -> Attempted {
        let Some(mut request) = call.take_request() else { return Attempted::TimedOut };
        let extensions = request.extensions_mut();
        extensions.extend(self.extensions.clone());
        if let Some(tried) = &self.tried {
            extensions.insert(tried.clone());
        }
        if let Some(time_is_up) = &self.time_is_up {
            extensions.insert(time_is_up.clone());
        }
        let of_try = TryLimits::new(now, &self.timeouts);
        let sent = {
            let mut sending = pin!(self.service.send(request));
            self.limits.bound(of_try, &self.info, |cx| sending.as_mut().poll(cx)).await
        };
        match sent {
            Ok(Ok(response)) => {
                call.respond(response);
                Attempted::Response
            }
            Ok(Err(error)) => Attempted::Failed(error.into()),
            Err(_) => {
                if let Some(time_is_up) = &self.time_is_up {
                    time_is_up.set();
                }
                Attempted::TimedOut
            }
        }
    }

    fn outcome<'a>(&self, call: &'a Call, result: &'a Attempted) -> Outcome<'a> {
        let reason = match (result, &call.response) {
            (Attempted::Failed(error), _) => reset_reason(error),
            (Attempted::Response, Some(response)) => match flags_of(response) {
                ResponseFlags::NONE | ResponseFlags::DELAY_INJECTED => {
                    return Outcome::Response(response.status(), response.headers());
                }
                flags if flags.contains(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT) => ResetReason::PerTryTimeout,
                // Another layer has refused the request: another try would get the same.
                _ => ResetReason::Overflow,
            },
            (Attempted::TimedOut | Attempted::Response, _) => ResetReason::PerTryTimeout,
        };
        let progress = match reason {
            ResetReason::ConnectionFailure | ResetReason::ConnectionTimeout => RequestProgress::NotStarted,
            _ => RequestProgress::Started,
        };
        Outcome::Reset(reason, progress)
    }

    async fn back_off(&mut self, call: &mut Call, duration: Duration) -> Result<(), Attempted> {
        // A response that is not passed on must not hold its connection meanwhile.
        call.response = None;
        timer::sleep(duration).await;
        Ok(())
    }
}
