//! The end of a request: statistics, Istio's metrics and access log lines, exactly once, however it ends.

use std::{ops::DerefMut, sync::Arc, time::Instant};

use http::{HeaderMap, StatusCode, Version, request, response};
use mesh_core::{
    local_reply::{LocalReply, UpstreamReset},
    model::{DestinationService, Workload},
    policy::{
        grpc,
        survey::{HeaderSurvey, header_bytes},
    },
    telemetry::{Attributes, ResponseFlags, details},
};

use super::listener::ListenerContext;
use crate::{
    StreamInfo, StreamState, UpstreamTiming,
    peer_metadata::Introduction,
    server::ConnectionInfo,
    telemetry::{NamedHost, Reporter, RequestProtocol, RequestSample, SeriesKey, unregistered},
    timer::now,
    upgrade::{EndedBy, Tunnelled},
};

/// A request under way. Dropping it without a word means that the client has gone away, or that the service panics.
pub(super) struct Recorder {
    listener: Arc<ListenerContext>,
    connection: Arc<ConnectionInfo>,
    pub(super) info: StreamInfo,
    protocol: RequestProtocol,
    request_header_bytes: u64,
    /// The host that the request named, if that is believed.
    host: Option<NamedHost>,
    introduction: Introduction,
    /// Who answered, as it says itself.
    server: Option<Arc<Workload>>,
    response: Option<ResponseFacts>,
    grpc_status: Option<u32>,
    logged: Option<Box<LoggedResponse>>,
    ended: bool,
    /// The response went out to its end.
    completed: bool,
}

struct ResponseFacts {
    status: StatusCode,
    header_bytes: u64,
}

/// What only access logs need of the response.
#[derive(Default)]
struct LoggedResponse {
    headers: HeaderMap,
    trailers: HeaderMap,
}

impl Recorder {
    pub(super) fn start(
        listener: Arc<ListenerContext>,
        connection: Arc<ConnectionInfo>,
        info: StreamInfo,
        request: &request::Parts,
    ) -> Self {
        listener.stats.request_started(request.version);
        let survey = HeaderSurvey::of(&request.headers);
        let logged = (!listener.access_logs.is_empty()).then(Box::default);
        Self {
            info,
            protocol: if survey.is_grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
            request_header_bytes: survey.bytes,
            host: None,
            introduction: Introduction::default(),
            server: None,
            response: None,
            grpc_status: None,
            logged,
            ended: false,
            completed: false,
            listener,
            connection,
        }
    }

