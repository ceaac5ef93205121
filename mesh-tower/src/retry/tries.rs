//! The tries of one request.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use mesh_core::{
    cluster::ClusterState,
    local_reply::LocalReply,
    model::RetryPolicy,
    policy::grpc,
    request::RequestHead,
    resilience::{
        breaker::Permit,
        overrides::Overrides,
        retry::{Decision, RequestProgress, ResetReason, RetryState},
    },
    telemetry::ResponseFlags,
};
use tower_service::Service;

use super::{Replay, RetryLayer, TriedEndpoints, reset_reason};
use crate::{
    Body, BoxError,
    outlier::TimeIsUp,
    reply::{flag, flags_of, local_reply},
    rng::ThreadRng,
    route::RouteMatched,
    timer::{Timers, now},
};

/// A request that may be repeated.
#[derive(Debug)]
pub(super) struct Tries {
    state: RetryState<Arc<RetryPolicy>>,
    cluster: Arc<ClusterState>,
    /// The request's place among those that the budget is a share of.
    _under_way: Option<Permit>,
    per_try_timeout: Option<Duration>,
    time_is_up: Option<TimeIsUp>,
    buffer_limit: usize,
    timers: Timers,
    is_grpc: bool,
}

/// What came of a try.
enum Tried<R> {
    Answer(Response<R>),
    TimedOut,
    Failed(BoxError),
}

impl Tries {
    /// `None` if the request will not be repeated, whatever comes.
    pub(super) fn new(layer: &RetryLayer, parts: &mut Parts) -> Option<Self> {
        let overrides = Overrides::take_from(&mut parts.headers);
        let rules = layer.rules(&parts.extensions)?;
        let priority = RouteMatched::priority_of(&parts.extensions);
        let of_request = overrides.per_try_timeout;
        let state = RetryState::new(rules.policy.cloned(), || RequestHead::from_parts(parts), overrides, priority)?;
        let under_way = rules.counts_requests.then(|| rules.cluster.try_request(priority).ok()).flatten();
        let of_policy = rules.policy.and_then(|policy| policy.per_try_timeout);
        let per_try_timeout = of_request.or(of_policy).filter(|timeout| !timeout.is_zero());
        let avoiding = rules.policy.filter(|policy| policy.previous_hosts);
        let tried = avoiding.map(|policy| TriedEndpoints::new(policy.host_selection_retry_max_attempts));
        let cluster = Arc::clone(rules.cluster);
        let time_is_up = per_try_timeout.map(|_| TimeIsUp::of(&mut parts.extensions));
        if let Some(tried) = tried {
            parts.extensions.insert(tried);
        }
        Some(Self {
            state,
            cluster,
            _under_way: under_way,
            per_try_timeout,
            time_is_up,
            buffer_limit: layer.buffer_limit(),
            timers: layer.timers.clone(),
            is_grpc: grpc::is_grpc_request(&parts.headers),
        })
    }

    /// Tries until there is an answer, or none is to be had.
    pub(super) async fn run<S, R>(mut self, mut service: S, parts: Parts, body: Body) -> Result<Response<R>, BoxError>
    where
        S: Service<Request<Body>, Response = Response<R>>,
        S::Error: Into<BoxError>,
        R: From<Bytes>,
    {
        let replay = Replay::new(body, self.buffer_limit);
        loop {
            let tried = self.attempt(&mut service, copy(&parts, replay.next_body())).await;
            match self.decide(&tried, &replay) {
                Decision::Retry { after } => {
                    drop(tried);
                    self.timers.sleep(after).await;
                }
                decision => {
                    replay.stop();
                    return self.conclude(tried, decision);
                }
            }
        }
    }

    async fn attempt<S, R>(&mut self, service: &mut S, request: Request<Body>) -> Tried<R>
    where
        S: Service<Request<Body>, Response = Response<R>>,
        S::Error: Into<BoxError>,
    {
        let start = now();
        let mut deadline = self.timers.deadline(self.per_try_timeout.and_then(|timeout| start.checked_add(timeout)));
        if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
            return Tried::Failed(error.into());
        }
        let mut answered = pin!(service.call(request));
        poll_fn(|cx| {
            if let Poll::Ready(result) = answered.as_mut().poll(cx) {
                return Poll::Ready(result.map_or_else(|error| Tried::Failed(error.into()), Tried::Answer));
            }
            ready!(deadline.poll_expired(cx));
            if let Some(time_is_up) = &self.time_is_up {
                time_is_up.tell();
            }
            Poll::Ready(Tried::TimedOut)
        })
        .await
    }

    fn decide<R>(&mut self, tried: &Tried<R>, replay: &Replay) -> Decision {
        if !replay.can_replay() {
            self.cluster.stats().retry_or_shadow_abandoned.inc();
            return Decision::Done;
        }
        let reason = match tried {
            Tried::Failed(error) => reset_reason(error),
            Tried::TimedOut => ResetReason::PerTryTimeout,
            Tried::Answer(response) => match flags_of(response) {
                ResponseFlags::NONE | ResponseFlags::DELAY_INJECTED => {
                    let (status, headers) = (response.status(), response.headers());
                    return self.state.handle_response(status, headers, &self.cluster, &mut ThreadRng);
                }
                flags if flags.contains(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT) => ResetReason::PerTryTimeout,
                // Another layer's refusal: another try would find the same.
                _ => ResetReason::Overflow,
            },
        };
        let progress = match reason {
            ResetReason::ConnectionFailure | ResetReason::ConnectionTimeout => RequestProgress::NotStarted,
            _ => RequestProgress::Started,
        };
        self.state.handle_reset(reason, progress, &self.cluster, &mut ThreadRng)
    }

    /// The last result becomes the answer.
    fn conclude<R: From<Bytes>>(&self, tried: Tried<R>, decision: Decision) -> Result<Response<R>, BoxError> {
        let mut response = match tried {
            Tried::Answer(response) => response,
            Tried::TimedOut => local_reply(LocalReply::PER_TRY_TIMEOUT, self.is_grpc),
            Tried::Failed(error) => return Err(error),
        };
        match decision {
            Decision::LimitExceeded => flag(&mut response, ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED),
            Decision::Overflow => flag(&mut response, ResponseFlags::UPSTREAM_OVERFLOW),
            Decision::Done | Decision::Retry { .. } => {}
        }
        Ok(response)
    }
}

/// The request for another try.
fn copy(parts: &Parts, body: Body) -> Request<Body> {
    Request::from_parts(parts.clone(), body)
}
