//! The recorder of a request: statistics, Istio's metrics and access logs, written once when the request has ended.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, request, response};
use http_body::Frame;
use mesh_core::{
    grpc,
    local_reply::{LocalReply, UpstreamReset},
    model::{DestinationService, Workload},
    policy::survey::header_bytes,
    telemetry::{Attributes, ResponseFlags, details},
};

use tracing::Span;

use super::{Call, ResponseSource, StreamInfo, StreamState, UpstreamTiming, trace};
use crate::{
    telemetry::{
        AccessLogs, HttpStats, IstioMetrics, ListenerHttpStats, NamedHost, Reporter, RequestProtocol, RequestSample,
        SeriesKey, unregistered,
    },
    timer::now,
};

/// The telemetry of a listener's requests.
#[derive(Debug)]
pub(crate) struct RequestTelemetry {
    pub(crate) istio: IstioMetrics,
    pub(crate) reporter: Reporter,
    /// The workload of this process.
    pub(crate) workload: Option<Arc<Workload>>,
    /// The workload of the other end, if it does not send peer metadata.
    pub(crate) peer: Option<Arc<Workload>>,
    /// The service of requests whose cluster has none.
    pub(crate) service: Option<Arc<DestinationService>>,
    /// Whether requests whose cluster has no service are attributed to their host.
    pub(crate) host_header_fallback: bool,
    pub(crate) access_logs: AccessLogs,
    pub(crate) http: Option<HttpTelemetry>,
}

/// Envoy's statistics of a connection manager.
#[derive(Debug)]
pub(crate) struct HttpTelemetry {
    pub(crate) stats: Arc<HttpStats>,
    /// The statistics of its listener.
    pub(crate) listener: Arc<ListenerHttpStats>,
}

/// The downstream connection of a request.
pub(crate) trait DownstreamConnection: fmt::Debug + Send + Sync {
    /// Records that a request has ended.
    fn request_ended(&self, at: Instant);

    /// Whether the connection is open, as far as is known.
    fn is_open(&self) -> bool;
}

/// The recorder of an active request. If it is dropped, the client has disconnected or the service has panicked.
#[derive(Debug)]
pub(crate) struct Recorder {
    telemetry: Arc<RequestTelemetry>,
    /// `None` for a request of a library channel.
    connection: Option<Arc<dyn DownstreamConnection>>,
    info: StreamInfo,
    protocol: RequestProtocol,
    request_header_bytes: u64,
    /// The host of the request, if requests are attributed to hosts.
    host: Option<NamedHost>,
    /// The client's workload, from peer metadata.
    client: Option<Arc<Workload>>,
    /// The server's workload, from peer metadata.
    server: Option<Arc<Workload>>,
    response: Option<ResponseFacts>,
    grpc_status: Option<u32>,
    logged: Option<Box<LoggedResponse>>,
    /// The span of the request, if a subscriber enables it.
    span: Option<Box<Span>>,
    ended: bool,
    /// The response was forwarded completely.
    completed: bool,
    /// Counts as an upgrade.
    is_upgrade: bool,
}

#[derive(Debug)]
struct ResponseFacts {
    status: StatusCode,
    header_bytes: u64,
}

/// The parts of a response that only access logs need.
#[derive(Debug, Default)]
struct LoggedResponse {
    headers: HeaderMap,
    trailers: HeaderMap,
}

impl Recorder {
    /// Starts with the request of the client. Its body is counted from now on.
    pub(crate) fn start(
        telemetry: &Arc<RequestTelemetry>,
        connection: Option<Arc<dyn DownstreamConnection>>,
        info: StreamInfo,
        call: &mut Call,
    ) -> Self {
        if let Some(body) = &mut call.body {
            body.count(&info);
        }
        if let (Some(http), Some(_)) = (&telemetry.http, &connection) {
            http.stats.request_started(call.head.version);
        }
        let logged = (!telemetry.access_logs.is_empty()).then(Box::default);
        Self {
            telemetry: Arc::clone(telemetry),
            connection,
            info,
            protocol: if call.is_grpc() { RequestProtocol::Grpc } else { RequestProtocol::Http },
            request_header_bytes: call.survey.bytes,
            host: None,
            client: None,
            server: None,
            response: None,
            grpc_status: None,
            logged,
            span: None,
            ended: false,
            completed: false,
            is_upgrade: false,
        }
    }

