//! The tries of a request, until there is a response or it must not be retried.
//!
//! The tries write to the request's [`StreamInfo`] once, when they are over.

mod response;

use std::{
    borrow::Cow,
    net::SocketAddr,
    ops::DerefMut,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body::Body as _;
use mesh_core::{
    balance::Avoid,
    cluster::{ClusterState, EndpointState, RequestOrigin},
    model::{RetryPolicy, RoutingPriority},
    resilience::{overrides::Overrides, timeout::Timeouts},
    retry::{Decision, RequestProgress, ResetReason, RetryState},
    tls::TlsInfo,
};

use super::{
    exchange::Exchange,
    failure::{self, Failure},
    guard::ActiveTry,
    request::{self, Original},
};
use crate::{
    Protocol, Target, Transport, TransportError,
    call::{Call, StreamState},
    outlier::{outcome_of_response, record},
    pick::pick_for,
    retry::{Attempt, Outcome, Retries, repeat},
    rng::ThreadRng,
    span::within,
    timeout::{Limits, TryLimits},
    timer::{self, now},
};

/// The tries of a request.
#[derive(Debug)]
pub(super) struct Tries<'a, T> {
    exchange: &'a Exchange<'a>,
    transport: &'a T,
    /// The cluster that takes the request.
    cluster: Cow<'a, Arc<ClusterState>>,
    /// The aggregate that it belongs to, if the route names one.
    aggregate: Option<&'a Arc<ClusterState>>,
    priority: RoutingPriority,
    origin: RequestOrigin,
    timeouts: Timeouts,
    limits: Limits,
    retries: Option<Retries<&'a RetryPolicy>>,
    attempt: u32,
    authority_rewritten: bool,
    /// The host of the request as it came to the router, if TLS requests it.
    server_name: Option<Arc<str>>,
    latest: Try,
    /// Whether the tries have been written to the request's state.
    is_recorded: bool,
}

/// The state of a try.
#[derive(Debug, Default)]
struct Try {
    endpoint: Option<Arc<EndpointState>>,
    /// Protocol of the connection, once the connection has accepted the try.
    protocol: Option<Protocol>,
    /// Local address of the connection.
    local_address: Option<SocketAddr>,
    /// TLS of the connection; `None` = plain text.
    tls: Option<Arc<TlsInfo>>,
    /// Whether it counts in the circuit breaker and at the endpoint.
    is_active: bool,
    /// When the connection has accepted it, if access logs are written.
    sent_at: Option<Instant>,
    /// When its response was received.
    received_at: Option<Instant>,
}

impl<'a, T: Transport> Tries<'a, T> {
    /// Reads timeouts and the retry policy from the route and the request. Headers that are meant for this hop are removed.
    pub(super) fn new(
        exchange: &'a Exchange<'a>,
        transport: &'a T,
        cluster: &'a Arc<ClusterState>,
        call: &mut Call,
    ) -> Self {
        let has_overrides = call.survey.has_envoy_headers;
        let headers = &mut call.head.headers;
        let overrides = if has_overrides { Overrides::take_from(headers) } else { Overrides::default() };
        let route = exchange.route;
        let priority = route.priority();
        let policy = route.retry_policy().map(|policy| &**policy);
        let stream_default = exchange.options.max_stream_duration;
        let timeouts = Timeouts::new(route.limits(), policy, &overrides, headers, stream_default);
        if exchange.reads_request_later() {
            call.keep_head();
        }
        let aggregate = cluster.is_aggregate().then_some(cluster);
        let cluster = chosen(cluster);
        Self {
            exchange,
            transport,
            aggregate,
            priority,
            origin: if overrides.internal { RequestOrigin::Internal } else { RequestOrigin::External },
            timeouts,
            limits: Limits::new(exchange.info, &timeouts),
            retries: Retries::new(policy, overrides, priority, call),
            attempt: 0,
            authority_rewritten: false,
            server_name: server_name(&cluster, call),
            cluster,
            latest: Try::default(),
            is_recorded: false,
        }
    }

