//! Cross-origin resource sharing: responds to preflight requests and changes responses, as [`mesh_core::filter::cors`]
//! decides. Envoy `envoy.filters.http.cors`.

use std::sync::Arc;

use mesh_core::{
    filter::cors::{Cors, CorsDecision, CorsResponse, decide},
    local_reply::LocalReply,
    model::Action,
    request::RequestHead,
    rng::Rng as _,
    telemetry::Counter,
};

use super::{FilterFactory, FilterReply, FilterRequest, FilterResponse, FilterStatus, HttpFilter};
use crate::rng::ThreadRng;

/// Carries out the CORS policies of routes.
#[derive(Debug)]
pub(crate) struct CorsFilter {
    /// Envoy `http.<stat_prefix>.cors.origin_valid`.
    origin_valid: Arc<Counter>,
    /// Envoy `http.<stat_prefix>.cors.origin_invalid`.
    origin_invalid: Arc<Counter>,
}

impl HttpFilter for CorsFilter {
    type Config = Cors;
    /// The changes of the response.
    type State = Option<CorsResponse>;

    fn new(_: &Arc<Cors>, factory: &FilterFactory<'_>) -> Self {
        Self {
            origin_valid: factory.stats.counter("cors.origin_valid"),
            origin_invalid: factory.stats.counter("cors.origin_invalid"),
        }
    }

    fn on_request<'a>(&'a self, state: &'a mut Self::State, request: FilterRequest<'a>) -> FilterStatus<'a> {
        let Some(resolved) = request.resolved() else { return FilterStatus::Continue };
        // As in Envoy, whose redirects and direct responses have no CORS policy.
        if request.action().is_some_and(|action| matches!(action, Action::Redirect(_) | Action::DirectResponse(_))) {
            return FilterStatus::Continue;
        }
        let head = RequestHead::from_parts(request.head());
        let draws = [ThreadRng.next_u64(), ThreadRng.next_u64()];
        let Some(decision) = decide(&resolved.configs::<Cors>(), &head, draws) else { return FilterStatus::Continue };
        let CorsDecision { origin_allowed, preflight, response } = decision;
        if origin_allowed { &self.origin_valid } else { &self.origin_invalid }.inc();
        *state = response;
        match preflight {
            Some(headers) => FilterStatus::Reply(FilterReply { reply: LocalReply::CORS_RESPONSE, headers }),
            None => FilterStatus::Continue,
        }
    }

    fn on_response(&self, state: &mut Self::State, response: FilterResponse<'_>) {
        if let Some(changes) = state.take() {
            changes.apply(response.response.headers_mut());
        }
    }
}

#[cfg(test)]
mod tests;
