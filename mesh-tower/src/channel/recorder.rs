//! The end of a channel's request: Istio's metrics, exactly once, however it ends.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use mesh_core::{
    model::Workload,
    policy::{grpc, survey::header_bytes},
    telemetry::{ResponseFlags, details},
};

use crate::{
    Body, StreamInfo, StreamState,
    call::Call,
    telemetry::{Reporter, RequestProtocol, RequestSample, SeriesKey, Telemetry},
    timer::now,
};

/// Records a request at its end. Dropping it before means that the caller has given the request up.
///
/// While the channel waits for the answer it borrows the telemetry (`T`); for a body that goes on afterwards it is
/// [detached](Recorder::detach).
#[derive(Debug)]
pub(super) struct Recorder<T: AsRef<Telemetry> = Arc<Telemetry>> {
    telemetry: T,
    /// Gone once it has been recorded.
    request: Option<UnderWay>,
}

/// What is known of a request under way.
#[derive(Debug)]
struct UnderWay {
    info: StreamInfo,
    /// Who answered, as it says itself.
    peer: Option<Arc<Workload>>,
    protocol: RequestProtocol,
    request_header_bytes: u64,
    response: Option<(StatusCode, u64)>,
    grpc_status: Option<u32>,
}

impl Recorder<&Arc<Telemetry>> {
    /// The same, for as long as it takes.
    pub(super) fn detach(mut self) -> Recorder {
        Recorder { telemetry: Arc::clone(self.telemetry), request: self.request.take() }
    }
}

impl<T: AsRef<Telemetry>> Recorder<T> {
    /// Begins with the request as the caller made it; its body is counted from now on.
    pub(super) fn start(telemetry: T, info: StreamInfo, call: &mut Call) -> Self {
        if let Some((_, body)) = &mut call.request {
            body.count(&info);
        }
        let request_header_bytes = call.survey.bytes;
        let protocol = if call.survey.is_grpc { RequestProtocol::Grpc } else { RequestProtocol::Http };
        let request = UnderWay { info, peer: None, protocol, request_header_bytes, response: None, grpc_status: None };
        Self { telemetry, request: Some(request) }
    }

    pub(super) fn info(&self) -> &StreamInfo {
        &self.request.as_ref().expect("nobody asks after the end").info
    }

    pub(super) fn peer(&mut self, peer: Option<Arc<Workload>>) {
        if let Some(request) = &mut self.request {
            request.peer = peer;
        }
    }

    pub(super) fn response(&mut self, response: &Response<Body>) {
        if let Some(request) = &mut self.request {
            request.response = Some((response.status(), header_bytes(response.headers())));
            request.grpc_status = request.status_in(response.headers());
        }
    }

    pub(super) fn data(&mut self, bytes: usize) {
        if let Some(request) = &self.request {
            request.info.add_bytes_sent(bytes as u64);
        }
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(request) = &mut self.request {
            request.grpc_status = request.status_in(trailers).or(request.grpc_status);
        }
    }

    /// The response has ended, as it should or broken off; the flags say which.
    pub(super) fn end(&mut self) {
        if let Some(request) = self.request.take() {
            request.record(self.telemetry.as_ref());
        }
    }
}

impl UnderWay {
    fn record(mut self, telemetry: &Telemetry) {
        let (start, received, sent) = (self.info.start(), self.info.bytes_received(), self.info.bytes_sent());
        let guard;
        let state: &StreamState = match self.info.state_at_last() {
            Some(state) => state,
            None => {
                guard = self.info.state();
                &guard
            }
        };
        // Known if it ended as it should; saves reading the clock again.
        let ended_at = state.upstream_timing.last_upstream_rx_byte_received.unwrap_or_else(now);
        let (status, header_bytes) = self.response.map_or((0, 0), |(status, bytes)| (status.as_u16(), bytes));
        let of_endpoint = state.upstream_host.as_ref().and_then(|endpoint| endpoint.workload());
        let of_cluster = state.upstream_cluster.as_ref().and_then(|cluster| cluster.config().service.as_ref());
        let key = SeriesKey {
            reporter: Reporter::Source,
            source: telemetry.workload.as_ref(),
            // What the endpoint says of itself is more than the control plane says of it.
            destination: self.peer.as_ref().or(of_endpoint),
            service: of_cluster.or(telemetry.service.as_ref()),
            protocol: self.protocol,
            response_code: status,
            grpc_status: self.grpc_status,
            flags: state.response_flags,
        };
        let sample = RequestSample {
            duration: ended_at.saturating_duration_since(start),
            request_bytes: self.request_header_bytes + received,
            response_bytes: header_bytes + sent,
        };
        telemetry.istio.record(key, sample);
    }

    fn status_in(&self, headers: &HeaderMap) -> Option<u32> {
        if self.protocol == RequestProtocol::Grpc { grpc::status_of(headers) } else { None }
    }
}

impl<T: AsRef<Telemetry>> Drop for Recorder<T> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            {
                let mut state = request.info.state();
                state.response_flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
                state.response_code_details = Some(details::DOWNSTREAM_REMOTE_DISCONNECT.into());
            }
            request.record(self.telemetry.as_ref());
        }
    }
}
