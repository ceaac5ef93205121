//! The end of a request: statistics, Istio's metrics and access log lines, exactly once, however it ends.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header::HOST, request, response, uri::PathAndQuery};
use mesh_core::{
    policy::{forwarded::Client, grpc},
    telemetry::{Attributes, ResponseFlags, details},
};

use super::listener::ListenerContext;
use crate::{
    StreamInfo, StreamState,
    server::ConnectionInfo,
    telemetry::{Reporter, RequestProtocol, RequestSample, SeriesKey, header_bytes},
};

/// The present moment; virtual in tests with paused time.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A request under way. Dropping it without a word means that the client has gone away.
pub(super) struct Recorder {
    listener: Arc<ListenerContext>,
    connection: Arc<ConnectionInfo>,
    pub(super) info: StreamInfo,
    version: Version,
    protocol: RequestProtocol,
    request_header_bytes: u64,
    response: Option<ResponseFacts>,
    grpc_status: Option<u32>,
    logged: Option<Box<Logged>>,
    ended: bool,
}

struct ResponseFacts {
    status: StatusCode,
    header_bytes: u64,
}

/// What only access logs need.
#[derive(Default)]
struct Logged {
    method: Option<Method>,
    authority: Option<HeaderValue>,
    path: Option<PathAndQuery>,
    client: Option<Client>,
    request_headers: HeaderMap,
    response_headers: HeaderMap,
    response_trailers: HeaderMap,
}

impl Recorder {
    pub(super) fn start(
        listener: Arc<ListenerContext>,
        connection: Arc<ConnectionInfo>,
        info: StreamInfo,
        request: &request::Parts,
    ) -> Self {
        listener.stats.request_started(request.version);
        let is_grpc = grpc::is_grpc_request(&request.headers);
        let logged = (!listener.access_logs.is_empty()).then(Box::default);
        Self {
            info,
            version: request.version,
            protocol: if is_grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
            request_header_bytes: header_bytes(&request.headers),
            response: None,
            grpc_status: None,
            logged,
            ended: false,
            listener,
            connection,
        }
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.protocol == RequestProtocol::Grpc
    }