    /// Tells of the connection that the request came on, in `protocol`; what else is known can be added.
    pub(super) fn observe_connection(&self, protocol: Version) -> impl DerefMut<Target = StreamState> + '_ {
        let mut state = self.info.state();
        state.protocol = Some(protocol);
        state.downstream_remote_address = self.connection.remote_address;
        state.downstream_direct_remote_address = self.connection.remote_address;
        state.downstream_local_address = Some(self.connection.local_address);
        state.connection_id = Some(self.connection.id);
        state
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.protocol == RequestProtocol::Grpc
    }

    /// Takes what the client tells of itself out of the request.
    pub(super) fn receive_request(&mut self, headers: &mut HeaderMap) {
        self.introduction = self.listener.peers.receive_request(headers);
    }

    /// Takes what the server tells of itself out of the response, and tells the client of this workload instead.
    pub(super) fn exchange_peers(&mut self, headers: &mut HeaderMap) {
        self.server = self.listener.peers.receive_response(headers);
        self.listener.peers.send_response(headers, &self.introduction);
    }

    /// Keeps what metrics and access logs tell of the request, which is about to be given away.
    pub(super) fn request(&mut self, request: &request::Parts) {
        if self.listener.host_header_fallback {
            self.host = NamedHost::of(request);
        }
        if self.logged.is_some() {
            self.info.log_request(self.listener.access_logs.request_headers(), request);
        }
    }

    /// Keeps what is told of the response.
    pub(super) fn response(&mut self, response: &response::Parts) {
        self.response = Some(ResponseFacts { status: response.status, header_bytes: header_bytes(&response.headers) });
        if self.protocol == RequestProtocol::Grpc {
            self.grpc_status = grpc::status_of(&response.headers);
        }
        if let Some(logged) = &mut self.logged {
            logged.headers = self.listener.access_logs.keep_response_headers(&response.headers);
        }
    }

    pub(super) fn add_response_bytes(&mut self, bytes: usize) {
        self.info.add_bytes_sent(bytes as u64);
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.protocol == RequestProtocol::Grpc {
            self.grpc_status = grpc::status_of(trailers).or(self.grpc_status);
        }
        if let Some(logged) = &mut self.logged {
            logged.trailers = trailers.clone();
        }
    }

    /// The response went out to its end.
    pub(super) fn complete(mut self) {
        self.completed = true;
        self.end();
    }

    /// The client went away in the midst of its upload. What became of the upstream's side is a consequence.
    pub(super) fn client_left(self) {
        self.info.state().response_flags = ResponseFlags::NONE;
    }

    /// Nothing moved for too long.
    pub(super) fn idled(mut self) {
        self.listener.stats.downstream_rq_idle_timeout.inc();
        {
            let mut state = self.info.state();
            state.response_flags.insert(ResponseFlags::STREAM_IDLE_TIMEOUT);
            state.response_code_details = Some(details::STREAM_IDLE_TIMEOUT.into());
        }
        self.end();
    }

    /// The tunnel that the request has become has ended.
    pub(super) fn tunnelled(self, tunnelled: Tunnelled) {
        self.info.add_bytes_received(tunnelled.received);
        self.info.add_bytes_sent(tunnelled.sent);
        match tunnelled.ended_by {
            // That is what dropping a recorder without a word means.
            EndedBy::Downstream => {}
            EndedBy::Upstream => {
                let reset = UpstreamReset::ConnectionTermination;
                let details = details::upstream_reset_after_response_started(reset.as_str());
                self.info.state().response_code_details = Some(details.into());
                self.upstream_broke();
            }
            EndedBy::Drain => self.complete(),
        }
    }

    /// The upstream ended the response before its end.
    pub(super) fn upstream_broke(mut self) {
        self.note_upstream_end();
        self.end();
    }

    fn note_upstream_end(&self) {
        let mut state = self.info.state();
        let is_duration = state.response_code_details.as_deref() == Some(details::MAX_DURATION_TIMEOUT);
        if state.response_flags.is_empty() && !is_duration {
            state.response_flags = ResponseFlags::UPSTREAM_CONNECTION_TERMINATION;
        }
    }

    /// The program's own service panics. What its client sees is a connection that ends, so it counts as that of an
    /// upstream that ends without an answer.
    fn note_panic(&mut self) {
        self.note_upstream_end();
        if self.response.is_none() {
            let reset = LocalReply::upstream_reset(UpstreamReset::ConnectionTermination, "", false);
            self.response = Some(ResponseFacts { status: reset.status, header_bytes: 0 });
            self.info.state().response_code_details = Some(reset.details);
        }
    }

    fn end(&mut self) {
        self.ended = true;
        let now = now();
        let duration = now.saturating_duration_since(self.info.start());
        let listener = &*self.listener;
        let state = self.info.state();
        let status = self.response.as_ref().map(|response| response.status);
        if let Some(status) = status {
            listener.stats.response(status);
            listener.http_stats.response(status);
        }
        if state.response_flags.intersects(ResponseFlags::NO_ROUTE_FOUND) {
            listener.stats.no_route.inc();
        } else if state.response_flags.intersects(ResponseFlags::NO_CLUSTER_FOUND) {
            listener.stats.no_cluster.inc();
        }
        if state.response_code_details.as_deref() == Some(details::MAX_DURATION_TIMEOUT) {
            listener.stats.downstream_rq_max_duration_reached.inc();
        }
        listener.stats.downstream_rq_active.dec();
        listener.stats.downstream_rq_time.observe_thousandths(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        self.connection.request_ended(now);
        let sample = RequestSample {
            duration,
            request_bytes: self.request_header_bytes + self.info.bytes_received(),
            response_bytes: self.response.as_ref().map_or(0, |response| response.header_bytes) + self.info.bytes_sent(),
        };
        let unregistered = self.unregistered(&state);
        let key = self.series_key(&state, status);
        listener.istio.record(SeriesKey { service: unregistered.as_ref().or(key.service), ..key }, sample);
        if let Some(logged) = &self.logged {
            listener.access_logs.write(&self.attributes(logged, &state, now));
        }
    }

    fn series_key<'a>(&'a self, state: &'a StreamState, status: Option<StatusCode>) -> SeriesKey<'a> {
        let listener = &*self.listener;
        let of_endpoint = state.upstream_host.as_ref().and_then(|endpoint| endpoint.workload());
        let of_cluster = state.upstream_cluster.as_ref().and_then(|cluster| cluster.config().service.as_ref());
        let (source, destination) = match listener.reporter {
            // What the endpoint says of itself is more than the control plane says of it.
            Reporter::Source => (listener.workload.as_ref(), self.server.as_ref().or(of_endpoint)),
            Reporter::Destination => (self.introduction.client.as_ref(), listener.workload.as_ref().or(of_endpoint)),
        };
        SeriesKey {
            reporter: listener.reporter,
            source,
            destination,
            service: of_cluster.or(listener.service.as_ref()),
            protocol: self.protocol,
            response_code: status.map_or(0, |status| status.as_u16()),
            grpc_status: self.grpc_status,
            flags: state.response_flags,
        }
    }

    fn unregistered(&self, state: &StreamState) -> Option<Arc<DestinationService>> {
        let of_cluster = state.upstream_cluster.as_ref().and_then(|cluster| cluster.config().service.as_deref());
        let route_name = state.route.as_ref().map(|route| &*route.route().name);
        unregistered(of_cluster, route_name, self.host.as_ref())
    }

    /// When the last byte of the request was there.
    fn request_received_at(&self) -> Option<Instant> {
        self.info.request_completed_at().filter(|_| !self.info.asks_for_upgrade())
    }

    /// When the last byte of the request could go upstream.
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
            self.note_panic();
        } else {
            self.listener.stats.downstream_rq_rx_reset.inc();
            let mut state = self.info.state();
            // A stream of a connection that goes on was reset; HTTP/1 knows no other end than that of the connection.
            let (flag, details) = if state.protocol == Some(Version::HTTP_2) && self.connection.is_open() {
                (ResponseFlags::DOWNSTREAM_REMOTE_RESET, details::HTTP2_REMOTE_RESET)
            } else {
                (ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION, details::DOWNSTREAM_REMOTE_DISCONNECT)
            };
            state.response_flags.insert(flag);
            state.response_code_details = Some(details.into());
        }
        self.end();
    }
}