    pub(crate) fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// The span of the request; disabled unless a subscriber enables it.
    pub(crate) fn follow(&mut self, request: &request::Parts) -> Span {
        let span = trace::span(self.telemetry.reporter, request);
        if !span.is_disabled() {
            self.span = Some(Box::new(span.clone()));
        }
        span
    }

    /// Records the client's workload.
    pub(crate) fn observe_client(&mut self, client: Option<Arc<Workload>>) {
        self.client = client;
    }

    /// Records the server's workload.
    pub(crate) fn observe_server(&mut self, server: Option<Arc<Workload>>) {
        self.server = server;
    }

    /// Records the parts of the request that metrics and access logs need, before it is forwarded.
    pub(crate) fn observe_request(&mut self, request: &request::Parts) {
        if self.telemetry.host_header_fallback {
            self.host = NamedHost::of(request);
        }
        if self.logged.is_some() {
            self.info.log_request(self.telemetry.access_logs.request_headers(), request);
        }
    }

    /// Whether the name of the route is needed.
    pub(crate) fn reads_route(&self) -> bool {
        self.telemetry.host_header_fallback || self.logged.is_some() || self.span.is_some()
    }

    /// Records the parts of the response that metrics and access logs need.
    pub(crate) fn observe_response(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.response = Some(ResponseFacts { status, header_bytes: header_bytes(headers) });
        if self.protocol == RequestProtocol::Grpc {
            self.grpc_status = grpc::status_of(headers);
        }
        if let Some(logged) = &mut self.logged {
            logged.headers = self.telemetry.access_logs.keep_response_headers(headers);
        }
    }

    /// Records the parts of the response head that metrics and access logs need.
    pub(crate) fn observe_response_head(&mut self, response: &response::Parts) {
        self.observe_response(response.status, &response.headers);
    }

