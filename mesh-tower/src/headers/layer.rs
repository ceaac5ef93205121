//! [`HeadersLayer`].

use std::sync::Arc;

use http::{Response, request::Parts};
use mesh_core::{model::HeaderMutations, policy::header_mutation, request::RequestHead, telemetry::Attributes};

use super::apply_to_request;
use crate::{
    Body, BoxError,
    call::{Call, flags_of},
    layer::{HttpService, Middleware, layers},
    route::RouteMatched,
};

/// Changes headers; see the [module](super).
///
/// ```
/// use http::{HeaderName, Request, Response};
/// use mesh_core::{model::{format::Format, AppendAction, HeaderMutation, HeaderMutations}};
/// use mesh_tower::{Body, BoxError, headers::HeadersLayer};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let status = HeaderMutation {
///     name: HeaderName::from_static("x-status"),
///     value: Format::parse("%RESPONSE_CODE%")?,
///     append_action: AppendAction::OverwriteIfExistsOrAdd,
///     keep_empty_value: false,
/// };
/// let layer = HeadersLayer::new().response(HeaderMutations { add: vec![status], ..HeaderMutations::default() });
/// let service = layer.layer(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty()))));
/// assert_eq!(service.oneshot(Request::new(Body::empty())).await?.headers()["x-status"], "200");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct HeadersLayer {
    own: Arc<Mutations>,
}

layers!(HeadersLayer);

#[derive(Clone, Debug, Default)]
struct Mutations {
    request: HeaderMutations,
    response: HeaderMutations,
}

impl HeadersLayer {
    /// Applies the changes of the route that [`RouteLayer`](crate::route::RouteLayer) chose, and no others.
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

    fn change_request(&self, matched: Option<&RouteMatched>, call: &mut Call) {
        let of_route = matched.into_iter().flat_map(|matched| matched.entry().request_headers(matched.weighted()));
        let mut levels = of_route.chain(Some(&self.own.request)).filter(|level| !level.is_empty()).peekable();
        if levels.peek().is_some() {
            apply_to_request(levels, &mut call.head, &attributes_of(matched));
        }
    }

    fn change_response(&self, matched: Option<&RouteMatched>, head: &Parts, response: &mut Response<Body>) {
        let mut levels = self.response_levels(matched).peekable();
        if levels.peek().is_none() {
            return;
        }
        let route = attributes_of(matched);
        let attributes = Attributes {
            response_code: Some(response.status()),
            response_flags: flags_of(response),
            route_name: route.route_name,
            virtual_host_name: route.virtual_host_name,
            upstream_cluster_raw: route.upstream_cluster_raw,
            ..Attributes::of_request(&RequestHead::from_parts(head))
        };
        header_mutation::apply_to_response(levels, response.headers_mut(), &attributes);
    }

    fn response_levels<'a>(&'a self, matched: Option<&'a RouteMatched>) -> impl Iterator<Item = &'a HeaderMutations> {
        let of_route = matched.into_iter().flat_map(|matched| matched.entry().response_headers(matched.weighted()));
        of_route.chain(Some(&self.own.response)).filter(|level| !level.is_empty())
    }
}

impl Middleware for HeadersLayer {
    type Error<E: Into<BoxError> + Send> = E;

    async fn serve<S: HttpService>(self, mut service: S, mut call: Call) -> Result<Response<Body>, S::Error> {
        let matched = RouteMatched::of(&call.head.extensions).cloned();
        let mut mutations = self.response_levels(matched.as_ref()).flat_map(|level| &level.add);
        if mutations.any(|mutation| mutation.value.literal_value().is_none()) {
            call.keep_head();
        }
        self.change_request(matched.as_ref(), &mut call);
        let mut response = service.send(call.take_request().unwrap_or_default()).await?;
        self.change_response(matched.as_ref(), &call.head, &mut response);
        Ok(response)
    }
}

/// The attributes of a route for header values.
fn attributes_of(matched: Option<&RouteMatched>) -> Attributes<'_> {
    let Some(matched) = matched else { return Attributes::default() };
    Attributes {
        route_name: Some(&*matched.entry().route().name).filter(|name| !name.is_empty()),
        virtual_host_name: Some(&*matched.entry().virtual_host().name),
        upstream_cluster_raw: matched.cluster_name().map(|name| name.as_str()),
        ..Attributes::default()
    }
}
