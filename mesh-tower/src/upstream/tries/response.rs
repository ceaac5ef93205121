//! The response to the request, once the tries are over.

use std::{borrow::Cow, time::Instant};

use http::{StatusCode, header::CONTENT_LENGTH};
use http_body::Body as _;
use mesh_core::{
    retry::Decision,
    telemetry::{ResponseFlags, details},
};

use super::{NOTHING_TO_SEND, Tries};
use crate::{
    Body, Transport,
    call::{Call, ResponseCause, ResponseSource, Tunnelling, add_flags},
    timeout::Expired,
    timer::now,
    upgrade::is_websocket,
    upstream::{
        failure::Failure,
        guard::{GuardedBody, HeldByTunnel},
    },
};

impl<T: Transport> Tries<'_, T> {
    /// Sets the last result as the response of the call.
    pub(super) fn conclude(&mut self, call: &mut Call, result: Result<(), Failure>, decision: Decision) {
        let flags = match decision {
            Decision::LimitExceeded => ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED,
            Decision::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            Decision::Done | Decision::Retry { .. } => ResponseFlags::NONE,
        };
        match result {
            Ok(()) if call.response.is_some() => self.pass_on(call, flags),
            result => {
                let failure = result.err().unwrap_or(NOTHING_TO_SEND);
                if matches!(failure, Failure::Expired(Expired::Route)) {
                    self.exchange.counters.handle_timeout();
                }
                let reply = failure.reply(self.attempt);
                // A client that has aborted the request receives no response. One that is too slow receives the listener's.
                let is_upstreams = !matches!(failure, Failure::Expired(Expired::MaxStreamDuration));
                if is_upstreams && !self.exchange.info.is_request_aborted() {
                    self.exchange.counters.handle_response(reply.status);
                    // The HTTP status of the reply counts, even if a gRPC client receives a response with status 200.
                    self.cluster.stats().count_response(reply.status, self.origin);
                }
                self.record().response_flags.insert(flags);
                self.exchange.reply(call, reply);
                if let (Some(error), Some(response)) = (failure.error(), &mut call.response) {
                    response.extensions_mut().insert(ResponseCause::new(error.clone()));
                }
                if !is_upstreams {
                    self.exchange.info.state().response_source = Some(ResponseSource::MaxStreamDuration);
                }
            }
        }
        if let Some(response) = &mut call.response {
            add_flags(response, flags);
        }
    }

    /// Sets the endpoint's response as that of the call.
    fn pass_on(&mut self, call: &mut Call, flags: ResponseFlags) {
        let Some(response) = &mut call.response else { return };
        self.cluster.stats().count_response(response.status(), self.origin);
        self.exchange.counters.handle_response(response.status());
        let received_at = self.received_at();
        let mut details = details::VIA_UPSTREAM;
        if call.tunnelling == Tunnelling::Requested
            && is_websocket(&call.head.headers)
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
            && response.status() < StatusCode::BAD_REQUEST
        {
            // As in Envoy, the client gets the head only.
            details = details::WEBSOCKET_HANDSHAKE_UNSUCCESSFUL;
            response.headers_mut().remove(CONTENT_LENGTH);
            *response.body_mut() = Body::empty();
        }
        let has_ended = response.body().is_end_stream();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && call.tunnelling == Tunnelling::ByProgram {
            if let Some(active) = self.hand_over() {
                response.extensions_mut().insert(HeldByTunnel::from(active));
            }
        } else if has_ended {
            self.end_try();
        } else {
            let limits = std::mem::take(&mut self.limits);
            let inner = std::mem::take(response.body_mut());
            let guarded = GuardedBody::wrap(inner, self.exchange.info, limits, self.hand_over());
            *response.body_mut() = guarded;
        }
        let mut state = self.record();
        state.response_flags.insert(flags);
        state.response_source = Some(ResponseSource::Upstream);
        state.response_code_details = Some(Cow::Borrowed(details));
        state.upstream_timing.first_upstream_rx_byte_received = Some(received_at);
        state.upstream_timing.last_upstream_rx_byte_received = has_ended.then_some(received_at);
        drop(state);
        self.exchange.finish(call, received_at);
    }

    /// When the latest response was received.
    pub(super) fn received_at(&self) -> Instant {
        self.latest.received_at.unwrap_or_else(now)
    }
}
