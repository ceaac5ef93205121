//! Sending a request to its cluster: try by try, until there is an answer or none is to be had.

use std::sync::Arc;

use http::{HeaderMap, Request, Response, request::Parts};
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
        let is_internal = parts.headers.get("x-envoy-internal").is_some_and(|value| value == "true");
        let origin = if is_internal { RequestOrigin::Internal } else { RequestOrigin::External };
        let limits = Limits::new(exchange.info, &timeouts, worker.timers());
        Self { exchange, transport, worker, cluster, priority, origin, timeouts, limits, retry, attempt: 0 }
    }

    /// Answers the request.
    pub(super) async fn run(mut self, parts: Parts, body: Body) -> Response<Body> {
        if self.retry.is_none() {
            let result = self.attempt(Request::from_parts(parts, body)).await;
            return self.conclude(result, Decision::Done);
        }
        let replay = Replay::new(body, self.cluster.config().retry_buffer_bytes);
        loop {
            let result = self.attempt(copy(&parts, replay.next_body())).await;
            match self.decide(&result, &replay) {
                Decision::Retry { after } => {
                    drop(result);
                    let wait = self.worker.timers().sleep(after);
                    if let Err(expired) = self.limits.bound(None, wait).await {
                        let failure = Failure::expired(expired, RequestProgress::Started);
                        failure.count(self.cluster.stats());
                        return self.conclude(Err(failure), Decision::Done);
                    }
                }
                decision => {
                    replay.stop();
                    return self.conclude(result, decision);
                }
            }
        }
    }

    /// One try. What it means for the endpoint is recorded here.
    async fn attempt(&mut self, request: Request<Body>) -> Result<Answer, Failure> {
        self.attempt += 1;
        let avoid = self.retry.as_ref().map_or(Avoid::NONE, RetryState::avoid);
        let picked = self.cluster.pick(avoid, &mut ThreadRng);
        let endpoint = picked.map_err(|_| Failure::NoHealthyUpstream)?;
        if let Some(retry) = &mut self.retry {
            retry.handle_pick(endpoint.id());
        }
        let result = self.exchange_with(&endpoint, request).await;
        let outcome = match &result {
            Ok(answer) => Some(outcome_of_response(&answer.response, self.exchange.is_grpc)),
            Err(failure) => {
                failure.count(self.cluster.stats());
                failure.outcome()
            }
        };
        if let Some(outcome) = outcome {
            record(self.cluster, &endpoint, outcome);
        }
        result
    }

    async fn exchange_with(
        &mut self,
        endpoint: &Arc<EndpointState>,
        request: Request<Body>,
    ) -> Result<Answer, Failure> {
        let request = self.begin_try(endpoint, request);
        let target = Target {
            worker: self.worker.clone(),
            cluster: Arc::clone(self.cluster),
            endpoint: Arc::clone(endpoint),
            priority: self.priority,
        };
        let protocol = Protocol::choose(self.cluster.config().http_protocol_options.protocol, request.version());
        let mut unsent = request;
        let mut connections_left = MAX_CONNECTIONS_PER_TRY;
        loop {
            connections_left -= 1;
            let connected = self.limits.bound(None, self.transport.connection(&target, protocol)).await;
            let connection = connected
                .map_err(|expired| Failure::expired(expired, RequestProgress::NotStarted))?
                .map_err(|error| self.not_sent(&error))?;
            self.exchange.info.state().upstream_protocol = Some(protocol.version());
            let permit = self.cluster.try_request(self.priority).map_err(|_| OVERFLOW)?;
            let active = Arc::clone(endpoint).start_request();
            let sent_at = self.sent();
            let of_try = TryLimits::new(sent_at, &self.timeouts);
            let sending = self.transport.send(connection, unsent);
            let answered = self.limits.bound(of_try, sending).await;
            match answered.map_err(|expired| Failure::expired(expired, RequestProgress::Started))? {
                Ok(response) => {
                    self.exchange.info.state().upstream_timing.first_upstream_rx_byte_received = Some(now());
                    return Ok(Answer { response, permit, active });
                }
                // The connection had ended before it took the request; nobody has seen it.
                Err(SendError { unsent: Some(back), .. }) if connections_left > 0 => unsent = *back,
                Err(SendError { error, unsent }) => {
                    let progress =
                        if unsent.is_some() { RequestProgress::NotStarted } else { RequestProgress::Started };
                    return Err(Failure::reset(&error, progress));
                }
            }
        }
    }

    /// What the try has to itself: headers, authority, what is known of it.
    fn begin_try(&self, endpoint: &Arc<EndpointState>, request: Request<Body>) -> Request<Body> {
        let (mut parts, body) = request.into_parts();
        let started = now();
        let complete = self.exchange.info.request_completed_at();
        let elapsed = complete.map(|at| started.saturating_duration_since(at)).unwrap_or_default();
        request::begin_try(&mut parts, self.exchange, self.attempt, self.timeouts.expected(elapsed));
        request::use_endpoint_hostname(&mut parts, self.exchange, endpoint.hostname().map(|name| &**name));
        let mut state = self.exchange.info.state();
        state.attempt_count = self.attempt;
        state.upstream_host = Some(Arc::clone(endpoint));
        drop(state);
        Request::from_parts(parts, body)
    }

    fn sent(&self) -> std::time::Instant {
        let sent_at = now();
        self.cluster.stats().upstream_rq_total.inc();
        self.exchange.info.state().upstream_timing.first_upstream_tx_byte_sent = Some(sent_at);
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
            Ok(Answer { response, permit, active }) => {
                stats.count_response(response.status(), self.origin);
                let since = self.exchange.info.request_completed_at().unwrap_or_else(|| self.exchange.info.start());
                let response = self.exchange.finish(response, now().saturating_duration_since(since));
                let guard = ResponseGuard::new(self.exchange.info, self.limits, permit, active);
                response.map(|body| body.guarded(guard))
            }
        }
    }
}

/// A connection may end between two requests; several in a row tell of an endpoint that serves none.
const MAX_CONNECTIONS_PER_TRY: u32 = 3;

const OVERFLOW: Failure =
    Failure::Reset { reason: ResetReason::Overflow, progress: RequestProgress::NotStarted, transport_failure: None };

/// The request for another try. Extensions concern this hop and do not go along.
fn copy(parts: &Parts, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    request.method_mut().clone_from(&parts.method);
    request.uri_mut().clone_from(&parts.uri);
    *request.version_mut() = parts.version;
    // A clone has no room for another header: the first one added would move all of them once more.
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + HEADERS_PER_TRY);
    headers.extend(parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    *request.headers_mut() = headers;
    request
}

/// Headers that [`request::begin_try`] may add.
const HEADERS_PER_TRY: usize = 2;
