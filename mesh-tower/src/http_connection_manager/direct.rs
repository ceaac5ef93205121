//! Answers that a route gives itself: redirects and direct responses.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use mesh_core::{
    local_reply::LocalReply,
    model::Action,
    policy::header_mutation,
    request::RequestHead,
    route::RouteEntry,
    store::ClusterSlot,
    telemetry::{Attributes, ResponseFlags, details},
};

use crate::{Body, StreamInfo};

/// The route's own answer to a request that `is_grpc` or not; `None` if the route forwards.
pub(super) fn answer(
    parts: &Parts,
    route: &RouteEntry<Arc<ClusterSlot>>,
    info: &StreamInfo,
    is_grpc: bool,
) -> Option<Response<Body>> {
    let mut response = match &route.route().action {
        Action::Redirect(redirect) => empty(redirect.response_code, is_grpc),
        // A gRPC client reads the text in `grpc-message`; others get the bytes as they are.
        Action::DirectResponse(direct) if is_grpc => {
            let text = String::from_utf8_lossy(&direct.body).into_owned();
            let reply = LocalReply { body: text.into(), ..reply(direct.status) };
            reply.into_response(is_grpc).map(Body::from)
        }
        Action::DirectResponse(direct) => {
            let mut response = empty(direct.status, is_grpc);
            if !direct.body.is_empty() {
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                *response.body_mut() = Body::from(direct.body.clone());
            }
            response
        }
        Action::Route(_) | Action::NonForwarding => return None,
    };
    let head = RequestHead::from_parts(parts);
    set_location(&mut response, route.location(&head));
    let mut state = info.state();
    state.response_code_details = Some(details::DIRECT_RESPONSE.into());
    let attributes = Attributes {
        method: Some(head.method),
        scheme: Some(head.scheme()),
        authority: Some(head.authority),
        path: Some(head.path_and_query),
        request_headers: Some(head.headers),
        response_code: Some(response.status()),
        ..state.attributes(info)
    };
    header_mutation::apply_to_response(route.response_headers(None), response.headers_mut(), &attributes);
    Some(response)
}

/// The answer of a virtual host that wants TLS: the same URL with `https`.
pub(super) fn redirect_to_tls(location: String, info: &StreamInfo, is_grpc: bool) -> Response<Body> {
    info.state().response_code_details = Some(details::DIRECT_RESPONSE.into());
    let mut response = empty(StatusCode::MOVED_PERMANENTLY, is_grpc);
    set_location(&mut response, Some(location));
    response
}

fn reply(status: StatusCode) -> LocalReply {
    LocalReply::new(status, "", ResponseFlags::NONE, details::DIRECT_RESPONSE)
}

fn empty(status: StatusCode, is_grpc: bool) -> Response<Body> {
    reply(status).into_response(is_grpc).map(Body::from)
}

fn set_location(response: &mut Response<Body>, location: Option<String>) {
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
}
