//! A request on the upstream side, and its response.

use std::time::Instant;

use http::{HeaderName, HeaderValue, Response, request::Parts};
use mesh_core::{
    local_reply::LocalReply, policy::header_mutation::Changes, request::RequestHead, route::RequestCounters,
};

use super::{UpstreamOptions, request::X_ENVOY_ATTEMPT_COUNT};
use crate::{
    Body,
    call::{Call, StreamInfo},
    route::{Matched, Route, change_response},
};

const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// A request and its route.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) info: &'a StreamInfo,
    pub(super) options: UpstreamOptions,
    pub(super) route: &'a Route,
    /// Position of the selected cluster in the route's weighted clusters.
    pub(super) weighted: Option<usize>,
    pub(super) is_grpc: bool,
    /// Counters of the virtual cluster and of the route.
    pub(super) counters: RequestCounters<'a>,
}

#[inline(never)]
fn counters<'a>(route: &'a Route, parts: &Parts) -> RequestCounters<'a> {
    route.counters(&RequestHead::from_parts(parts))
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        info: &'a StreamInfo,
        options: UpstreamOptions,
        matched: &'a Matched<'_>,
        head: &Parts,
        is_grpc: bool,
    ) -> Self {
        let route = &*matched.route;
        let counters = if route.has_counters() { counters(route, head) } else { RequestCounters::default() };
        Self { info, options, route, weighted: matched.weighted, is_grpc, counters }
    }

    /// Whether response headers are evaluated from the request that was sent.
    pub(super) fn reads_request_later(&self) -> bool {
        self.route.response_changes() == Changes::Evaluated
    }

    /// Responds with a local reply.
    pub(super) fn reply(&self, call: &mut Call, mut reply: LocalReply) {
        reply.envoy_header = reply.envoy_header.filter(|_| self.options.envoy_headers);
        call.reply(self.info, reply);
        self.change_headers(call);
    }

    /// Completes the endpoint's response, which was received at `received_at`.
    pub(super) fn finish(&self, call: &mut Call, received_at: Instant) {
        if self.options.envoy_headers
            && !self.info.asks_for_upgrade()
            && let Some(response) = &mut call.response
            // A response before the end of the request has no service time.
            && let Some(since) = self.info.request_completed_at()
        {
            let service_time = received_at.saturating_duration_since(since).as_millis();
            let service_time = u64::try_from(service_time).unwrap_or(u64::MAX);
            response.headers_mut().insert(X_ENVOY_UPSTREAM_SERVICE_TIME, HeaderValue::from(service_time));
        }
        self.change_headers(call);
    }

    fn change_headers(&self, call: &mut Call) {
        if self.route.include_attempt_count_in_response() || self.route.response_changes() != Changes::None {
            let Call { head, response, .. } = call;
            if let Some(response) = response {
                self.change_present(head, response);
            }
        }
    }

    #[inline(never)]
    fn change_present(&self, head: &Parts, response: &mut Response<Body>) {
        if self.route.include_attempt_count_in_response() {
            let attempts = self.info.state().attempt_count;
            if attempts > 0 {
                response.headers_mut().insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(attempts));
            }
        }
        let status = Some(response.status());
        change_response(self.route, self.weighted, self.info, (head, response), status);
    }
}
