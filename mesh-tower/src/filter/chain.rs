//! The filters of a connection manager, one after the other.

use std::sync::Arc;

use mesh_core::filter::{HttpFilter, ResolvedOverride};
use smallvec::SmallVec;

use super::{Filter, FilterFactory, FilterReply, FilterRequest, FilterResponse, FilterState, FilterStatus};
use crate::{
    call::{Call, StreamInfo, local_reply},
    route::{Matched, Router},
};

/// The filters of a connection manager, in configured order.
#[derive(Debug, Default)]
pub(crate) struct FilterChain(Box<[ChainedFilter]>);

#[derive(Debug)]
struct ChainedFilter {
    config: HttpFilter,
    filter: Filter,
}

/// One request on its way through a chain.
pub(crate) struct FilterRun<'c> {
    chain: &'c FilterChain,
    states: SmallVec<[FilterState; 4]>,
}

impl FilterChain {
    pub(crate) fn new(filters: &[HttpFilter], factory: &FilterFactory<'_>) -> Self {
        let chained = |config: &HttpFilter| ChainedFilter {
            filter: Filter::new(&config.config, factory),
            config: config.clone(),
        };
        Self(filters.iter().map(chained).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn start(&self) -> FilterRun<'_> {
        FilterRun { chain: self, states: self.0.iter().map(|filter| filter.filter.start()).collect() }
    }
}

impl ChainedFilter {
    /// The route's override of the filter, and whether the filter runs.
    fn resolve<'r>(&self, matched: Option<&'r Matched<'_>>) -> (Option<&'r ResolvedOverride>, bool) {
        let resolved = matched.filter(|matched| matched.route.has_filter_overrides());
        let resolved = resolved.and_then(|matched| matched.route.filter_override(matched.weighted, &self.config.name));
        (resolved, self.config.runs(resolved))
    }
}

impl FilterRun<'_> {
    /// Passes the request of `call` to the filters. The reply of the first filter that replies.
    pub(crate) async fn on_request(
        &mut self,
        call: &mut Call,
        info: &StreamInfo,
        router: &mut Router<'_>,
    ) -> Option<FilterReply> {
        for (filter, state) in self.chain.0.iter().zip(&mut self.states) {
            let mut clears_route_cache = false;
            let matched = router.matched();
            let (resolved, runs) = filter.resolve(matched);
            if !runs {
                continue;
            }
            let has_no_route = matched.is_none() && !router.is_fixed();
            let request = FilterRequest {
                call,
                info,
                matched,
                resolved,
                clears_route_cache: &mut clears_route_cache,
                has_no_route,
            };
            let reply = match filter.filter.on_request(state, request) {
                FilterStatus::Continue => None,
                FilterStatus::Reply(reply) => Some(reply),
                FilterStatus::Wait(waiting) => waiting.await,
            };
            if reply.is_some() {
                return reply;
            }
            if clears_route_cache {
                router.route_again(&call.head, info.state().dynamic_metadata());
            }
        }
        None
    }

    /// Passes the response of `call` to the filters, the last one first.
    pub(crate) fn on_response(&mut self, call: &mut Call, info: &StreamInfo, matched: Option<&Matched<'_>>) {
        let Call { head, response: Some(response), .. } = call else { return };
        for (filter, state) in self.chain.0.iter().zip(&mut self.states).rev() {
            let (resolved, runs) = filter.resolve(matched);
            if runs {
                let response = FilterResponse { request: head, response, info, resolved };
                filter.filter.on_response(state, response);
            }
        }
    }
}

impl FilterReply {
    /// Makes this the response of `call`, with the changes of the route and then those of the filter.
    pub(crate) fn respond(self, call: &mut Call, info: &StreamInfo, matched: Option<&Matched<'_>>) {
        info.state().observe_local_reply(&self.reply);
        call.respond(local_reply(self.reply, call.is_grpc()));
        if let Some(matched) = matched {
            matched.change_reply(call, info);
        }
        if let Some(response) = &mut call.response {
            response.headers_mut().extend(self.headers);
        }
    }
}

/// The chain of a single filter.
pub(super) fn single(filter: HttpFilter, factory: &FilterFactory<'_>) -> Arc<FilterChain> {
    Arc::new(FilterChain::new(&[filter], factory))
}