    /// Keeps what access logs tell of the request, which is about to be given away.
    pub(super) fn request(&mut self, request: &request::Parts, client: Option<Client>) {
        let Some(logged) = &mut self.logged else { return };
        logged.method = Some(request.method.clone());
        logged.path = request.uri.path_and_query().cloned();
        logged.authority = match request.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => request.headers.get(HOST).cloned(),
        };
        logged.client = client;
        logged.request_headers = self.listener.access_logs.keep_request_headers(&request.headers);
    }

    /// Keeps what is told of the response.
    pub(super) fn response(&mut self, response: &response::Parts) {
        self.response = Some(ResponseFacts { status: response.status, header_bytes: header_bytes(&response.headers) });
        if self.protocol == RequestProtocol::Grpc {
            self.grpc_status = grpc::status_of(&response.headers);
        }
        if let Some(logged) = &mut self.logged {
            logged.response_headers = self.listener.access_logs.keep_response_headers(&response.headers);
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
            logged.response_trailers = trailers.clone();
        }
    }

    /// The response went out to its end.
    pub(super) fn complete(mut self) {
        self.end();
    }

    /// The upstream ended the response before its end.
    pub(super) fn upstream_broke(mut self) {
        {
            let mut state = self.info.state();
            if state.response_flags.is_empty() {
                state.response_flags = ResponseFlags::UPSTREAM_CONNECTION_TERMINATION;
            }
        }
        self.end();
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
            listener.stats.no_route.increment();
        } else if state.response_flags.intersects(ResponseFlags::NO_CLUSTER_FOUND) {
            listener.stats.no_cluster.increment();
        }
        listener.stats.downstream_rq_active.decrement();
        listener.stats.downstream_rq_time.observe_thousandths(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        self.connection.request_ended(now);
        let sample = RequestSample {
            duration,
            request_bytes: self.request_header_bytes + self.info.bytes_received(),
            response_bytes: self.response.as_ref().map_or(0, |response| response.header_bytes) + self.info.bytes_sent(),
        };
        listener.istio.record(self.series_key(&state, status), sample);
        if let Some(logged) = &self.logged {
            listener.access_logs.write(&self.attributes(logged, &state, now));
        }
    }

    fn series_key(&self, state: &StreamState, status: Option<StatusCode>) -> SeriesKey {
        let listener = &*self.listener;
        let of_endpoint = state.upstream_host.as_ref().and_then(|endpoint| endpoint.workload()).cloned();
        let of_cluster = state.upstream_cluster.as_ref().and_then(|cluster| cluster.config().service.clone());
        let (source, destination) = match listener.reporter {
            Reporter::Source => (listener.workload.clone(), of_endpoint),
            Reporter::Destination => (None, listener.workload.clone().or(of_endpoint)),
        };
        SeriesKey {
            reporter: listener.reporter,
            source,
            destination,
            service: of_cluster.or_else(|| listener.service.clone()),
            protocol: self.protocol,
            response_code: status.map_or(0, |status| status.as_u16()),
            grpc_status: self.grpc_status,
            flags: state.response_flags,
        }
    }

    fn attributes<'a>(&'a self, logged: &'a Logged, state: &'a StreamState, now: Instant) -> Attributes<'a> {
        let start = self.info.start();
        let since_start = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(start));
        let timing = &state.upstream_timing;
        let peer = self.connection.remote_address;
        let client = logged.client.map(|client| client.address).filter(|address| *address != peer.ip());
        let endpoint = state.upstream_host.as_deref();
        let cluster = state.upstream_cluster.as_deref().map(|cluster| &**cluster.config());
        Attributes {
            method: logged.method.as_ref(),
            scheme: Some("http"),
            authority: logged.authority.as_ref().and_then(|authority| authority.to_str().ok()),
            path: logged.path.as_ref().map(PathAndQuery::as_str),
            request_headers: Some(&logged.request_headers),
            response_headers: Some(&logged.response_headers),
            response_trailers: Some(&logged.response_trailers),
            protocol: Some(self.version),
            response_code: self.response.as_ref().map(|response| response.status),
            response_code_details: state.response_code_details.as_deref(),
            response_flags: state.response_flags,
            bytes_received: self.info.bytes_received(),
            bytes_sent: self.info.bytes_sent(),
            request_headers_bytes: self.request_header_bytes,
            response_headers_bytes: self.response.as_ref().map_or(0, |response| response.header_bytes),
            response_trailers_bytes: header_bytes(&logged.response_trailers),
            start_time: Some(self.info.start_time()),
            emit_time: Some(self.info.start_time() + now.saturating_duration_since(start)),
            duration: Some(now.saturating_duration_since(start)),
            request_tx_duration: since_start(timing.last_upstream_tx_byte_sent),
            response_duration: since_start(timing.first_upstream_rx_byte_received),
            response_tx_duration: timing.first_upstream_rx_byte_received.map(|at| now.saturating_duration_since(at)),
            downstream_remote_address: Some(client.map_or(peer, |address| (address, 0).into())),
            downstream_direct_remote_address: Some(peer),
            downstream_local_address: Some(self.connection.local_address),
            connection_id: Some(self.connection.id),
            upstream_host: endpoint.map(|endpoint| endpoint.address()),
            upstream_host_name: endpoint.and_then(|endpoint| endpoint.hostname()).map(|name| &**name),
            upstream_remote_address: endpoint.map(|endpoint| endpoint.address()),
            upstream_local_address: state.upstream_local_address,
            upstream_cluster: cluster.map(|cluster| &*cluster.stat_name),
            upstream_cluster_raw: cluster.map(|cluster| cluster.name.as_str()),
            upstream_request_attempt_count: state.attempt_count,
            upstream_transport_failure_reason: state.upstream_transport_failure_reason.as_deref(),
            route_name: state.route.as_ref().map(|route| &*route.route().name).filter(|name| !name.is_empty()),
            virtual_host_name: state.route.as_ref().map(|route| &*route.virtual_host().name),
            ..Attributes::default()
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.listener.stats.downstream_rq_rx_reset.increment();
        {
            let mut state = self.info.state();
            state.response_flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            state.response_code_details = Some(details::DOWNSTREAM_REMOTE_DISCONNECT.into());
        }
        self.end();
    }
}
