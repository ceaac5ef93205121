//! Sending a request to its cluster: try by try, until there is an answer or none is to be had.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response, Version, request::Parts};
use http_body::Body as _;
use mesh_core::{
    balance::Avoid,
    cluster::{ClusterState, EndpointState, RequestOrigin},
    model::{RetryPolicy, RoutingPriority},
    request::RequestHead,
    resilience::{
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
    guard::{Occupied, ResponseGuard},
    kept::Kept,
    limits::{Expired, Limits, TryLimits},
    request,
};
use crate::{
    Body,
    call::Call,
    outlier::{outcome_of_response, record},
    pool::{Protocol, SendError, Target, Worker},
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
    retry: Option<RetryState<&'a RetryPolicy>>,
    attempt: u32,
    /// When the latest answer came.
    received_at: Option<Instant>,
    /// What the latest answer holds until its body has ended.
    occupied: Option<Occupied>,
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
        let policy = exchange.route.retry_policy().map(|policy| &**policy);
        let timeouts = action.map_or_else(Timeouts::default, |action| {
            let stream_default = exchange.options.max_stream_duration;
            Timeouts::new(action, policy, &overrides, &parts.headers, stream_default)
        });
        Self {
            exchange,
            transport,
            worker,
            cluster,
            priority,
            origin: if overrides.internal { RequestOrigin::Internal } else { RequestOrigin::External },
            timeouts,
            limits: Limits::new(exchange.info, &timeouts),
            retry: RetryState::new(policy, || RequestHead::from_parts(parts), &overrides, priority),
            attempt: 0,
            received_at: None,
            occupied: None,
        }
    }

    /// Answers the call.
    pub(super) async fn run(&mut self, call: &mut Call) {
        let Some(kept) = self.keep(call) else {
            let result = self.attempt(call).await;
            return self.conclude(call, result, Decision::Done);
        };
        loop {
            let result = self.attempt(call).await;
            match self.decide(call.response.as_ref(), &result, &kept) {
                Decision::Retry { after } => {
                    (call.response, self.occupied) = (None, None);
                    let worker = self.worker;
                    let mut wait = pin!(worker.timers().sleep(after));
                    if let Err(expired) = self.bound(None, |cx| wait.as_mut().poll(cx)).await {
                        let failure = Failure::expired(expired, RequestProgress::Started);
                        failure.count(self.cluster.stats());
                        return self.conclude(call, Err(failure), Decision::Done);
                    }
                    call.request = Some(kept.again());
                }
                decision => {
                    kept.body.stop();
                    return self.conclude(call, result, decision);
                }
            }
        }
    }

    /// What further tries need, if there may be any.
    fn keep(&self, call: &mut Call) -> Option<Kept> {
        self.retry.as_ref()?;
        let (parts, body) = call.request.as_mut()?;
        Some(Kept::new(parts, body, self.cluster.config().retry_buffer_bytes))
    }

    /// One try. What it means for the endpoint is recorded here.
    async fn attempt(&mut self, call: &mut Call) -> Result<(), Failure> {
        self.attempt += 1;
        let avoid = self.retry.as_ref().map_or(Avoid::NONE, RetryState::avoid);
        let picked = self.cluster.pick(avoid, &mut ThreadRng);
        let endpoint = picked.map_err(|_| Failure::NoHealthyUpstream)?;
        if let Some(retry) = &mut self.retry {
            retry.handle_pick(endpoint.id());
        }
        let result = self.exchange_with(&endpoint, call).await;
        match (&result, &call.response) {
            (Ok(()), Some(response)) => {
                let outcome = outcome_of_response(response, self.exchange.is_grpc);
                record(self.cluster, &endpoint, outcome, self.received_at());
            }
            (Ok(()), None) => {}
            (Err(failure), _) => {
                self.occupied = None;
                failure.count(self.cluster.stats());
                if let Some(outcome) = failure.outcome() {
                    record(self.cluster, &endpoint, outcome, now());
                }
            }
        }
        result
    }

    async fn exchange_with(&mut self, endpoint: &Arc<EndpointState>, call: &mut Call) -> Result<(), Failure> {
        let version = call.request.as_mut().map_or(Version::HTTP_11, |(parts, _)| {
            self.begin_try(endpoint, parts);
            parts.version
        });
        let protocol = Protocol::choose(self.cluster.config().http_protocol_options.protocol, version);
        let target = Target { worker: self.worker, cluster: self.cluster, endpoint, priority: self.priority };
        let transport = self.transport;
        let mut connections_left = MAX_CONNECTIONS_PER_TRY;
        loop {
            connections_left -= 1;
            let mut connecting = pin!(transport.connection(&target, protocol));
            let connected = self.bound(None, |cx| connecting.as_mut().poll(cx)).await;
            self.observe_try(endpoint, matches!(connected, Ok(Ok(_))).then_some(protocol));
            let connection = connected
                .map_err(|expired| Failure::expired(expired, RequestProgress::NotStarted))?
                .map_err(|error| self.not_sent(&error))?;
            self.occupy(endpoint)?;
            self.cluster.stats().upstream_rq_total.inc();
            self.exchange.counters.handle_try();
            let of_try = TryLimits::new(now, &self.timeouts);
            let Some((parts, body)) = call.request.take() else { return Err(NOTHING_TO_SEND) };
            let mut sending = pin!(transport.send(connection, Request::from_parts(parts, body)));
            let answer = &mut call.response;
            let poll = |cx: &mut Context<'_>| sending.as_mut().poll(cx).map_ok(|response| *answer = Some(response));
            let exchanged = self.bound(of_try, poll).await;
            match exchanged.map_err(|expired| Failure::expired(expired, RequestProgress::Started))? {
                Ok(()) => {
                    self.received_at = Some(now());
                    return Ok(());
                }
                // The connection had ended before it took the request; nobody has seen it.
                Err(SendError { unsent: Some(back), .. }) if connections_left > 0 => {
                    call.request = Some(back.into_parts());
                }
                Err(SendError { error, unsent }) => {
                    let progress =
                        if unsent.is_some() { RequestProgress::NotStarted } else { RequestProgress::Started };
                    return Err(Failure::reset(&error, progress));
                }
            }
        }
    }

    /// Polls until there is a result, but no longer than the limits allow.
    async fn bound<R>(
        &mut self,
        of_try: Option<TryLimits>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Result<R, Expired> {
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.limits.poll_expired(of_try, self.exchange.info, self.worker.timers(), cx).map(Err),
        })
        .await
    }

    /// What the try has to itself: headers, authority, what is known of it.
    fn begin_try(&self, endpoint: &Arc<EndpointState>, parts: &mut Parts) {
        request::begin_try(parts, self.exchange, self.attempt, self.timeouts.expected(self.elapsed()));
        request::use_endpoint_hostname(parts, self.exchange, endpoint.hostname().map(|name| &**name));
    }

    /// Takes the try's place in the circuit breaker and its share of the endpoint's load.
    fn occupy(&mut self, endpoint: &Arc<EndpointState>) -> Result<(), Failure> {
        // What was held for a connection that had ended is given back first: it must not be in the way.
        self.occupied = None;
        let permit = self.cluster.try_request(self.priority).map_err(|_| OVERFLOW)?;
        self.occupied = Some(Occupied { _permit: permit, _active: Arc::clone(endpoint).start_request() });
        Ok(())
    }

    /// How much of the route timeout is over; of the first try, nothing worth reading the clock.
    fn elapsed(&self) -> Duration {
        match self.exchange.info.request_completed_at() {
            Some(complete) if self.attempt > 1 => now().saturating_duration_since(complete),
            _ => Duration::ZERO,
        }
    }

    /// Notes where the try goes; `sent` is the protocol of its connection, if there is one.
    fn observe_try(&self, endpoint: &Arc<EndpointState>, sent: Option<Protocol>) {
        let mut state = self.exchange.info.state();
        state.attempt_count = self.attempt;
        state.upstream_host = Some(Arc::clone(endpoint));
        state.upstream_protocol = sent.map(Protocol::version);
        if sent.is_some() && state.is_logged() {
            state.upstream_timing.first_upstream_tx_byte_sent = Some(now());
        }
    }

    fn not_sent(&self, error: &crate::TransportError) -> Failure {
        if let Some(text) = error.transport_failure() {
            self.exchange.info.state().upstream_transport_failure_reason = Some(text.replace(' ', "_").into());
        }
        Failure::reset(error, RequestProgress::NotStarted)
    }

    fn decide(&mut self, response: Option<&Response<Body>>, result: &Result<(), Failure>, kept: &Kept) -> Decision {
        let Some(retry) = &mut self.retry else { return Decision::Done };
        if !kept.body.can_replay() {
            self.cluster.stats().retry_or_shadow_abandoned.inc();
            self.retry = None;
            return Decision::Done;
        }
        let retries_made = retry.retries_made();
        let decision = match (result, response) {
            (Ok(()), Some(response)) => {
                retry.handle_response(response.status(), response.headers(), self.cluster, &mut ThreadRng)
            }
            (Err(Failure::Reset { reason, progress, .. }), _) => {
                retry.handle_reset(*reason, *progress, self.cluster, &mut ThreadRng)
            }
            (Ok(()), None) | (Err(Failure::NoHealthyUpstream | Failure::Expired(_)), _) => return Decision::Done,
        };
        self.exchange.counters.handle_decision(decision, retries_made);
        decision
    }

    /// The last result becomes the answer.
    fn conclude(&mut self, call: &mut Call, result: Result<(), Failure>, decision: Decision) {
        match decision {
            Decision::LimitExceeded => self.exchange.flag(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED),
            Decision::Overflow => self.exchange.flag(ResponseFlags::UPSTREAM_OVERFLOW),
            Decision::Done | Decision::Retry { .. } => {}
        }
        let stats = self.cluster.stats();
        match (result, &mut call.response) {
            (Ok(()), Some(response)) => {
                stats.count_response(response.status(), self.origin);
                self.exchange.counters.handle_response(response.status());
                self.exchange.finish(response, self.received_at());
                if !response.body().is_end_stream() {
                    let (limits, occupied) = (std::mem::take(&mut self.limits), self.occupied.take());
                    let guard = ResponseGuard::new(self.exchange.info, limits, self.worker.timers(), occupied);
                    response.body_mut().guard(guard);
                }
            }
            (result, _) => {
                let failure = result.err().unwrap_or(NOTHING_TO_SEND);
                if matches!(failure, Failure::Expired(Expired::Route)) {
                    self.exchange.counters.handle_timeout();
                }
                let reply = failure.reply(self.attempt);
                self.exchange.counters.handle_response(reply.status);
                // What it means, also where a gRPC client is told so by a response of status 200.
                stats.count_response(reply.status, self.origin);
                call.answer(self.exchange.reply(reply));
            }
        }
    }

    /// When the latest answer came.
    fn received_at(&self) -> Instant {
        self.received_at.unwrap_or_else(now)
    }
}

/// A connection may end between two requests; several in a row tell of an endpoint that serves none.
const MAX_CONNECTIONS_PER_TRY: u32 = 3;

const NOTHING_TO_SEND: Failure =
    Failure::Reset { reason: ResetReason::LocalReset, progress: RequestProgress::NotStarted, transport_failure: None };

const OVERFLOW: Failure =
    Failure::Reset { reason: ResetReason::Overflow, progress: RequestProgress::NotStarted, transport_failure: None };
