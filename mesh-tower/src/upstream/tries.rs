//! Sending a request to its cluster: try by try, until there is an answer or none is to be had.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderName, Request, Response, Version, request::Parts};
use mesh_core::{
    balance::Avoid,
    cluster::{ActiveRequest, ClusterState, EndpointState, RequestOrigin},
    model::RoutingPriority,
    request::RequestHead,
    resilience::{
        breaker::Permit,
        overrides::Overrides,
        retry::{Decision, RequestProgress, ResetReason, RetryState},
        timeout::Timeouts,
    },
    telemetry::ResponseFlags,
};

use super::{
    Transport,
    exchange::Exchange,
    failure::Failure,
    guard::ResponseGuard,
    kept::Kept,
    limits::{Limits, TryLimits},
    request,
};
use crate::{
    Body,
    outlier::{outcome_of_response, record},
    pool::{Protocol, SendError, Target, Worker},
    retry::Replay,
    rng::ThreadRng,
    timer::now,
};

/// A request on its way to `cluster`.
#[derive(Debug)]
pub(super) struct Tries<'a, T> {
    exchange: &'a Exchange<'a>,
    transport: &'a T,
    worker: &'a Worker,
    cluster: &'a Arc<ClusterState>,
    priority: RoutingPriority,
    origin: RequestOrigin,
    timeouts: Timeouts,
    limits: Limits,
    retry: Option<RetryState>,
    attempt: u32,
}

/// An answer of an endpoint, and what it holds until its body has ended.
#[derive(Debug)]
struct Answer {
    response: Response<Body>,
    received_at: Instant,
    permit: Permit,
    active: ActiveRequest,
}

impl<'a, T: Transport> Tries<'a, T> {
    /// Reads from the route and from the request what decides about its tries; headers addressed to this hop go.
    pub(super) fn new(
        exchange: &'a Exchange<'a>,
        (transport, worker): (&'a T, &'a Worker),
        cluster: &'a Arc<ClusterState>,
        parts: &mut Parts,
    ) -> Self {
        let overrides = Overrides::take_from(&mut parts.headers);
        let action = exchange.route.action();
        let priority = action.map_or(RoutingPriority::Default, |action| action.priority);
        let policy = exchange.route.retry_policy();
        let timeouts = action.map_or_else(Timeouts::default, |action| {
            let stream_default = exchange.options.max_stream_duration;
            Timeouts::new(action, policy.map(|policy| &**policy), &overrides, &parts.headers, stream_default)
        });
        let head = RequestHead::from_parts(parts);
        let retry = RetryState::new(policy, &head, &overrides, priority);
        let is_internal = parts.headers.get(X_ENVOY_INTERNAL).is_some_and(|value| value == "true");
        let origin = if is_internal { RequestOrigin::Internal } else { RequestOrigin::External };
        let limits = Limits::new(exchange.info, &timeouts, worker.timers());
        Self { exchange, transport, worker, cluster, priority, origin, timeouts, limits, retry, attempt: 0 }
    }

    /// Answers the request.
    pub(super) async fn run(mut self, parts: Parts, body: Body) -> Response<Body> {
        if self.retry.is_none() {
            let result = self.attempt(&mut Some((parts, body))).await;
            return self.conclude(result, Decision::Done);
        }
        let replay = Replay::new(body, self.cluster.config().retry_buffer_bytes);
        let mut kept = Kept::default();
        kept.keep(&parts);
        let mut request = Some((parts, replay.next_body()));
        loop {
            let result = self.attempt(&mut request).await;
            match self.decide(&result, &replay) {
                Decision::Retry { after } => {
                    drop(result);
                    let wait = pin!(self.worker.timers().sleep(after));
                    if let Err(expired) = self.limits.bound(None, wait).await {
                        let failure = Failure::expired(expired, RequestProgress::Started);
                        failure.count(self.cluster.stats());
                        return self.conclude(Err(failure), Decision::Done);
                    }
                    request = Some((kept.parts(), replay.next_body()));
                }
                decision => {
                    replay.stop();
                    return self.conclude(result, decision);
                }
            }
        }
    }

    /// One try. What it means for the endpoint is recorded here. The request stays in its place until it is sent: it is
    /// large, and handing it from function to function would copy it each time.
    async fn attempt(&mut self, request: &mut Option<(Parts, Body)>) -> Result<Answer, Failure> {
        self.attempt += 1;
        let avoid = self.retry.as_ref().map_or(Avoid::NONE, RetryState::avoid);
        let picked = self.cluster.pick(avoid, &mut ThreadRng);
        let endpoint = picked.map_err(|_| Failure::NoHealthyUpstream)?;
        if let Some(retry) = &mut self.retry {
            retry.handle_pick(endpoint.id());
        }
        let result = self.exchange_with(&endpoint, request).await;
        match &result {
            Ok(answer) => {
                let outcome = outcome_of_response(&answer.response, self.exchange.is_grpc);
                record(self.cluster, &endpoint, outcome, answer.received_at);
            }
            Err(failure) => {
                failure.count(self.cluster.stats());
                if let Some(outcome) = failure.outcome() {
                    record(self.cluster, &endpoint, outcome, now());
                }
            }
        }
        result
    }

