//! What a route answers itself.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use mesh_core::{
    model::Action,
    policy::header_mutation,
    request::RequestHead,
    route::https_location,
    telemetry::{Attributes, details},
};

use super::Route;

/// The redirect or the fixed response of a route; `None` if the request, which began at `start_time`, goes on.
pub(super) fn direct_answer(
    route: &Route,
    head: &RequestHead<'_>,
    start_time: Option<SystemTime>,
) -> Option<Response<Bytes>> {
    let mut response = match &route.route().action {
        Action::Redirect(redirect) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = redirect.response_code;
            response
        }
        Action::DirectResponse(direct) => {
            let mut response = Response::new(direct.body.clone());
            *response.status_mut() = direct.status;
            if !direct.body.is_empty() {
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            response
        }
        Action::Route(_) | Action::NonForwarding => return None,
    };
    if let Some(location) = route.location(head).and_then(|location| HeaderValue::try_from(location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    let attributes = Attributes {
        response_code: Some(response.status()),
        response_code_details: Some(details::DIRECT_RESPONSE),
        start_time,
        route_name: Some(&*route.route().name).filter(|name| !name.is_empty()),
        virtual_host_name: Some(&*route.virtual_host().name),
        ..Attributes::of_request(head)
    };
    header_mutation::apply_to_response(route.response_headers(None), response.headers_mut(), &attributes);
    Some(response)
}

/// The same request over TLS, for virtual hosts that want it.
pub(super) fn redirect_to_tls(head: &RequestHead<'_>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::try_from(https_location(head)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
