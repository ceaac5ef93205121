//! Routing in the assembled stack.

use std::{borrow::Cow, sync::Arc};

use http::{Response, request::Parts};
use mesh_core::{
    local_reply::LocalReply,
    policy::grpc,
    request::RequestHead,
    route::RouteResult,
    store::{ClusterSlot, Routes},
    telemetry::details,
};

use super::{FoundRoute, direct};
use crate::{Body, StreamInfo};

/// Finds the route; `authority` is asked for if no virtual host has the request's own.
///
/// The error is the answer, noted in `info`: there is no route, or only one with TLS.
pub(crate) fn find<'t>(
    routes: &'t Routes,
    parts: &Parts,
    authority: Option<&str>,
    random: u64,
    info: &StreamInfo,
) -> Result<FoundRoute<'t>, Box<Response<Body>>> {
    let head = RequestHead::from_parts(parts);
    let result = match (routes.route(&head, random), authority) {
        (RouteResult::NoVirtualHost, Some(authority)) => routes.route(&RequestHead { authority, ..head }, random),
        (result, _) => result,
    };
    match result {
        RouteResult::Matched(route) => Ok(route),
        unrouted => Err(answer_unrouted(&unrouted, &head, info)),
    }
}

#[cold]
fn answer_unrouted(
    result: &RouteResult<'_, Arc<ClusterSlot>>,
    head: &RequestHead<'_>,
    info: &StreamInfo,
) -> Box<Response<Body>> {
    if let RouteResult::TlsRequired(_) = result {
        info.state().response_code_details = Some(Cow::Borrowed(details::DIRECT_RESPONSE));
        return Box::new(direct::redirect_to_tls(head).map(Body::from));
    }
    Box::new(reply(info, LocalReply::ROUTE_NOT_FOUND, grpc::is_grpc_request(head.headers)))
}

/// What the route answers itself: a fixed response or a redirect.
pub(crate) fn direct_answer(route: FoundRoute<'_>, parts: &Parts, info: &StreamInfo) -> Option<Response<Body>> {
    if route.is_forwarding() { None } else { answer(route, parts, info) }
}

#[inline(never)]
fn answer(route: FoundRoute<'_>, parts: &Parts, info: &StreamInfo) -> Option<Response<Body>> {
    let response = direct::direct_answer(&route, &RequestHead::from_parts(parts), Some(info.start_time()))?;
    let mut state = info.state();
    state.route = Some(route.to_handle());
    state.response_code_details = Some(Cow::Borrowed(details::DIRECT_RESPONSE));
    drop(state);
    Some(response.map(Body::from))
}

/// An answer of the mesh's own, noted in `info`.
#[cold]
pub(crate) fn reply(info: &StreamInfo, reply: LocalReply, is_grpc: bool) -> Response<Body> {
    let mut state = info.state();
    state.response_flags.insert(reply.flags);
    state.response_code_details = Some(reply.details.clone());
    drop(state);
    reply.into_response(is_grpc).map(Body::from)
}
