//! Finding the route of a request, and the answers that need no upstream.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use mesh_core::{
    local_reply::LocalReply,
    model::Action,
    policy::{grpc, header_mutation},
    request::RequestHead,
    route::{RouteEntry, RouteResult, https_location},
    store::{ClusterSlot, Routes},
    telemetry::{Attributes, details},
};

use crate::{Body, StreamInfo};

/// A route of the store.
pub(crate) type Route = RouteEntry<Arc<ClusterSlot>>;

/// Finds the route and notes it in `info`; `authority` is asked for if no virtual host has the request's own.
///
/// The error is the answer: there is no route, or only one with TLS.
pub(crate) fn find(
    routes: &Routes,
    parts: &Parts,
    authority: Option<&str>,
    info: &StreamInfo,
) -> Result<Arc<Route>, Box<Response<Body>>> {
    let random = fastrand::u64(..);
    let head = RequestHead::from_parts(parts);
    let result = match (routes.route(&head, random), authority) {
        (RouteResult::NoVirtualHost, Some(authority)) => routes.route(&RequestHead { authority, ..head }, random),
        (result, _) => result,
    };
    match result {
        RouteResult::Matched(route) => {
            let mut state = info.state();
            state.random = random;
            state.route = Some(Arc::clone(route));
            Ok(Arc::clone(route))
        }
        RouteResult::TlsRequired(_) => {
            Err(Box::new(redirect(info, StatusCode::MOVED_PERMANENTLY, https_location(&head))))
        }
        RouteResult::NoVirtualHost | RouteResult::NoRoute(_) => {
            Err(Box::new(reply(info, LocalReply::ROUTE_NOT_FOUND, grpc::is_grpc_request(&parts.headers))))
        }
    }
}

/// What the route answers itself: a fixed response or a redirect.
pub(crate) fn direct_answer(route: &Route, parts: &Parts, info: &StreamInfo) -> Option<Response<Body>> {
    let (status, body) = match &route.route().action {
        Action::Redirect(redirect) => (redirect.response_code, Body::empty()),
        Action::DirectResponse(direct) => (direct.status, Body::from(direct.body.clone())),
        Action::Route(_) | Action::NonForwarding => return None,
    };
    let has_text = matches!(&route.route().action, Action::DirectResponse(direct) if !direct.body.is_empty());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if has_text {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    let head = RequestHead::from_parts(parts);
    if let Some(location) = route.location(&head).and_then(|location| HeaderValue::try_from(location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    info.state().response_code_details = Some(Cow::Borrowed(details::DIRECT_RESPONSE));
    let attributes = Attributes {
        response_code: Some(status),
        response_code_details: Some(details::DIRECT_RESPONSE),
        start_time: Some(info.start_time()),
        route_name: Some(&*route.route().name).filter(|name| !name.is_empty()),
        virtual_host_name: Some(&*route.virtual_host().name),
        ..Attributes::of_request(&head)
    };
    header_mutation::apply_to_response(route.response_headers(None), response.headers_mut(), &attributes);
    Some(response)
}

/// An answer of the mesh's own, noted in `info`.
pub(crate) fn reply(info: &StreamInfo, reply: LocalReply, is_grpc: bool) -> Response<Body> {
    let mut state = info.state();
    state.response_flags.insert(reply.flags);
    state.response_code_details = Some(reply.details.clone());
    drop(state);
    reply.into_response(is_grpc).map(Body::from)
}

fn redirect(info: &StreamInfo, status: StatusCode, location: String) -> Response<Body> {
    info.state().response_code_details = Some(Cow::Borrowed(details::DIRECT_RESPONSE));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
