//! Sending a request to its cluster: try by try, until there is an answer or none is to be had.
//!
//! What becomes known on the way is told to the request's [`StreamInfo`] once, when the tries are over, however they end.

use std::{
    borrow::Cow,
    future::Future,
    ops::{Deref, DerefMut},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Response, StatusCode, Version, request::Parts};
use http_body::Body as _;
use mesh_core::{
    balance::{Avoid, PickContext},
    cluster::{ClusterState, EndpointState, RequestOrigin},
    model::{RetryPolicy, RoutingPriority},
    policy::survey::HeaderSurvey,
    request::RequestHead,
    resilience::{
        overrides::Overrides,
        retry::{Decision, RequestProgress, ResetReason, RetryState},
        timeout::Timeouts,
    },
    telemetry::{ResponseFlags, details},
};

use super::{
    exchange::Exchange,
    failure::{self, Failure},
    guard::{ActiveTry, HeldByTunnel, ResponseGuard},
    kept::Kept,
    limits::{Expired, Limits, TryLimits},
    request,
};
use crate::{
    Body, Protocol, StreamState, Target, Transport, TransportError,
    call::Call,
    outlier::{outcome_of_response, record},
    pool::Worker,
    rng::ThreadRng,
    timer::now,
};

/// A request on its way to `cluster`.
#[derive(Debug)]
pub(super) struct Tries<'a, T> {
    exchange: &'a Exchange<'a>,
    transport: &'a T,
    worker: &'a Worker,
    cluster: UntilTold,
    priority: RoutingPriority,
    origin: RequestOrigin,
    timeouts: Timeouts,
    limits: Limits,
    retry: Option<RetryState<&'a RetryPolicy>>,
    attempt: u32,
    latest: Try,
}

/// What is known of one try.
#[derive(Debug, Default)]
struct Try {
    endpoint: Option<Arc<EndpointState>>,
    /// Protocol of its connection, once that takes it.
    protocol: Option<Protocol>,
    /// Whether it has a place in the circuit breaker and a share of the endpoint's load.
    is_active: bool,
    /// When it got its connection, if log lines will tell of that.
    sent_at: Option<Instant>,
    /// When its answer came.
    received_at: Option<Instant>,
}

/// The cluster, until what is known of the tries is told; then it belongs to the request's [`StreamInfo`].
#[derive(Debug)]
struct UntilTold(Option<Arc<ClusterState>>);

impl Deref for UntilTold {
    type Target = Arc<ClusterState>;

    fn deref(&self) -> &Arc<ClusterState> {
        self.0.as_ref().expect("nobody asks once all is told")
    }
}

