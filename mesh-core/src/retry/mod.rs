//! Retries.
//!
//! A [`RetryState`] belongs to a request that may be retried. After each try it decides, by Envoy's rules:
//!
//! ```text
//!   response or reset ─► does a condition of `retry_on` match? ──no──► Done
//!                                  │ yes
//!                       retries left? ──no──► LimitExceeded (flag URX)
//!                                  │ yes
//!         retries of the cluster below their limit? ──no──► Overflow (flag UO)
//!                                  │ yes
//!                             Retry { after }
//! ```
//!
//! A back-off protects an endpoint that is overloaded. After a failed connection it is not needed for another endpoint. That
//! endpoint is tried immediately if the policy retries failed connections (`connect-failure` or a condition that includes it)
//! and avoids the endpoints of earlier tries (`previous_hosts`), and if the cluster has an available endpoint that the request
//! has not tried. Istio's default policy meets these conditions. Envoy's does not avoid endpoints, so its retries back off.
//! An immediate try counts as a retry for `num_retries`, `max_retries` and statistics. Envoy itself waits in this case, 12 ms
//! on average; gRPC picks only from endpoints that it is connected to.
//!
//! It holds a retry permit of the cluster from the decision to retry until the next decision, so the limit applies to
//! active retries. The caller must check that no response has been sent downstream, that the request body can be
//! replayed, and that the route timeout has not expired.
//!
//! Not supported: hedging and `rate_limited_retry_back_off`, which the model does not have. Envoy "Router",
//! `x-envoy-retry-on`.

mod backoff;
#[cfg(test)]
mod tests;

use std::{ops::Deref, sync::LazyLock, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode};
use smallvec::SmallVec;

use crate::{
    balance::Avoid,
    cluster::{ClusterState, EndpointId},
    grpc,
    model::{HeaderMatcher, RetryOn, RetryPolicy, RoutingPriority},
    request::RequestHead,
    resilience::{
        breaker::{Overflow, Permit},
        overrides::{Overrides, Retriable},
    },
    rng::Rng,
};

/// Why a try ended without a response. Envoy `StreamResetReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The connection could not be established: refused, unreachable, TLS.
    ConnectionFailure,
    /// The connection could not be established within `connect_timeout`.
    ConnectionTimeout,
    /// The endpoint refused the stream without processing it: REFUSED_STREAM, or GOAWAY before the stream.
    RemoteRefusedStreamReset,
    /// The endpoint reset the stream.
    RemoteReset,
    /// The stream was reset locally.
    LocalReset,
    /// The endpoint violated the protocol.
    ProtocolError,
    /// The connection was closed during the try.
    ConnectionTermination,
    /// `per_try_timeout` or `per_try_idle_timeout` expired. Retried like a reset.
    PerTryTimeout,
    /// A circuit breaker threshold overflowed. Never retried.
    Overflow,
}

/// How much of the request was sent to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestProgress {
    /// Nothing.
    NotStarted,
    /// At least the headers.
    Started,
}

/// What to do after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Do not retry: no condition matches.
    Done,
    /// Retry.
    Retry {
        /// Delay before the retry.
        after: Duration,
    },
    /// Do not retry: a condition matches, but no retries are left. Sets the response flag URX.
    LimitExceeded,
    /// Do not retry: a condition matches, but the cluster's limit of retries is reached. Sets the response flag UO.
    Overflow,
}

/// The retries of a request. `P` is a reference to the policy or a shared pointer.
#[derive(Debug)]
pub struct RetryState<P> {
    /// `None` = the default policy.
    policy: Option<P>,
    retry_on: RetryOn,
    priority: RoutingPriority,
    retries_remaining: u32,
    retries_made: u32,
    retriable: Option<Box<Retriable>>,
    tried: SmallVec<[EndpointId; 4]>,
    /// Held from a decision to retry until the next decision.
    permit: Option<Permit>,
}

