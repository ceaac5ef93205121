//! [`HeadersLayer`].

use std::sync::Arc;

use http::{Response, request::Parts};
use mesh_core::{model::HeaderMutations, policy::header_mutation, request::RequestHead, telemetry::Attributes};
use tower_layer::Layer;

use super::{Headers, apply_to_request, head_of};
use crate::{reply::flags_of, route::RouteMatched};

/// Changes headers; see the [module](super).
#[derive(Clone, Debug, Default)]
pub struct HeadersLayer {
    own: Arc<Own>,
}

#[derive(Clone, Debug, Default)]
struct Own {
    request: HeaderMutations,
    response: HeaderMutations,
}

impl HeadersLayer {
    /// Changes nothing but what routes say.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes requests.
    #[must_use]
    pub fn request(mut self, mutations: HeaderMutations) -> Self {
        Arc::make_mut(&mut self.own).request = mutations;
        self
    }

    /// Changes responses.
    #[must_use]
    pub fn response(mut self, mutations: HeaderMutations) -> Self {
        Arc::make_mut(&mut self.own).response = mutations;
        self
    }

    /// Changes a request; what comes back changes its response.
    pub(super) fn change_request(&self, parts: &mut Parts) -> ResponseChanges {
        let matched = RouteMatched::of(&parts.extensions).cloned();
        let changes = ResponseChanges { own: Arc::clone(&self.own), matched: matched.clone(), request: None };
        let request = changes.reads_request().then(|| Box::new(head_of(parts)));
        let matched = matched.as_ref();
        let of_route = matched.into_iter().flat_map(|matched| matched.entry().request_headers(matched.weighted()));
        let mut levels = of_route.chain(Some(&self.own.request)).filter(|level| !level.is_empty()).peekable();
        if levels.peek().is_some() {
            apply_to_request(levels, parts, &known(matched));
        }
        ResponseChanges { request, ..changes }
    }
}

impl<S> Layer<S> for HeadersLayer {
    type Service = Headers<S>;

    fn layer(&self, inner: S) -> Headers<S> {
        Headers { inner, layer: self.clone() }
    }
}

/// What is to be done to a response.
#[derive(Debug)]
pub(super) struct ResponseChanges {
    own: Arc<Own>,
    matched: Option<RouteMatched>,
    /// The request's head, if any value reads it.
    request: Option<Box<Parts>>,
}

impl ResponseChanges {
    pub(super) fn apply<R>(&self, response: &mut Response<R>) {
        let mut levels = self.levels().peekable();
        if levels.peek().is_none() {
            return;
        }
        let head = self.request.as_deref().map(RequestHead::from_parts);
        let route = known(self.matched.as_ref());
        let attributes = Attributes {
            response_code: Some(response.status()),
            response_flags: flags_of(response),
            route_name: route.route_name,
            virtual_host_name: route.virtual_host_name,
            upstream_cluster_raw: route.upstream_cluster_raw,
            ..head.as_ref().map(Attributes::of_request).unwrap_or_default()
        };
        header_mutation::apply_to_response(levels, response.headers_mut(), &attributes);
    }

    fn levels(&self) -> impl Iterator<Item = &HeaderMutations> {
        let of_route = self.matched.iter().flat_map(|matched| matched.entry().response_headers(matched.weighted()));
        of_route.chain(Some(&self.own.response)).filter(|level| !level.is_empty())
    }

    fn reads_request(&self) -> bool {
        self.levels().flat_map(|level| &level.add).any(|mutation| mutation.value.literal_value().is_none())
    }
}

/// What a route tells to the values of headers.
fn known(matched: Option<&RouteMatched>) -> Attributes<'_> {
    let Some(matched) = matched else { return Attributes::default() };
    Attributes {
        route_name: Some(&*matched.entry().route().name).filter(|name| !name.is_empty()),
        virtual_host_name: Some(&*matched.entry().virtual_host().name),
        upstream_cluster_raw: matched.cluster_name().map(|name| name.as_str()),
        ..Attributes::default()
    }
}
