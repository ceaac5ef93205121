//! The end of a channel's request: Istio's metrics, exactly once, however it ends.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode, request};
use mesh_core::{
    model::{DestinationService, Workload},
    policy::grpc,
    telemetry::{ResponseFlags, details},
};

use crate::{
    Body, StreamInfo,
    telemetry::{IstioMetrics, Reporter, RequestProtocol, RequestSample, SeriesKey, Telemetry, header_bytes},
    timer::now,
};

/// A request under way. Dropping it without a word means that the caller has given it up.
#[derive(Debug)]
pub(super) struct Recorder {
    istio: IstioMetrics,
    workload: Option<Arc<Workload>>,
    target: Option<Arc<DestinationService>>,
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
    pub(super) fn start(telemetry: &Telemetry, info: &StreamInfo, request: &request::Parts) -> Self {
        let is_grpc = grpc::is_grpc_request(&request.headers);
        Self {
            istio: telemetry.istio.clone(),
            workload: telemetry.workload.clone(),
            target: telemetry.service.clone(),
            peer: None,
            info: info.clone(),
            protocol: if is_grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
            request_header_bytes: header_bytes(&request.headers),
            response: None,
            grpc_status: None,
            has_ended: false,
        }
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
        let (status, header_bytes) = self.response.map_or((0, 0), |(status, bytes)| (status.as_u16(), bytes));
        let of_endpoint = state.upstream_host.as_ref().and_then(|endpoint| endpoint.workload());
        let of_cluster = state.upstream_cluster.as_ref().and_then(|cluster| cluster.config().service.as_ref());
        let key = SeriesKey {
            reporter: Reporter::Source,
            source: self.workload.as_ref(),
            // What the endpoint says of itself is more than the control plane says of it.
            destination: self.peer.as_ref().or(of_endpoint),
            service: of_cluster.or(self.target.as_ref()),
            protocol: self.protocol,
            response_code: status,
            grpc_status: self.grpc_status,
            flags: state.response_flags,
        };
        let sample = RequestSample {
            duration: now().saturating_duration_since(self.info.start()),
            request_bytes: self.request_header_bytes + self.info.bytes_received(),
            response_bytes: header_bytes + self.info.bytes_sent(),
        };
        self.istio.record(key, sample);
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
