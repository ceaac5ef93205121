//! The HTTP filters: what they do with requests and responses, in configured order.
//!
//! ```text
//! request  ──► filter 1 ──► filter 2 ──► … ──► router (direct response, upstream, the program's service)
//! response ◄── filter 1 ◄── filter 2 ◄── … ◄──┘
//! ```
//!
//! A filter is a decision of [`mesh_core::filter`], carried out: it sees the request and may change it, answer in its place,
//! wait, leave metadata for later filters and let the request be routed again; on the way back it sees the response. A reply
//! of a filter passes all filters on the way back, as in Envoy.
//!
//! Each filter is one file or folder, and one line in the table below. The states that filters keep for a request lie in
//! the request's future, so only a filter that waits allocates.

mod chain;
mod cors;
pub mod fault;
mod header_mutation;
mod layer;

use std::{fmt, pin::Pin, sync::Arc};

use http::{HeaderMap, Response, request::Parts};
use mesh_core::{
    filter::{Filter as FilterKind, FilterConfig, ResolvedOverride},
    local_reply::LocalReply,
    model::{Action, ClusterName},
};

pub(crate) use chain::{FilterChain, FilterRun};
pub use layer::FilterLayer;

use crate::{
    Body,
    call::{Call, StreamInfo},
    route::Matched,
    telemetry::HttpStats,
    timer::Timers,
};

/// Makes the types that run every filter. Each line is the name that [`FilterConfig`] has for it, and what runs it.
macro_rules! filters {
    ($($name:ident($filter:ty)),* $(,)?) => {
        /// A filter, ready to run.
        #[derive(Debug)]
        enum Filter {
            $($name($filter),)*
        }

        /// What a filter keeps of one request.
        enum FilterState {
            $($name(<$filter as HttpFilter>::State),)*
        }

        impl Filter {
            fn new(config: &FilterConfig, factory: &FilterFactory<'_>) -> Self {
                match config {
                    $(FilterConfig::$name(config) => Self::$name(<$filter>::new(config, factory)),)*
                }
            }

            fn start(&self) -> FilterState {
                match self {
                    $(Self::$name(_) => FilterState::$name(Default::default()),)*
                }
            }

            fn on_request<'a>(&'a self, state: &'a mut FilterState, request: FilterRequest<'a>) -> FilterStatus<'a> {
                match (self, state) {
                    $((Self::$name(filter), FilterState::$name(state)) => filter.on_request(state, request),)*
                    // A filter is given the state that it has made.
                    _ => FilterStatus::Continue,
                }
            }

            fn on_response(&self, state: &mut FilterState, response: FilterResponse<'_>) {
                match (self, state) {
                    $((Self::$name(filter), FilterState::$name(state)) => filter.on_response(state, response),)*
                    _ => {}
                }
            }
        }
    };
}

filters! {
    Fault(fault::FaultFilter),
    Cors(cors::CorsFilter),
    HeaderMutation(header_mutation::HeaderMutationFilter),
}

/// What a filter does.
pub(crate) trait HttpFilter: fmt::Debug + Send + Sync + Sized {
    /// Its configuration in a chain.
    type Config: FilterKind;

    /// What it keeps of a request until the response.
    type State: Default + Send;

    /// The filter of a chain.
    fn new(config: &Arc<Self::Config>, factory: &FilterFactory<'_>) -> Self;

    /// Sees a request before it is sent on.
    fn on_request<'a>(&'a self, state: &'a mut Self::State, request: FilterRequest<'a>) -> FilterStatus<'a>;

    /// Sees the response before it is passed on, also that of a request which an earlier filter has answered: then `state`
    /// is the default.
    fn on_response(&self, _state: &mut Self::State, _response: FilterResponse<'_>) {}
}

/// What a filter is made with, besides its configuration.
#[derive(Debug)]
pub(crate) struct FilterFactory<'a> {
    /// Statistics of the connection manager, among which a filter registers its own.
    pub(crate) stats: &'a HttpStats,
    pub(crate) timers: &'a Timers,
}

