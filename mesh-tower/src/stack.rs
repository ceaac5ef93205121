//! The life of a request that leaves this process, in one function.
//!
//! ```text
//! channel > route (virtual host, route, weighted cluster) > fault > rewrite, headers > timeout > retry
//!   per try > pick (priority > locality > policy) > connection (pool) > circuit breaker > send > outlier detection
//! ```
//!
//! The stages are called one after the other and hand each other what they found out. A proxy goes the same way: there
//! the connection manager of the listener does the first half, and [`Upstream::send`] is the second.

use http::{Request, Response};
use mesh_core::{local_reply::LocalReply, model::HttpFilter, policy::grpc, store::Routes};

use crate::{
    Body, StreamInfo, Transport, Upstream,
    fault::{self, ActiveFaults},
    route,
};

/// What a listener says about requests, ready for use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack<'a, T> {
    /// `None` if the routes have not come yet.
    pub(crate) routes: Option<&'a Routes>,
    /// The authority whose virtual host takes requests that have none of their own.
    pub(crate) authority: &'a str,
    pub(crate) filters: &'a [HttpFilter],
    pub(crate) active_faults: &'a ActiveFaults,
    pub(crate) upstream: &'a Upstream<T>,
}

impl<T: Transport> Stack<'_, T> {
    /// Answers a request: always, whatever goes wrong.
    pub(crate) async fn serve(self, request: Request<Body>, info: &StreamInfo) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let is_grpc = grpc::is_grpc_request(&parts.headers);
        let Some(routes) = self.routes else { return route::reply(info, LocalReply::ROUTE_NOT_FOUND, is_grpc) };
        let matched = match route::find(routes, &parts, Some(self.authority), info) {
            Ok(matched) => matched,
            Err(answer) => return *answer,
        };
        if !self.filters.is_empty() {
            let means = (self.upstream.timers(), self.active_faults);
            if let Some(failed) = fault::filter(self.filters, &matched, &parts, info, means).await {
                return route::reply(info, failed, is_grpc);
            }
        }
        if let Some(answer) = route::direct_answer(&matched, &parts, info) {
            return answer;
        }
        self.upstream.send(Request::from_parts(parts, body), info).await
    }
}
