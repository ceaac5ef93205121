//! The HTTP filters: what they do with requests and responses, in configured order.
//!
//! ```text
//! request  ──► filter 1 ──► filter 2 ──► … ──► router (direct response, upstream, the program's service)
//! response ◄── filter 1 ◄── filter 2 ◄── … ◄──┘
//! ```
//!
//! A filter carries out a decision of [`mesh_core::filter`]. It may change the request, reply to it, wait, leave metadata for
//! later filters, and have the request routed again; then it may change the response. A reply of a filter passes all
//! filters as a response, as in Envoy.
//!
//! Each filter is one file or folder, and one line in the table below. The states of filters are part of the request's
//! future, so only a filter that waits allocates.

mod chain;
mod cors;
pub(crate) mod ext_authz;
pub mod fault;
mod header_mutation;
pub(crate) mod jwt_authn;
mod layer;
pub(crate) mod rbac;

use std::{fmt, pin::Pin, sync::Arc};

use http::{HeaderMap, Response, request::Parts};
use mesh_core::{
    cluster::ClusterState,
    filter::{Filter as FilterKind, FilterConfig, ResolvedOverride},
    local_reply::LocalReply,
    model::{Action, ClusterName, Metadata},
};

pub(crate) use chain::{FilterChain, FilterRun};
pub use ext_authz::{Authorizer, AuthorizerLayer};
pub use layer::FilterLayer;

use crate::{
    Body,
    call::{Call, StreamInfo},
    cluster_client::{ClientOptions, ClusterClient, ClusterClients, NoCluster},
    route::Matched,
    telemetry::{HttpStats, LogFiles},
};

/// Makes the types that run every filter. Each line is the variant of [`FilterConfig`] and the type that runs it.
macro_rules! filters {
    ($($name:ident($filter:ty)),* $(,)?) => {
        /// A filter, ready to run.
        #[derive(Debug)]
        enum Filter {
            $($name($filter),)*
        }

        /// The state of a filter for one request.
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
                    // A filter gets the state that it has made.
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
    ExtAuthz(ext_authz::ExtAuthzFilter),
    JwtAuthn(jwt_authn::JwtAuthnFilter),
    Rbac(rbac::RbacFilter),
}

/// An HTTP filter.
pub(crate) trait HttpFilter: fmt::Debug + Send + Sync + Sized {
    /// Its configuration in a chain.
    type Config: FilterKind;

    /// The state that it keeps from a request to the response.
    type State: Default + Send;

    /// The filter of a chain.
    fn new(config: &Arc<Self::Config>, factory: &FilterFactory<'_>) -> Self;

    /// Handles a request before it is forwarded.
    fn on_request<'a>(&'a self, state: &'a mut Self::State, request: FilterRequest<'a>) -> FilterStatus<'a>;

    /// Handles the response before it is passed on. If an earlier filter has replied to the request, `state` is the default.
    fn on_response(&self, _state: &mut Self::State, _response: FilterResponse<'_>) {}
}

/// What a filter is made with, in addition to its configuration.
#[derive(Debug)]
pub(crate) struct FilterFactory<'a> {
    /// Statistics of the connection manager. A filter registers its own in them.
    pub(crate) stats: &'a HttpStats,
    /// The sinks of logs.
    pub(crate) logs: &'a Arc<LogFiles>,
    /// Makes clients for clusters; `None` if there is no store of clusters.
    pub(crate) clients: Option<&'a dyn ClusterClients>,
    /// Decides about requests, if the filter asks in this process.
    pub(crate) authorizer: Option<&'a Arc<dyn ext_authz::AnyAuthorizer>>,
}

impl FilterFactory<'_> {
    /// A client for a cluster that the filter's configuration names, and that its `clusters` lists. Without a store of
    /// clusters, as in a [`FilterLayer`], it responds as if the cluster did not exist.
    pub(crate) fn client(&self, cluster: &ClusterName, options: &ClientOptions) -> Arc<dyn ClusterClient> {
        match self.clients {
            Some(clients) => clients.client(cluster, options),
            None => Arc::new(NoCluster),
        }
    }
}

/// What happens to a request after a filter has handled it.
pub(crate) enum FilterStatus<'a> {
    /// The next filter handles it.
    Continue,
    /// The filter replies to it.
    Reply(FilterReply),
    /// The filter waits, and then continues (`None`) or replies.
    Wait(Pin<Box<dyn Future<Output = Option<FilterReply>> + Send + 'a>>),
}

/// The response of a filter in place of an endpoint's.
#[derive(Debug)]
pub(crate) struct FilterReply {
    pub(crate) reply: LocalReply,
    /// Headers of the response in addition to those of the reply.
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
    has_no_route: bool,
}

impl<'a> FilterRequest<'a> {
    pub(crate) fn head(&self) -> &Parts {
        &self.call.head
    }

    pub(crate) fn head_mut(&mut self) -> &mut Parts {
        &mut self.call.head
    }

    /// The body, which can be replaced, such as by one that wraps it.
    pub(crate) fn body_mut(&mut self) -> &mut Option<Body> {
        &mut self.call.body
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.call.is_grpc()
    }

    /// Keeps the head for `on_response`, although the request is forwarded.
    pub(crate) fn keep_head(&mut self) {
        self.call.keep_head();
    }

    pub(crate) fn info(&self) -> &'a StreamInfo {
        self.info
    }

    /// The action of the route; `None` if there is no route.
    pub(crate) fn action(&self) -> Option<&'a Action> {
        Some(&self.matched?.route.route().action)
    }

    /// Whether it was routed, and no route matches. False in a [`FilterLayer`], where other code decides what follows.
    pub(crate) fn has_no_route(&self) -> bool {
        self.has_no_route
    }

    /// Keeps the route for values that contain its name.
    pub(crate) fn observe_route(&self) {
        if let Some(matched) = self.matched {
            self.info.state().observe_route(|| matched.route.to_handle());
        }
    }

    /// The metadata of the route; `None` if there is no route, or it has none.
    pub(crate) fn route_metadata(&self) -> Option<&'a Metadata> {
        self.matched?.route.route().metadata.as_deref()
    }

    /// The name of the cluster that the request is routed to.
    pub(crate) fn cluster_name(&self) -> Option<&ClusterName> {
        self.matched?.cluster_name()
    }

    /// The cluster that the request is routed to; `None` if it does not exist.
    pub(crate) fn cluster(&self) -> Option<&Arc<ClusterState>> {
        self.matched?.cluster.as_ref()
    }

    /// The route's override of this filter.
    pub(crate) fn resolved(&self) -> Option<&'a ResolvedOverride> {
        self.resolved
    }

    /// Has the request routed again after this filter, because the filter has changed what routes match. Envoy
    /// `clearRouteCache`.
    pub(crate) fn clear_route_cache(&mut self) {
        *self.clears_route_cache = true;
    }
}

/// A response as a filter sees it.
pub(crate) struct FilterResponse<'a> {
    /// The request's head; empty if the request was forwarded and no filter has kept the head.
    pub(crate) request: &'a Parts,
    pub(crate) response: &'a mut Response<Body>,
    pub(crate) info: &'a StreamInfo,
    /// The route's override of this filter.
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

/// The most specific configuration of a filter whose configuration in the chain is `own`.
pub(crate) fn most_specific<'a, F>(resolved: Option<&'a ResolvedOverride>, own: &'a Arc<F>) -> &'a Arc<F>
where
    F: FilterKind<PerRoute = F>,
{
    resolved.and_then(ResolvedOverride::most_specific::<F>).unwrap_or(own)
}
