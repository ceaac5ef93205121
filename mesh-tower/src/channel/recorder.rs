//! The end of a channel's request: Istio's metrics, exactly once, however it ends.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use mesh_core::{
    model::Workload,
    policy::grpc,
    telemetry::{ResponseFlags, details},
};

use crate::{
    Body, StreamInfo,
    call::Call,
    telemetry::{Reporter, RequestProtocol, RequestSample, SeriesKey, Telemetry, header_bytes},
    timer::now,
};

/// A request under way. Dropping it without a word means that the caller has given it up.
#[derive(Debug)]
pub(super) struct Recorder {
    telemetry: Arc<Telemetry>,
    /// Who answered, as it says itself.
    peer: Option<Arc<Workload>>,
    info: StreamInfo,
    protocol: RequestProtocol,
    request_header_bytes: u64,
    response: Option<(StatusCode, u64)>,
    grpc_status: Option<u32>,
    has_ended: bool,
}

impl Recorder {
    /// Begins with the request as the caller made it; its body is counted from now on.
    pub(super) fn start(telemetry: &Arc<Telemetry>, info: StreamInfo, call: &mut Call) -> Self {
        let mut recorder = Self {
            telemetry: Arc::clone(telemetry),
            peer: None,
            info,
            protocol: if call.is_grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
            request_header_bytes: 0,
            response: None,
            grpc_status: None,
            has_ended: false,
        };
        if let Some((parts, body)) = &mut call.request {
            recorder.request_header_bytes = header_bytes(&parts.headers);
            body.count(&recorder.info);
        }
        recorder
    }

    pub(super) fn info(&self) -> &StreamInfo {
        &self.info
    }

    pub(super) fn peer(&mut self, peer: Option<Arc<Workload>>) {
        self.peer = peer;
    }

    pub(super) fn response(&mut self, response: &Response<Body>) {
        self.response = Some((response.status(), header_bytes(response.headers())));
        self.grpc_status = self.status_in(response.headers());
    }

    pub(super) fn data(&mut self, bytes: usize) {
        self.info.add_bytes_sent(bytes as u64);
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = self.status_in(trailers).or(self.grpc_status);
    }

    /// The response has ended, as it should or broken off; the flags say which.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
        let state = self.info.state();
        // Known if it ended as it should; saves reading the clock again.
        let ended_at = state.upstream_timing.last_upstream_rx_byte_received.unwrap_or_else(now);
        let (status, header_bytes) = self.response.map_or((0, 0), |(status, bytes)| (status.as_u16(), bytes));
        let of_endpoint = state.upstream_host.as_ref().and_then(|endpoint| endpoint.workload());
        let of_cluster = state.upstream_cluster.as_ref().and_then(|cluster| cluster.config().service.as_ref());
        let key = SeriesKey {
            reporter: Reporter::Source,
            source: self.telemetry.workload.as_ref(),
            // What the endpoint says of itself is more than the control plane says of it.
            destination: self.peer.as_ref().or(of_endpoint),
            service: of_cluster.or(self.telemetry.service.as_ref()),
            protocol: self.protocol,
            response_code: status,
            grpc_status: self.grpc_status,
            flags: state.response_flags,
        };
        let sample = RequestSample {
            duration: ended_at.saturating_duration_since(self.info.start()),
            request_bytes: self.request_header_bytes + self.info.bytes_received(),
            response_bytes: header_bytes + self.info.bytes_sent(),
        };
        self.telemetry.istio.record(key, sample);
    }

    fn status_in(&self, headers: &HeaderMap) -> Option<u32> {
        if self.protocol == RequestProtocol::Grpc { grpc::status_of(headers) } else { None }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.has_ended {
            let mut state = self.info.state();
            state.response_flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            state.response_code_details = Some(details::DOWNSTREAM_REMOTE_DISCONNECT.into());
            drop(state);
            self.end();
        }
    }
}