    /// Runs the tries and sets the response of the call.
    pub(super) async fn run(&mut self, call: &mut Call) {
        if let Some(dropped) = self.cluster.drop_request(&mut ThreadRng) {
            return self.conclude(call, Err(Failure::Dropped(dropped)), Decision::Done);
        }
        let buffer_limit = self.cluster.config().retry_buffer_bytes;
        let mut retries = self.retries.take();
        let (result, decision) = repeat(self, call, retries.as_mut(), buffer_limit).await;
        self.conclude(call, result, decision);
    }

    /// Runs a try.
    async fn try_once(
        &mut self,
        call: &mut Call,
        mut retry: Option<&mut RetryState<&'a RetryPolicy>>,
    ) -> Result<(), Failure> {
        self.attempt += 1;
        let mut result = self.try_endpoint(call, retry.as_deref_mut()).await;
        if self.cluster.config().proxyless {
            let mut left = MAX_UNREACHABLE_PER_TRY;
            while left > 0 && result.as_ref().is_err_and(Failure::is_unreachable) && !call.is_sent() {
                left -= 1;
                // The endpoint is avoided now. Without others, this is the reason that the caller learns.
                match self.try_endpoint(call, retry.as_deref_mut()).await {
                    Err(Failure::NoHealthyUpstream) => break,
                    other => result = other,
                }
            }
        }
        result
    }

    /// Sends the request to an endpoint, and records the outcome for it.
    async fn try_endpoint(
        &mut self,
        call: &mut Call,
        retry: Option<&mut RetryState<&'a RetryPolicy>>,
    ) -> Result<(), Failure> {
        if let Some(aggregate) = self.aggregate.filter(|_| self.latest.endpoint.is_some()) {
            self.cluster = chosen(aggregate);
            self.server_name = server_name(&self.cluster, call);
        }
        let avoid = retry.as_deref().map_or(Avoid::NONE, RetryState::avoid);
        let picked = pick_for(&self.cluster, avoid, Some(&call.head.headers), || {
            self.exchange.info.state().original_destination()
        });
        let endpoint = picked.map_err(|_| Failure::NoHealthyUpstream)?;
        let mut refusals = Refusals::SendAgain;
        if let Some(retry) = retry {
            retry.handle_pick(endpoint.id());
            if retry.retries_reset(ResetReason::RemoteRefusedStreamReset, RequestProgress::Started) {
                refusals = Refusals::Retry;
            }
        }
        tracing::trace!(endpoint = %endpoint.address(), "picked");
        self.latest = Try { endpoint: Some(endpoint), ..Try::default() };
        let result = self.exchange(call, refusals).await;
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
                failure.count(self.cluster.stats(), self.latest.protocol.and_then(Protocol::version));
                if let Some(outcome) = failure.outcome() {
                    record(&self.cluster, endpoint, outcome, now());
                }
            }
        }
        result
    }

    /// Sends the request to the picked endpoint and waits for the response.
    async fn exchange(&mut self, call: &mut Call, refusals: Refusals) -> Result<(), Failure> {
        self.begin_try(call);
        let protocol = match self.exchange.route.action() {
            Some(action) if action.sends_data_only(&call.head.method) => Protocol::Tcp,
            _ => Protocol::choose(self.cluster.config().http_protocol_options.protocol, call.head.version),
        };
        let (mut connections_left, mut refusals_left) = (MAX_CONNECTIONS_PER_TRY, MAX_REFUSALS_PER_TRY);
        loop {
            let connection = self.connect(protocol).await?;
            self.activate()?;
            let about = T::info(&connection);
            self.latest.protocol = about.protocol.or(Some(protocol));
            self.latest.local_address = about.local_address;
            self.latest.tls = about.tls.cloned();
            self.latest.sent_at = self.exchange.info.is_logged().then(now);
            self.cluster.stats().upstream_rq_total.inc();
            self.exchange.counters.handle_try();
            let Err(error) = self.send(connection, call).await? else {
                self.latest.received_at = Some(now());
                return Ok(());
            };
            let is_refused = error.reason() == ResetReason::RemoteRefusedStreamReset;
            if call.is_sent() || (is_refused && refusals == Refusals::Retry) {
                return Err(Failure::reset(error, RequestProgress::Started));
            }
            // The connection was closed before it accepted the request, or the endpoint has not processed it.
            let left = if is_refused { &mut refusals_left } else { &mut connections_left };
            *left -= 1;
            if *left == 0 {
                return Err(Failure::reset(error, RequestProgress::NotStarted));
            }
        }
    }

    async fn connect(&mut self, protocol: Protocol) -> Result<T::Connection, Failure> {
        let Some(endpoint) = &self.latest.endpoint else { return Err(Failure::NoHealthyUpstream) };
        let server_name = self.server_name.as_ref();
        let target = Target { cluster: &self.cluster, endpoint, priority: self.priority, server_name };
        let connected = {
            let mut connecting = pin!(self.transport.connection(&target, protocol));
            let info = self.exchange.info;
            self.limits.bound(None, info, |cx| connecting.as_mut().poll(cx)).await
        };
        let connected = connected.map_err(|expired| Failure::expired(expired, RequestProgress::NotStarted))?;
        connected.map_err(|error| self.not_connected(error))
    }

    async fn send(
        &mut self,
        connection: T::Connection,
        call: &mut Call,
    ) -> Result<Result<(), TransportError>, Failure> {
        let of_try = TryLimits::new(now, &self.timeouts);
        let mut sending = pin!(self.transport.send(connection, call));
        let info = self.exchange.info;
        let sent = self.limits.bound(of_try, info, |cx| sending.as_mut().poll(cx)).await;
        sent.map_err(|expired| Failure::expired(expired, RequestProgress::Started))
    }

    /// Makes the changes that differ from try to try: headers and authority.
    fn begin_try(&mut self, call: &mut Call) {
        let expected = self.timeouts.expected(self.elapsed());
        request::begin_try(&mut call.head, self.exchange, self.attempt, expected);
        if self.exchange.route.rewrites_authority() {
            let hostname = self.latest.endpoint.as_ref().and_then(|endpoint| endpoint.hostname());
            let original = if self.authority_rewritten { Original::Dropped } else { Original::Kept };
            let hostname = hostname.map(|name| &**name);
            self.authority_rewritten |=
                request::use_endpoint_hostname(&mut call.head, self.exchange, hostname, original);
        }
    }

    /// Counts the try in the circuit breaker and at the endpoint.
    fn activate(&mut self) -> Result<(), Failure> {
        // The count of an attempt on a closed connection is released first.
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

    /// The elapsed part of the route timeout; zero for the first try, without reading the clock.
    fn elapsed(&self) -> Duration {
        if self.attempt <= 1 { Duration::ZERO } else { self.since_request() }
    }

    #[cold]
    fn since_request(&self) -> Duration {
        let complete = self.exchange.info.request_completed_at();
        complete.map_or(Duration::ZERO, |complete| now().saturating_duration_since(complete))
    }

    fn not_connected(&mut self, error: TransportError) -> Failure {
        if error.reason() == ResetReason::Overflow {
            // The request has not been sent, so the endpoint is not responsible.
            self.latest.endpoint = None;
        }
        if let Some(text) = error.transport_failure() {
            self.exchange.info.state().upstream_transport_failure_reason = Some(text.replace(' ', "_").into());
        }
        Failure::reset(error, RequestProgress::NotStarted)
    }
}