impl<P: Deref<Target = RetryPolicy>> RetryState<P> {
    /// The state of a request before its first try; `None` if it will never be retried. Without a policy, retries that the
    /// request asks for by `overrides` follow the default policy. `request` is called if the policy has conditions on the
    /// request.
    #[must_use]
    pub fn new<'r>(
        policy: Option<P>,
        request: impl FnOnce() -> RequestHead<'r>,
        overrides: Overrides,
        priority: RoutingPriority,
    ) -> Option<Self> {
        let retry_on = policy.as_ref().map_or(RetryOn::NONE, |policy| policy.retry_on).union(overrides.retry_on);
        if retry_on.is_empty() {
            return None;
        }
        let effective = policy.as_deref().unwrap_or_else(|| default_policy());
        let wanted = &effective.retriable_request_headers;
        if !wanted.is_empty() && !matches_any(wanted, &request()) {
            return None;
        }
        Some(Self {
            retry_on,
            priority,
            retries_remaining: overrides.max_retries.unwrap_or(effective.num_retries),
            retries_made: 0,
            retriable: overrides.retriable,
            tried: SmallVec::new(),
            permit: None,
            policy,
        })
    }

    fn policy(&self) -> &RetryPolicy {
        self.policy.as_deref().unwrap_or_else(|| default_policy())
    }

    /// Whether retries are left. If not, the request body need not be buffered any longer.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.retries_remaining > 0
    }

    /// Number of retries so far; `x-envoy-attempt-count` is one more.
    #[must_use]
    pub fn retries_made(&self) -> u32 {
        self.retries_made
    }

    /// The endpoints that the next try should avoid.
    #[must_use]
    pub fn avoid(&self) -> Avoid<'_> {
        Avoid { endpoints: &self.tried, max_attempts: self.policy().host_selection_retry_max_attempts }
    }

    /// Records the endpoint of a try.
    pub fn handle_pick(&mut self, endpoint: EndpointId) {
        if self.policy().previous_hosts {
            self.tried.push(endpoint);
        }
    }

    /// Decides after a response.
    pub fn handle_response(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        cluster: &ClusterState,
        rng: &mut impl Rng,
    ) -> Decision {
        let wanted = self.retries_response(status, headers);
        let decision = self.decide(wanted, cluster, rng);
        if matches!(decision, Decision::Retry { .. }) {
            cluster.stats().count_retried_response(status);
        }
        decision
    }

    /// Decides after a try without a response.
    pub fn handle_reset(
        &mut self,
        reason: ResetReason,
        progress: RequestProgress,
        cluster: &ClusterState,
        rng: &mut impl Rng,
    ) -> Decision {
        let wanted = self.retries_reset(reason, progress);
        let decision = self.decide(wanted, cluster, rng);
        match (decision, reason) {
            (Decision::Retry { .. }, ResetReason::ConnectionFailure | ResetReason::ConnectionTimeout)
                if self.policy().previous_hosts && cluster.has_endpoint_besides(&self.tried) =>
            {
                Decision::Retry { after: Duration::ZERO }
            }
            _ => decision,
        }
    }

    fn retries_response(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let on = |condition| self.retry_on.intersects(condition);
        let code = status.as_u16();
        let wanted = (on(RetryOn::FIVE_XX) && status.is_server_error())
            || (on(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&code))
            || (on(RetryOn::RETRIABLE_4XX) && status == StatusCode::CONFLICT)
            || (on(RetryOn::RETRIABLE_STATUS_CODES) && self.is_retriable_status(status))
            || (on(RetryOn::RETRIABLE_HEADERS) && self.has_retriable_header(headers))
            || (on(GRPC_CONDITIONS) && self.is_retriable_grpc_status(headers));
        // A rate-limited response is retried by `envoy-ratelimited` only.
        match on(RetryOn::ENVOY_RATELIMITED) {
            true => wanted || headers.contains_key(X_ENVOY_RATELIMITED),
            false => wanted && !headers.contains_key(X_ENVOY_RATELIMITED),
        }
    }

    fn is_retriable_status(&self, status: StatusCode) -> bool {
        let is_requested = |retriable: &Retriable| retriable.status_codes.contains(&status);
        self.policy().retriable_status_codes.contains(&status) || self.retriable.as_deref().is_some_and(is_requested)
    }

    fn has_retriable_header(&self, headers: &HeaderMap) -> bool {
        let requested = self.retriable.iter().flat_map(|retriable| &retriable.header_names);
        self.policy().retriable_headers.iter().any(|matcher| matcher.matches_response(headers))
            || requested.into_iter().any(|name| headers.contains_key(name))
    }

    /// Looks at response headers only. When a status arrives in trailers, the response has been forwarded already.
    fn is_retriable_grpc_status(&self, headers: &HeaderMap) -> bool {
        let condition = match grpc::status_of(headers) {
            Some(1) => RetryOn::CANCELLED,
            Some(4) => RetryOn::DEADLINE_EXCEEDED,
            Some(8) => RetryOn::RESOURCE_EXHAUSTED,
            Some(13) => RetryOn::INTERNAL,
            Some(14) => RetryOn::UNAVAILABLE,
            _ => RetryOn::NONE,
        };
        self.retry_on.intersects(condition)
    }

    /// Whether the policy retries after `reason`, as far as its limits allow.
    #[must_use]
    pub fn retries_reset(&self, reason: ResetReason, progress: RequestProgress) -> bool {
        const ANY_RESET: RetryOn = RetryOn::RESET.union(RetryOn::FIVE_XX).union(RetryOn::GATEWAY_ERROR);
        let on = |condition| self.retry_on.intersects(condition);
        match reason {
            ResetReason::Overflow => false,
            _ if on(ANY_RESET) => true,
            _ if on(RetryOn::RESET_BEFORE_REQUEST) && progress == RequestProgress::NotStarted => true,
            ResetReason::ConnectionFailure | ResetReason::ConnectionTimeout => on(RetryOn::CONNECT_FAILURE),
            ResetReason::RemoteRefusedStreamReset => on(RetryOn::REFUSED_STREAM),
            ResetReason::RemoteReset
            | ResetReason::LocalReset
            | ResetReason::ProtocolError
            | ResetReason::ConnectionTermination
            | ResetReason::PerTryTimeout => false,
        }
    }

    fn decide(&mut self, wanted: bool, cluster: &ClusterState, rng: &mut impl Rng) -> Decision {
        let stats = cluster.stats();
        let was_retry = self.permit.take().is_some();
        if !wanted {
            if was_retry {
                stats.upstream_rq_retry_success.inc();
            }
            return Decision::Done;
        }
        if self.retries_remaining == 0 {
            stats.upstream_rq_retry_limit_exceeded.inc();
            return Decision::LimitExceeded;
        }
        self.retries_remaining -= 1;
        match cluster.try_retry(self.priority) {
            Err(Overflow { .. }) => Decision::Overflow,
            Ok(permit) => {
                self.permit = Some(permit);
                self.retries_made += 1;
                stats.upstream_rq_retry.inc();
                stats.upstream_rq_retry_backoff_exponential.inc();
                Decision::Retry { after: self.policy().back_off.delay(self.retries_made, rng) }
            }
        }
    }
}

#[inline(never)]
fn matches_any(matchers: &[HeaderMatcher], request: &RequestHead<'_>) -> bool {
    matchers.iter().any(|matcher| matcher.matches(request))
}

/// The policy of requests that ask for retries on a route without a retry policy.
#[cold]
fn default_policy() -> &'static RetryPolicy {
    static DEFAULT: LazyLock<RetryPolicy> = LazyLock::new(RetryPolicy::default);
    &DEFAULT
}

const X_ENVOY_RATELIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

const GRPC_CONDITIONS: RetryOn = RetryOn::CANCELLED
    .union(RetryOn::DEADLINE_EXCEEDED)
    .union(RetryOn::INTERNAL)
    .union(RetryOn::RESOURCE_EXHAUSTED)
    .union(RetryOn::UNAVAILABLE);