    /// Counts a frame of the response.
    pub(crate) fn observe_frame(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.info.add_bytes_sent(data.len() as u64);
        }
        let Some(trailers) = frame.trailers_ref() else { return };
        if self.protocol == RequestProtocol::Grpc {
            self.grpc_status = grpc::status_of(trailers).or(self.grpc_status);
        }
        if let Some(logged) = &mut self.logged {
            logged.trailers = trailers.clone();
        }
    }

    /// Records a request whose response was forwarded completely.
    pub(crate) fn complete(mut self) {
        self.completed = true;
        self.end();
    }

    /// Records a request whose client has aborted the upload. The reset of the upstream stream is a consequence.
    pub(crate) fn client_disconnected(self) {
        self.info.state().response_flags = ResponseFlags::NONE;
    }

    /// Records a request whose stream was reset, because it is invalid. As in Envoy, it counts as one that the client has reset.
    pub(crate) fn refused_by_reset(mut self, details: &'static str) {
        self.response = None;
        {
            let mut state = self.info.state();
            state.response_flags = ResponseFlags::DOWNSTREAM_REMOTE_RESET;
            state.response_code_details = Some(details.into());
        }
        self.count_reset();
        self.end();
    }

    fn count_reset(&self) {
        if let (Some(http), Some(_)) = (&self.telemetry.http, &self.connection) {
            http.stats.downstream_rq_rx_reset.inc();
        }
    }

    /// Records a request whose idle timeout has expired.
    pub(crate) fn idled(mut self) {
        if let (Some(http), Some(_)) = (&self.telemetry.http, &self.connection) {
            http.stats.downstream_rq_idle_timeout.inc();
        }
        {
            let mut state = self.info.state();
            state.response_flags.insert(ResponseFlags::STREAM_IDLE_TIMEOUT);
            state.response_code_details = Some(details::STREAM_IDLE_TIMEOUT.into());
        }
        self.end();
    }

    /// Counts an upgrade that is allowed, whatever the endpoint responds.
    pub(crate) fn count_upgrade(&mut self) {
        if let (Some(http), Some(_)) = (&self.telemetry.http, &self.connection) {
            http.stats.downstream_cx_upgrades_total.inc();
            http.stats.downstream_cx_upgrades_active.inc();
            self.is_upgrade = true;
        }
    }

    /// Records a request whose response body has failed.
    pub(crate) fn upstream_failed(mut self) {
        self.observe_upstream_failure();
        self.end();
    }

    /// Records a request that could not be sent, because the service failed.
    pub(crate) fn service_failed(mut self) {
        self.info.state().response_flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        self.end();
    }

    fn observe_upstream_failure(&self) {
        let mut state = self.info.state();
        if state.response_flags.is_empty() && state.response_source != Some(ResponseSource::MaxStreamDuration) {
            state.response_flags = ResponseFlags::UPSTREAM_CONNECTION_TERMINATION;
        }
    }

    /// Records a panic of the service. The client's connection is closed, so the request counts as one whose upstream has
    /// closed the connection.
    fn observe_panic(&mut self) {
        self.observe_upstream_failure();
        if self.response.is_none() {
            let reset = LocalReply::upstream_reset(UpstreamReset::ConnectionTermination, "", false);
            self.response = Some(ResponseFacts { status: reset.status, header_bytes: 0 });
            self.info.state().response_code_details = Some(reset.details);
        }
    }

    fn observe_cancellation(&self) {
        let mut state = self.info.state();
        let connection = self.connection.as_deref();
        // If the connection stays open, the stream was reset. HTTP/1 has no such reset.
        let was_reset = state.protocol == Some(Version::HTTP_2) && connection.is_some_and(|it| it.is_open());
        let (flag, details) = if was_reset {
            (ResponseFlags::DOWNSTREAM_REMOTE_RESET, details::HTTP2_REMOTE_RESET)
        } else {
            (ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION, details::DOWNSTREAM_REMOTE_DISCONNECT)
        };
        state.response_flags.insert(flag);
        state.response_code_details = Some(details.into());
    }

    fn end(&mut self) {
        self.ended = true;
        // If the time of the last byte is known, the clock need not be read again.
        let (start, received, sent) = (self.info.start(), self.info.bytes_received(), self.info.bytes_sent());
        let state = self.info.state();
        let ended_at = match self.connection {
            None => state.upstream_timing.last_upstream_rx_byte_received.unwrap_or_else(now),
            Some(_) => now(),
        };
        let duration = ended_at.saturating_duration_since(start);
        self.count(&state, duration, ended_at);
        let status = self.response.as_ref().map(|response| response.status);
        let sample = RequestSample {
            duration,
            request_bytes: self.request_header_bytes + received,
            response_bytes: self.response.as_ref().map_or(0, |response| response.header_bytes) + sent,
        };
        let unregistered = self.unregistered(&state);
        let key = self.series_key(&state, status);
        self.telemetry.istio.record(SeriesKey { service: unregistered.as_ref().or(key.service), ..key }, sample);
        if let Some(logged) = &self.logged {
            self.telemetry.access_logs.write(&self.attributes(logged, &state, ended_at));
        }
        if let Some(span) = &self.span {
            trace::end(span, &state, status, self.grpc_status, duration);
        }
    }

    /// Counts the request in the statistics of its connection manager.
    fn count(&self, state: &StreamState, duration: std::time::Duration, ended_at: Instant) {
        let Some(http) = &self.telemetry.http else { return };
        if state.response_flags.intersects(ResponseFlags::NO_ROUTE_FOUND) {
            http.stats.no_route.inc();
        } else if state.response_flags.intersects(ResponseFlags::NO_CLUSTER_FOUND) {
            http.stats.no_cluster.inc();
        }
        let Some(connection) = &self.connection else { return };
        if let Some(response) = &self.response {
            http.stats.response(response.status);
            http.listener.response(response.status);
        }
        if state.response_source == Some(ResponseSource::MaxStreamDuration) {
            http.stats.downstream_rq_max_duration_reached.inc();
        }
        http.stats.downstream_rq_active.dec();
        if self.is_upgrade {
            http.stats.downstream_cx_upgrades_active.dec();
        }
        http.stats.downstream_rq_time.observe_thousandths(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        connection.request_ended(ended_at);
    }

    fn series_key<'a>(&'a self, state: &'a StreamState, status: Option<StatusCode>) -> SeriesKey<'a> {
        let telemetry = &*self.telemetry;
        let of_endpoint = state.upstream_host.as_ref().and_then(|endpoint| endpoint.workload());
        let of_cluster = state.upstream_cluster.as_ref().and_then(|cluster| cluster.config().service.as_ref());
        let (workload, peer) = (telemetry.workload.as_ref(), telemetry.peer.as_ref());
        let (source, destination) = match telemetry.reporter {
            // Peer metadata is more precise than the control plane.
            Reporter::Source => (workload, self.server.as_ref().or(of_endpoint).or(peer)),
            Reporter::Destination => (self.client.as_ref().or(peer), workload.or(of_endpoint)),
        };
        let tls = match telemetry.reporter {
            Reporter::Source => &state.upstream_tls,
            Reporter::Destination => &state.downstream_tls,
        };
        let [source_principal, destination_principal] = telemetry.reporter.principals(tls.as_deref());
        SeriesKey {
            reporter: telemetry.reporter,
            source,
            destination,
            service: of_cluster.or(telemetry.service.as_ref()),
            protocol: self.protocol,
            response_code: status.map_or(0, |status| status.as_u16()),
            grpc_status: self.grpc_status,
            flags: state.response_flags,
            source_principal,
            destination_principal,
        }
    }

    fn unregistered(&self, state: &StreamState) -> Option<Arc<DestinationService>> {
        let of_cluster = state.upstream_cluster.as_ref().and_then(|cluster| cluster.config().service.as_deref());
        if of_cluster.is_none() && self.telemetry.service.is_some() && !self.telemetry.host_header_fallback {
            return None;
        }
        let route_name = state.route.as_ref().map(|route| &*route.route().name);
        unregistered(of_cluster, route_name, self.host.as_ref())
    }

    /// When the last byte of the request was received.
    fn request_received_at(&self) -> Option<Instant> {
        self.info.request_completed_at().filter(|_| !self.info.asks_for_upgrade())
    }

    /// When the last byte of the request could be sent upstream.
    fn request_sent_at(&self, timing: &UpstreamTiming) -> Option<Instant> {
        Some(self.request_received_at()?.max(timing.first_upstream_tx_byte_sent?))
    }

    fn attributes<'a>(&'a self, logged: &'a LoggedResponse, state: &'a StreamState, now: Instant) -> Attributes<'a> {
        let start = self.info.start();
        let since_start = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(start));
        let timing = &state.upstream_timing;
        let response_began = timing.first_upstream_rx_byte_received.filter(|_| self.completed);
        let duration = now.saturating_duration_since(start);
        Attributes {
            response_headers: Some(&logged.headers),
            response_trailers: Some(&logged.trailers),
            response_code: self.response.as_ref().map(|response| response.status),
            request_headers_bytes: self.request_header_bytes,
            response_headers_bytes: self.response.as_ref().map_or(0, |response| response.header_bytes),
            response_trailers_bytes: header_bytes(&logged.trailers),
            emit_time: Some(self.info.start_time() + duration),
            duration: Some(duration),
            request_duration: since_start(self.request_received_at()),
            request_tx_duration: since_start(self.request_sent_at(timing)),
            response_duration: since_start(timing.first_upstream_rx_byte_received),
            response_tx_duration: response_began.map(|at| now.saturating_duration_since(at)),
            access_log_type: Some("DownstreamEnd"),
            ..state.attributes(&self.info)
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            self.observe_panic();
        } else {
            self.count_reset();
            self.observe_cancellation();
        }
        self.end();
    }
}