    async fn exchange_with(
        &mut self,
        endpoint: &Arc<EndpointState>,
        request: &mut Option<(Parts, Body)>,
    ) -> Result<Answer, Failure> {
        let version = request.as_mut().map_or(Version::HTTP_11, |(parts, _)| {
            self.begin_try(endpoint, parts);
            parts.version
        });
        let protocol = Protocol::choose(self.cluster.config().http_protocol_options.protocol, version);
        let target = Target {
            worker: self.worker.clone(),
            cluster: Arc::clone(self.cluster),
            endpoint: Arc::clone(endpoint),
            priority: self.priority,
        };
        let mut connections_left = MAX_CONNECTIONS_PER_TRY;
        loop {
            connections_left -= 1;
            let connecting = pin!(self.transport.connection(&target, protocol));
            let connection = (self.limits.bound(None, connecting).await)
                .map_err(|expired| Failure::expired(expired, RequestProgress::NotStarted))?
                .map_err(|error| self.not_sent(&error))?;
            let permit = self.cluster.try_request(self.priority).map_err(|_| OVERFLOW)?;
            let active = Arc::clone(endpoint).start_request();
            let of_try = TryLimits::new(self.sent(protocol), &self.timeouts);
            let Some((parts, body)) = request.take() else { return Err(NOTHING_TO_SEND) };
            let sending = pin!(self.transport.send(connection, Request::from_parts(parts, body)));
            let answered = self.limits.bound(of_try, sending).await;
            match answered.map_err(|expired| Failure::expired(expired, RequestProgress::Started))? {
                Ok(response) => return Ok(Answer { response, received_at: now(), permit, active }),
                // The connection had ended before it took the request; nobody has seen it.
                Err(SendError { unsent: Some(back), .. }) if connections_left > 0 => *request = Some(back.into_parts()),
                Err(SendError { error, unsent }) => {
                    let progress =
                        if unsent.is_some() { RequestProgress::NotStarted } else { RequestProgress::Started };
                    return Err(Failure::reset(&error, progress));
                }
            }
        }
    }

    /// What the try has to itself: headers, authority, what is known of it.
    fn begin_try(&self, endpoint: &Arc<EndpointState>, parts: &mut Parts) {
        request::begin_try(parts, self.exchange, self.attempt, self.timeouts.expected(self.elapsed()));
        request::use_endpoint_hostname(parts, self.exchange, endpoint.hostname().map(|name| &**name));
        let mut state = self.exchange.info.state();
        state.attempt_count = self.attempt;
        state.upstream_host = Some(Arc::clone(endpoint));
    }

    /// How much of the route timeout is over; of the first try, nothing worth reading the clock.
    fn elapsed(&self) -> Duration {
        match self.exchange.info.request_completed_at() {
            Some(complete) if self.attempt > 1 => now().saturating_duration_since(complete),
            _ => Duration::ZERO,
        }
    }

    fn sent(&self, protocol: Protocol) -> Instant {
        let sent_at = now();
        self.cluster.stats().upstream_rq_total.inc();
        let mut state = self.exchange.info.state();
        state.upstream_protocol = Some(protocol.version());
        state.upstream_timing.first_upstream_tx_byte_sent = Some(sent_at);
        sent_at
    }

    fn not_sent(&self, error: &crate::TransportError) -> Failure {
        if let Some(text) = error.transport_failure() {
            self.exchange.info.state().upstream_transport_failure_reason = Some(text.replace(' ', "_").into());
        }
        Failure::reset(error, RequestProgress::NotStarted)
    }

    fn decide(&mut self, result: &Result<Answer, Failure>, replay: &Replay) -> Decision {
        let Some(retry) = &mut self.retry else { return Decision::Done };
        if !replay.can_replay() {
            self.cluster.stats().retry_or_shadow_abandoned.inc();
            self.retry = None;
            return Decision::Done;
        }
        match result {
            Ok(Answer { response, .. }) => {
                retry.handle_response(response.status(), response.headers(), self.cluster, &mut ThreadRng)
            }
            Err(Failure::Reset { reason, progress, .. }) => {
                retry.handle_reset(*reason, *progress, self.cluster, &mut ThreadRng)
            }
            Err(Failure::NoHealthyUpstream | Failure::Expired(_)) => Decision::Done,
        }
    }

    /// The last result becomes the answer.
    fn conclude(self, result: Result<Answer, Failure>, decision: Decision) -> Response<Body> {
        match decision {
            Decision::LimitExceeded => self.exchange.flag(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED),
            Decision::Overflow => self.exchange.flag(ResponseFlags::UPSTREAM_OVERFLOW),
            Decision::Done | Decision::Retry { .. } => {}
        }
        let stats = self.cluster.stats();
        match result {
            Err(failure) => {
                let reply = failure.reply(self.attempt);
                // What it means, also where a gRPC client is told so by a response of status 200.
                stats.count_response(reply.status, self.origin);
                self.exchange.reply(reply)
            }
            Ok(Answer { response, received_at, permit, active }) => {
                stats.count_response(response.status(), self.origin);
                let response = self.exchange.finish(response, received_at);
                let guard = ResponseGuard::new(self.exchange.info, self.limits, permit, active);
                response.map(|body| body.guarded(guard))
            }
        }
    }
}

const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");

/// A connection may end between two requests; several in a row tell of an endpoint that serves none.
const MAX_CONNECTIONS_PER_TRY: u32 = 3;

const NOTHING_TO_SEND: Failure =
    Failure::Reset { reason: ResetReason::LocalReset, progress: RequestProgress::NotStarted, transport_failure: None };

const OVERFLOW: Failure =
    Failure::Reset { reason: ResetReason::Overflow, progress: RequestProgress::NotStarted, transport_failure: None };
