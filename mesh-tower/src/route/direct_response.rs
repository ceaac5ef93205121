//! Redirects and direct responses.

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use mesh_core::{
    local_reply::LocalReply,
    model::Action,
    policy::header_mutation::{self, Changes},
    request::RequestHead,
    route::https_location,
    telemetry::{Attributes, ResponseFlags, details},
};

use super::{Matched, Route, Routing};
use crate::{
    Body,
    call::{Call, ResponseSource, StreamInfo, local_reply},
};

/// Responds to a call whose route is a redirect or a direct response, or that has no route. Returns false if the request is
/// to be forwarded.
pub(crate) fn respond(call: &mut Call, info: &StreamInfo, routing: &Routing<'_>) -> bool {
    match routing {
        Routing::Matched(matched) if matched.route.responds_directly() => {
            let response = direct_response(call, info, matched);
            call.respond(response);
        }
        Routing::Matched(_) => return false,
        Routing::TlsRequired => {
            observe(info);
            let location = https_location(&RequestHead::from_parts(&call.head));
            let mut response = empty(StatusCode::MOVED_PERMANENTLY, call.is_grpc());
            set_location(&mut response, Some(location));
            call.respond(response);
        }
        Routing::NotFound => call.reply(info, LocalReply::ROUTE_NOT_FOUND),
    }
    true
}

#[inline(never)]
fn direct_response(call: &Call, info: &StreamInfo, matched: &Matched<'_>) -> Response<Body> {
    let route = &matched.route;
    info.state().observe_route(|| route.to_handle());
    observe(info);
    let mut response = response_of(&route.route().action, call.is_grpc());
    let head = RequestHead::from_parts(&call.head);
    set_location(&mut response, route.location(&head));
    let state = info.state();
    let attributes =
        Attributes { response_code: Some(response.status()), ..attributes(&head, &state.attributes(info)) };
    header_mutation::apply_to_response(route.response_headers(None), response.headers_mut(), &attributes);
    response
}

/// The attributes of `known` and of the current request.
fn attributes<'a>(head: &RequestHead<'a>, known: &Attributes<'a>) -> Attributes<'a> {
    Attributes {
        method: Some(head.method),
        scheme: Some(head.scheme()),
        authority: Some(head.authority),
        path: Some(head.path_and_query),
        request_headers: Some(head.headers),
        ..*known
    }
}

fn response_of(action: &Action, is_grpc: bool) -> Response<Body> {
    match action {
        Action::Redirect(redirect) => empty(redirect.response_code, is_grpc),
        // gRPC clients receive the text in `grpc-message`, others as the body.
        Action::DirectResponse(direct) if is_grpc => {
            let text = String::from_utf8_lossy(&direct.body).into_owned();
            local_reply(LocalReply { body: text.into(), ..reply(direct.status) }, is_grpc)
        }
        Action::DirectResponse(direct) => {
            let mut response = empty(direct.status, is_grpc);
            if !direct.body.is_empty() {
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                *response.body_mut() = Body::from(direct.body.clone());
            }
            response
        }
        Action::Route(_) | Action::NonForwarding => empty(StatusCode::NOT_FOUND, is_grpc),
    }
}

fn observe(info: &StreamInfo) {
    let mut state = info.state();
    state.response_code_details = Some(details::DIRECT_RESPONSE.into());
    state.response_source = Some(ResponseSource::Local);
}

fn reply(status: StatusCode) -> LocalReply {
    LocalReply::new(status, "", ResponseFlags::NONE, details::DIRECT_RESPONSE)
}

fn empty(status: StatusCode, is_grpc: bool) -> Response<Body> {
    local_reply(reply(status), is_grpc)
}

fn set_location(response: &mut Response<Body>, location: Option<String>) {
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
}

/// Changes the headers of a response as `route` says, for which its status is `response_code`. Envoy
/// `finalizeResponseHeaders`.
pub(crate) fn change_response(
    route: &Route,
    weighted: Option<usize>,
    info: &StreamInfo,
    (head, response): (&Parts, &mut Response<Body>),
    response_code: Option<StatusCode>,
) {
    if route.response_changes() == Changes::None {
        return;
    }
    let levels = route.response_headers(weighted);
    let state = info.state();
    let known = with_head(head, &state.attributes(info));
    let attributes = Attributes { response_code, ..known };
    header_mutation::apply_to_response(levels, response.headers_mut(), &attributes);
}

/// The head of a request, for the [`Attributes`] of header values.
pub(crate) fn with_head<'a>(head: &'a Parts, known: &Attributes<'a>) -> Attributes<'a> {
    attributes(&RequestHead::from_parts(head), known)
}
