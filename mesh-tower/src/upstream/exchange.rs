//! What belongs to one request on its way through the upstream side, and the answers it may get.

use std::time::Instant;

use http::{HeaderName, Response, request::Parts};
use mesh_core::{
    local_reply::LocalReply,
    policy::header_mutation::{self, Changes},
    request::RequestHead,
    route::RequestCounters,
    telemetry::Attributes,
};
use parking_lot::Mutex;

use super::{UpstreamOptions, request::X_ENVOY_ATTEMPT_COUNT};
use crate::{Body, StreamInfo, header_number::header_number, headers::head_of, route::Route};

const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// One request and its route.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) info: &'a StreamInfo,
    pub(super) options: UpstreamOptions,
    pub(super) route: &'a Route,
    /// Position of the chosen cluster in the route's weighted clusters.
    pub(super) weighted: Option<usize>,
    pub(super) is_grpc: bool,
    /// What virtual cluster and route count.
    pub(super) counters: RequestCounters<'a>,
    /// The head of the request as it was sent last, if response headers are made of it.
    request: Mutex<Option<Box<Parts>>>,
}

#[inline(never)]
fn counters<'a>(route: &'a Route, parts: &Parts) -> RequestCounters<'a> {
    route.counters(&RequestHead::from_parts(parts))
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        info: &'a StreamInfo,
        options: UpstreamOptions,
        (route, weighted): (&'a Route, Option<usize>),
        parts: &Parts,
        is_grpc: bool,
    ) -> Self {
        let counters = if route.has_counters() { counters(route, parts) } else { RequestCounters::default() };
        Self { info, options, route, weighted, is_grpc, counters, request: Mutex::default() }
    }

    /// Keeps what response headers may tell of the request, as it is now.
    pub(super) fn observe_request(&self, parts: &Parts) {
        if self.route.response_changes() == Changes::Evaluated {
            *self.request.lock() = Some(Box::new(head_of(parts)));
        }
    }

    /// An answer of the mesh's own.
    pub(super) fn reply(&self, reply: LocalReply) -> Response<Body> {
        let mut state = self.info.state();
        state.response_flags.insert(reply.flags);
        state.response_code_details = Some(reply.details.clone());
        drop(state);
        let mut response = reply.into_response(self.is_grpc).map(Body::from);
        self.change_headers(&mut response);
        response
    }

    /// Makes the endpoint's answer, which came at `received_at`, what is passed on.
    pub(super) fn finish(&self, response: &mut Response<Body>, received_at: Instant) {
        // An answer before the end of the request tells nothing of how long it took.
        if self.options.envoy_headers
            && !self.info.asks_for_upgrade()
            && let Some(since) = self.info.request_completed_at()
        {
            let service_time = received_at.saturating_duration_since(since);
            let milliseconds = service_time.as_secs().saturating_mul(1_000) + u64::from(service_time.subsec_millis());
            response.headers_mut().insert(X_ENVOY_UPSTREAM_SERVICE_TIME, header_number(milliseconds));
        }
        self.change_headers(response);
    }

    fn change_headers(&self, response: &mut Response<Body>) {
        if self.route.include_attempt_count_in_response() || self.route.response_changes() != Changes::None {
            self.change_present(response);
        }
    }

    #[inline(never)]
    fn change_present(&self, response: &mut Response<Body>) {
        if self.route.include_attempt_count_in_response() {
            let attempts = self.info.state().attempt_count;
            if attempts > 0 {
                response.headers_mut().insert(X_ENVOY_ATTEMPT_COUNT, header_number(u64::from(attempts)));
            }
        }
        if self.route.response_changes() != Changes::None {
            let levels = self.route.response_headers(self.weighted);
            let status = response.status();
            self.with_attributes(|attributes| {
                let attributes = Attributes { response_code: Some(status), ..*attributes };
                header_mutation::apply_to_response(levels, response.headers_mut(), &attributes);
            });
        }
    }

    /// What is known by now, for values of headers.
    pub(super) fn with_attributes<T>(&self, read: impl FnOnce(&Attributes<'_>) -> T) -> T {
        let state = self.info.state();
        let request = self.request.lock();
        let head = request.as_deref().map(RequestHead::from_parts);
        let known = state.attributes(self.info);
        let attributes = match head {
            Some(head) => Attributes {
                method: Some(head.method),
                scheme: Some(head.scheme()),
                authority: Some(head.authority),
                path: Some(head.path_and_query),
                request_headers: Some(head.headers),
                ..known
            },
            None => known,
        };
        read(&attributes)
    }
}