/// The cluster that takes a try.
fn chosen(cluster: &Arc<ClusterState>) -> Cow<'_, Arc<ClusterState>> {
    if cluster.is_aggregate() {
        cluster.choose(&mut ThreadRng).map_or(Cow::Borrowed(cluster), Cow::Owned)
    } else {
        Cow::Borrowed(cluster)
    }
}

/// The server name of connections for a request, if the request has it.
fn server_name(cluster: &ClusterState, call: &Call) -> Option<Arc<str>> {
    if cluster.config().http_protocol_options.auto_sni { request::server_name(&call.head) } else { None }
}

impl<'a, T: Transport> Attempt for Tries<'a, T> {
    type Policy = &'a RetryPolicy;
    type Result = Result<(), Failure>;

    fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    async fn attempt(
        &mut self,
        call: &mut Call,
        retry: Option<&mut RetryState<&'a RetryPolicy>>,
    ) -> Result<(), Failure> {
        let span = tracing::debug_span!("try", cluster = %self.cluster.config().name, number = self.attempt + 1);
        within(span, pin!(self.try_once(call, retry))).await
    }

    fn outcome<'c>(&self, call: &'c Call, result: &'c Result<(), Failure>) -> Outcome<'c> {
        if self.exchange.info.is_request_aborted() {
            return Outcome::Final;
        }
        match (result, &call.response) {
            (Ok(()), Some(response)) => Outcome::Response(response.status(), response.headers()),
            (Err(Failure::Reset { reason, progress, .. }), _) => Outcome::Reset(*reason, *progress),
            (Ok(()), None) | (Err(Failure::Dropped(_) | Failure::NoHealthyUpstream | Failure::Expired(_)), _) => {
                Outcome::Final
            }
        }
    }