impl<'a, T: Transport> Tries<'a, T> {
    /// Reads from the route and from the request what decides about its tries; headers addressed to this hop go.
    pub(super) fn new(
        exchange: &'a Exchange<'a>,
        (transport, worker): (&'a T, &'a Worker),
        cluster: Arc<ClusterState>,
        (parts, survey): (&mut Parts, HeaderSurvey),
    ) -> Self {
        let has_overrides = survey.may_have_overrides;
        let overrides = if has_overrides { Overrides::take_from(&mut parts.headers) } else { Overrides::default() };
        let route = exchange.route;
        let priority = route.priority();
        let policy = route.retry_policy().map(|policy| &**policy);
        let stream_default = exchange.options.max_stream_duration;
        let timeouts = Timeouts::new(route.limits(), policy, &overrides, &parts.headers, stream_default);
        Self {
            exchange,
            transport,
            worker,
            cluster: UntilTold(Some(cluster)),
            priority,
            origin: if overrides.internal { RequestOrigin::Internal } else { RequestOrigin::External },
            timeouts,
            limits: Limits::new(exchange.info, &timeouts),
            retry: RetryState::new(policy, || RequestHead::from_parts(parts), overrides, priority),
            attempt: 0,
            latest: Try::default(),
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
                    self.end_try();
                    if call.response.take().is_some_and(|response| !response.body().is_end_stream()) {
                        failure::count_local_reset(self.cluster.stats(), self.latest.protocol.map(Protocol::version));
                    }
                    // In a box: few requests are retried, and all would have room for it.
                    if let Err(failure) = Box::pin(self.back_off(after)).await {
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

    /// Waits before another try.
    async fn back_off(&mut self, duration: Duration) -> Result<(), Failure> {
        let timers = self.worker.timers();
        let mut wait = pin!(timers.sleep(duration));
        let waited = self.limits.bound(None, (self.exchange.info, timers), |cx| wait.as_mut().poll(cx)).await;
        waited.map_err(|expired| {
            let failure = Failure::expired(expired, RequestProgress::Started);
            failure.count(self.cluster.stats(), None);
            failure
        })
    }

    /// One try. What it means for the endpoint is recorded here.
    async fn attempt(&mut self, call: &mut Call) -> Result<(), Failure> {
        self.attempt += 1;
        let avoid = self.retry.as_ref().map_or(Avoid::NONE, RetryState::avoid);
        let picked = self.cluster.pick(PickContext::new(&mut ThreadRng).avoiding(avoid));
        let endpoint = picked.map_err(|_| Failure::NoHealthyUpstream)?;
        if let Some(retry) = &mut self.retry {
            retry.handle_pick(endpoint.id());
        }
        self.latest = Try { endpoint: Some(endpoint), ..Try::default() };
        let result = self.exchange(call).await;
        if result.is_err() {
            self.end_try();
        }
        let Some(endpoint) = &self.latest.endpoint else { return result };
        match (&result, &call.response) {
            (Ok(()), Some(response)) => {
                let outcome = outcome_of_response(response, self.exchange.is_grpc);
                record(&self.cluster, endpoint, outcome, self.received_at());
            }
            (Ok(()), None) => {}
            (Err(failure), _) => {
                failure.count(self.cluster.stats(), self.latest.protocol.map(Protocol::version));
                if let Some(outcome) = failure.outcome() {
                    record(&self.cluster, endpoint, outcome, now());
                }
            }
        }
        result
    }

    /// Sends the request to the endpoint picked and waits for the answer.
    async fn exchange(&mut self, call: &mut Call) -> Result<(), Failure> {
        let version = call.request.as_mut().map_or(Version::HTTP_11, |(parts, _)| {
            self.begin_try(parts);
            parts.version
        });
        let protocol = Protocol::choose(self.cluster.config().http_protocol_options.protocol, version);
        let mut connections_left = MAX_CONNECTIONS_PER_TRY;
        loop {
            connections_left -= 1;
            let connection = self.connect(protocol).await?;
            self.activate()?;
            self.latest.protocol = Some(protocol);
            self.latest.sent_at = self.exchange.info.is_logged().then(now);
            self.cluster.stats().upstream_rq_total.inc();
            self.exchange.counters.handle_try();
            let Err(error) = self.send(connection, call).await? else {
                self.latest.received_at = Some(now());
                return Ok(());
            };
            match call.request {
                // The connection had ended before it took the request; nobody has seen it.
                Some(_) if connections_left > 0 => {}
                Some(_) => return Err(Failure::reset(&error, RequestProgress::NotStarted)),
                None => return Err(Failure::reset(&error, RequestProgress::Started)),
            }
        }
    }

    async fn connect(&mut self, protocol: Protocol) -> Result<T::Connection, Failure> {
        let Some(endpoint) = &self.latest.endpoint else { return Err(Failure::NoHealthyUpstream) };
        let worker = self.worker;
        let target = Target { cluster: &self.cluster, endpoint, priority: self.priority };
        let connected = {
            let mut connecting = pin!(self.transport.connection(&target, protocol));
            let means = (self.exchange.info, worker.timers());
            self.limits.bound(None, means, |cx| connecting.as_mut().poll(cx)).await
        };
        let connected = connected.map_err(|expired| Failure::expired(expired, RequestProgress::NotStarted))?;
        connected.map_err(|error| self.not_connected(&error))
    }

    async fn send(
        &mut self,
        connection: T::Connection,
        call: &mut Call,
    ) -> Result<Result<(), TransportError>, Failure> {
        let of_try = TryLimits::new(now, &self.timeouts);
        let mut sending = pin!(self.transport.send(connection, call));
        let means = (self.exchange.info, self.worker.timers());
        let sent = self.limits.bound(of_try, means, |cx| sending.as_mut().poll(cx)).await;
        sent.map_err(|expired| Failure::expired(expired, RequestProgress::Started))
    }

    /// What the try has to itself: headers and authority.
    fn begin_try(&self, parts: &mut Parts) {
        request::begin_try(parts, self.exchange, self.attempt, self.timeouts.expected(self.elapsed()));
        if self.exchange.route.rewrites_authority() {
            let hostname = self.latest.endpoint.as_ref().and_then(|endpoint| endpoint.hostname());
            request::use_endpoint_hostname(parts, self.exchange, hostname.map(|name| &**name));
        }
    }

    /// Takes the try's place in the circuit breaker and its share of the endpoint's load.
    fn activate(&mut self) -> Result<(), Failure> {
        // What was held for a connection that had ended is given back first: it must not be in the way.
        self.end_try();
        if let Some(endpoint) = &self.latest.endpoint {
            self.cluster.begin_try(endpoint, self.priority).map_err(|_| {
                endpoint.stats().rq_error.inc();
                OVERFLOW
            })?;
            self.latest.is_active = true;
        }
        Ok(())
    }

    /// How much of the route timeout is over; of the first try, nothing worth reading the clock.
    fn elapsed(&self) -> Duration {
        if self.attempt <= 1 { Duration::ZERO } else { self.since_request() }
    }

    #[cold]
    fn since_request(&self) -> Duration {
        let complete = self.exchange.info.request_completed_at();
        complete.map_or(Duration::ZERO, |complete| now().saturating_duration_since(complete))
    }

    fn not_connected(&mut self, error: &TransportError) -> Failure {
        if error.reason() == ResetReason::Overflow {
            // Nobody waited for the endpoint, so it has no part in the request.
            self.latest.endpoint = None;
        }
        if let Some(text) = error.transport_failure() {
            self.exchange.info.state().upstream_transport_failure_reason = Some(text.replace(' ', "_").into());
        }
        Failure::reset(error, RequestProgress::NotStarted)
    }

    fn decide(&mut self, response: Option<&Response<Body>>, result: &Result<(), Failure>, kept: &Kept) -> Decision {
        let Some(retry) = &mut self.retry else { return Decision::Done };
        if self.exchange.info.has_request_broken_off() {
            return Decision::Done;
        }
        if !kept.body.can_replay() {
            self.cluster.stats().retry_or_shadow_abandoned.inc();
            self.retry = None;
            return Decision::Done;
        }
        let retries_made = retry.retries_made();
        let decision = match (result, response) {
            (Ok(()), Some(response)) => {
                retry.handle_response(response.status(), response.headers(), &self.cluster, &mut ThreadRng)
            }
            (Err(Failure::Reset { reason, progress, .. }), _) => {
                retry.handle_reset(*reason, *progress, &self.cluster, &mut ThreadRng)
            }
            (Ok(()), None) | (Err(Failure::NoHealthyUpstream | Failure::Expired(_)), _) => return Decision::Done,
        };
        self.exchange.counters.handle_decision(decision, retries_made);
        decision
    }

    /// The last result becomes the answer.
    fn conclude(&mut self, call: &mut Call, result: Result<(), Failure>, decision: Decision) {
        let flags = match decision {
            Decision::LimitExceeded => ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED,
            Decision::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            Decision::Done | Decision::Retry { .. } => ResponseFlags::NONE,
        };
        match (result, &mut call.response) {
            (Ok(()), Some(response)) => self.pass_on(response, flags),
            (result, _) => {
                let failure = result.err().unwrap_or(NOTHING_TO_SEND);
                if matches!(failure, Failure::Expired(Expired::Route)) {
                    self.exchange.counters.handle_timeout();
                }
                let reply = failure.reply(self.attempt);
                // Who gave the request up gets no answer, and who waits too long gets it from the listener.
                let is_upstreams = !matches!(failure, Failure::Expired(Expired::MaxStreamDuration));
                if is_upstreams && !self.exchange.info.has_request_broken_off() {
                    self.exchange.counters.handle_response(reply.status);
                    // What it means, also where a gRPC client is told so by a response of status 200.
                    self.cluster.stats().count_response(reply.status, self.origin);
                }
                self.tell().response_flags.insert(flags);
                call.answer(self.exchange.reply(reply));
            }
        }
    }

    /// The endpoint's answer becomes that of the call.
    fn pass_on(&mut self, response: &mut Response<Body>, flags: ResponseFlags) {
        self.cluster.stats().count_response(response.status(), self.origin);
        self.exchange.counters.handle_response(response.status());
        let (has_ended, received_at) = (response.body().is_end_stream(), self.received_at());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if let Some(active) = self.hand_over() {
                response.extensions_mut().insert(HeldByTunnel::from(active));
            }
        } else if has_ended {
            self.end_try();
        } else {
            let limits = std::mem::take(&mut self.limits);
            let guard = ResponseGuard::new(self.exchange.info, limits, self.worker.timers(), self.hand_over());
            response.body_mut().guard(guard);
        }
        let mut state = self.tell();
        state.response_flags.insert(flags);
        state.response_code_details = Some(Cow::Borrowed(details::VIA_UPSTREAM));
        state.upstream_timing.first_upstream_rx_byte_received = Some(received_at);
        state.upstream_timing.last_upstream_rx_byte_received = has_ended.then_some(received_at);
        drop(state);
        self.exchange.finish(response, received_at);
    }

    /// When the latest answer came.
    fn received_at(&self) -> Instant {
        self.latest.received_at.unwrap_or_else(now)
    }
}

impl<'a, T> Tries<'a, T> {
    /// Gives back what the latest try has of cluster and endpoint.
    fn end_try(&mut self) {
        if std::mem::take(&mut self.latest.is_active)
            && let Some(endpoint) = &self.latest.endpoint
        {
            self.cluster.end_try(endpoint, self.priority);
        }
    }

    /// The latest try goes on without this, as a response body.
    fn hand_over(&mut self) -> Option<ActiveTry> {
        let endpoint = self.latest.endpoint.as_ref().filter(|_| self.latest.is_active)?;
        self.latest.is_active = false;
        let (cluster, endpoint) = (Arc::clone(&self.cluster), Arc::clone(endpoint));
        Some(ActiveTry { cluster, endpoint, priority: self.priority })
    }

    /// Nobody waits for the answer any more.
    #[inline(never)]
    fn give_up(&mut self) {
        if self.latest.is_active {
            failure::count_local_reset(self.cluster.stats(), self.latest.protocol.map(Protocol::version));
        }
        self.end_try();
        drop(self.tell());
    }

    /// Tells what is known of the tries, which are over. The answer, if there is one, is for the caller to add.
    fn tell(&mut self) -> impl DerefMut<Target = StreamState> + use<'a, T> {
        let latest = std::mem::take(&mut self.latest);
        let mut state = self.exchange.info.state();
        state.upstream_cluster = self.cluster.0.take();
        state.upstream_host = latest.endpoint;
        state.attempt_count = self.attempt;
        state.upstream_protocol = latest.protocol.map(Protocol::version);
        state.upstream_timing.first_upstream_tx_byte_sent = latest.sent_at;
        state
    }
}

impl<T> Drop for Tries<'_, T> {
    fn drop(&mut self) {
        if self.cluster.0.is_some() {
            self.give_up();
        }
    }
}

/// A connection may end between two requests; several in a row tell of an endpoint that serves none.
const MAX_CONNECTIONS_PER_TRY: u32 = 3;

const NOTHING_TO_SEND: Failure =
    Failure::Reset { reason: ResetReason::LocalReset, progress: RequestProgress::NotStarted, transport_failure: None };

const OVERFLOW: Failure =
    Failure::Reset { reason: ResetReason::Overflow, progress: RequestProgress::NotStarted, transport_failure: None };
