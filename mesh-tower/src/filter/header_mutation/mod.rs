//! Header mutation: changes headers of requests and responses, as [`mesh_core::filter::header_mutation`] describes. Envoy
//! `envoy.filters.http.header_mutation`.

use std::sync::Arc;

use mesh_core::{
    filter::header_mutation::{HeaderMutation, Mutation, apply},
    telemetry::{Attributes, Missing},
};

use super::{FilterFactory, FilterRequest, FilterResponse, FilterStatus, HttpFilter};
use crate::{headers::change_request, route::with_head};

/// Changes headers.
#[derive(Debug)]
pub(crate) struct HeaderMutationFilter {
    config: Arc<HeaderMutation>,
}

impl HttpFilter for HeaderMutationFilter {
    type Config = HeaderMutation;
    type State = ();

    fn new(config: &Arc<HeaderMutation>, _: &FilterFactory<'_>) -> Self {
        Self { config: Arc::clone(config) }
    }

    fn on_request<'a>(&'a self, (): &'a mut (), mut request: FilterRequest<'a>) -> FilterStatus<'a> {
        let resolved = request.resolved();
        let of_request = || self.config.in_order(resolved).map(|level| &level.request_mutations[..]);
        let of_response = || self.config.in_order(resolved).map(|level| &level.response_mutations[..]);
        let (reads_request, reads_response) = (of_request().any(has_formats), of_response().any(has_formats));
        if reads_response {
            request.keep_head();
        }
        if reads_request || reads_response {
            request.observe_route();
        }
        if of_request().all(<[_]>::is_empty) {
            return FilterStatus::Continue;
        }
        let info = request.info();
        let state = info.state();
        let known = if reads_request { state.attributes(info) } else { Attributes::default() };
        change_request(request.head_mut(), &known, |headers, attributes| {
            for mutations in of_request() {
                apply(mutations, headers, |format, headers, out| {
                    format.write(&Attributes { request_headers: Some(headers), ..*attributes }, Missing::Empty, out);
                });
            }
        });
        FilterStatus::Continue
    }

    fn on_response(&self, (): &mut (), response: FilterResponse<'_>) {
        let FilterResponse { request, response, info, resolved } = response;
        let levels = || self.config.in_order(resolved).map(|level| &level.response_mutations[..]);
        let state = info.state();
        let known = if levels().any(has_formats) { state.attributes(info) } else { Attributes::default() };
        let attributes = Attributes { response_code: Some(response.status()), ..with_head(request, &known) };
        for mutations in levels() {
            apply(mutations, response.headers_mut(), |format, headers, out| {
                format.write(&Attributes { response_headers: Some(headers), ..attributes }, Missing::Empty, out);
            });
        }
    }
}

/// Whether values have to be evaluated.
fn has_formats(mutations: &[Mutation]) -> bool {
    mutations.iter().any(Mutation::is_evaluated)
}

#[cfg(test)]
mod tests;