    fn decided(&mut self, decision: Decision, retries_made: u32) {
        self.exchange.counters.handle_decision(decision, retries_made);
    }

    async fn back_off(&mut self, call: &mut Call, duration: Duration) -> Result<(), Result<(), Failure>> {
        self.end_try();
        if call.response.take().is_some_and(|response| !response.body().is_end_stream()) {
            failure::count_local_reset(self.cluster.stats(), self.latest.protocol.and_then(Protocol::version));
        }
        let info = self.exchange.info;
        let mut wait = pin!(timer::sleep(duration));
        let waited = self.limits.bound(None, info, |cx| wait.as_mut().poll(cx)).await;
        waited.map_err(|expired| {
            let failure = Failure::expired(expired, RequestProgress::Started);
            failure.count(self.cluster.stats(), None);
            Err(failure)
        })
    }
}

impl<T> Tries<'_, T> {
    /// Releases the counts of the latest try.
    fn end_try(&mut self) {
        if std::mem::take(&mut self.latest.is_active)
            && let Some(endpoint) = &self.latest.endpoint
        {
            self.cluster.end_try(endpoint, self.priority);
        }
    }

    /// Passes the guard of the latest try to the response body.
    fn hand_over(&mut self) -> Option<ActiveTry> {
        let endpoint = self.latest.endpoint.as_ref().filter(|_| self.latest.is_active)?;
        self.latest.is_active = false;
        let (cluster, endpoint) = (Arc::clone(&self.cluster), Arc::clone(endpoint));
        Some(ActiveTry { cluster, endpoint, priority: self.priority })
    }

    /// Ends the tries, because the request was canceled.
    #[inline(never)]
    fn give_up(&mut self) {
        if self.latest.is_active {
            failure::count_local_reset(self.cluster.stats(), self.latest.protocol.and_then(Protocol::version));
        }
        self.end_try();
        drop(self.record());
    }

    /// Writes the tries, which are over, to the state of the request.
    fn record(&mut self) -> impl DerefMut<Target = StreamState> + use<'_, T> {
        self.is_recorded = true;
        let mut state = self.exchange.info.state();
        state.upstream_cluster = Some(Arc::clone(&self.cluster));
        state.upstream_host = self.latest.endpoint.take();
        state.attempt_count = self.attempt;
        state.upstream_protocol = self.latest.protocol.and_then(Protocol::version);
        state.upstream_local_address = self.latest.local_address;
        state.upstream_tls = self.latest.tls.take();
        state.upstream_timing.first_upstream_tx_byte_sent = self.latest.sent_at;
        state
    }
}

impl<T> Drop for Tries<'_, T> {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.give_up();
        }
    }
}

/// What happens to a request that the endpoint refuses without having processed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusals {
    /// It is sent on another connection, in the same try.
    SendAgain,
    /// The retry policy decides, as in Envoy, which has no other way.
    Retry,
}

/// Maximum number of connections that may be closed before they accept the request. More mean that the endpoint is faulty.
const MAX_CONNECTIONS_PER_TRY: u32 = 3;

/// Maximum number of other endpoints that a try goes to because those before cannot be connected to, in clusters that are used as gRPC's
/// clients do.
const MAX_UNREACHABLE_PER_TRY: u32 = 8;

/// Maximum number of times that the endpoint may refuse the request. An endpoint that ends its connections after a few requests
/// refuses many: those that were sent before its GOAWAY arrived.
const MAX_REFUSALS_PER_TRY: u32 = 64;

const NOTHING_TO_SEND: Failure =
    Failure::Reset { reason: ResetReason::LocalReset, progress: RequestProgress::NotStarted, error: None };

const OVERFLOW: Failure =
    Failure::Reset { reason: ResetReason::Overflow, progress: RequestProgress::NotStarted, error: None };