/// What becomes of a request after a filter has seen it.
pub(crate) enum FilterStatus<'a> {
    /// It goes on.
    Continue,
    /// It is answered.
    Reply(FilterReply),
    /// It waits, and then goes on (`None`) or is answered.
    Wait(Pin<Box<dyn Future<Output = Option<FilterReply>> + Send + 'a>>),
}

/// What a filter answers in place of an endpoint.
#[derive(Debug)]
pub(crate) struct FilterReply {
    pub(crate) reply: LocalReply,
    /// Headers of the response beside those of the reply.
    pub(crate) headers: HeaderMap,
}

impl From<LocalReply> for FilterReply {
    fn from(reply: LocalReply) -> Self {
        Self { reply, headers: HeaderMap::new() }
    }
}

/// A request as a filter sees it.
pub(crate) struct FilterRequest<'a> {
    call: &'a mut Call,
    info: &'a StreamInfo,
    matched: Option<&'a Matched<'a>>,
    resolved: Option<&'a ResolvedOverride>,
    clears_route_cache: &'a mut bool,
}

#[expect(dead_code, reason = "what filters may do; those that do it are separate files")]
impl<'a> FilterRequest<'a> {
    pub(crate) fn head(&self) -> &Parts {
        &self.call.head
    }

    pub(crate) fn head_mut(&mut self) -> &mut Parts {
        &mut self.call.head
    }

    /// The body, which can be replaced, such as by one that sees the frames of this one.
    pub(crate) fn body_mut(&mut self) -> &mut Option<Body> {
        &mut self.call.body
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.call.is_grpc()
    }

    /// Keeps the head for the response, although the request is sent.
    pub(crate) fn keep_head(&mut self) {
        self.call.keep_head();
    }

    pub(crate) fn info(&self) -> &'a StreamInfo {
        self.info
    }

    /// What the route does with the request; `None` if there is no route.
    pub(crate) fn action(&self) -> Option<&'a Action> {
        Some(&self.matched?.route.route().action)
    }

    /// Keeps the route for values that name it.
    pub(crate) fn observe_route(&self) {
        if let Some(matched) = self.matched {
            self.info.state().observe_route(|| matched.route.to_handle());
        }
    }

    /// The name of the cluster that the request is routed to.
    pub(crate) fn cluster_name(&self) -> Option<&ClusterName> {
        self.matched?.cluster_name()
    }

    /// What the route says about this filter.
    pub(crate) fn resolved(&self) -> Option<&'a ResolvedOverride> {
        self.resolved
    }

    /// Routes the request again once this filter has seen it, because what it has changed matters for that. Envoy
    /// `clearRouteCache`.
    pub(crate) fn clear_route_cache(&mut self) {
        *self.clears_route_cache = true;
    }
}

/// A response as a filter sees it.
pub(crate) struct FilterResponse<'a> {
    /// The request's head; empty if no filter has kept it and the request was sent.
    pub(crate) request: &'a Parts,
    pub(crate) response: &'a mut Response<Body>,
    pub(crate) info: &'a StreamInfo,
    /// What the route says about this filter.
    pub(crate) resolved: Option<&'a ResolvedOverride>,
}

impl fmt::Debug for FilterStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Reply(reply) => f.debug_tuple("Reply").field(reply).finish(),
            Self::Wait(_) => f.write_str("Wait"),
        }
    }
}

/// The most specific configuration of a filter that is `own` unless a route says otherwise.
pub(crate) fn most_specific<'a, F>(resolved: Option<&'a ResolvedOverride>, own: &'a Arc<F>) -> &'a Arc<F>
where
    F: FilterKind<PerRoute = F>,
{
    resolved.and_then(ResolvedOverride::most_specific::<F>).unwrap_or(own)
}
