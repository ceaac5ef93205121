//! The life of a request that leaves this process, in one function.
//!
//! ```text
//! channel > route (virtual host, route, weighted cluster) > fault > rewrite, headers > timeout > retry
//!   per try > pick (priority > locality > policy) > connection (pool) > circuit breaker > send > outlier detection
//! ```
//!
//! The stages are called one after the other and hand each other what they found out. A proxy goes the same way: there
//! the connection manager of the listener does the first half, and [`Upstream::send`] is the second.

use mesh_core::{filter::HttpFilter, local_reply::LocalReply, rng::Rng, store::Routes};

use crate::{
    StreamInfo, Transport, Upstream,
    call::Call,
    fault::{self, ActiveFaults},
    rng::ThreadRng,
    route,
};

/// What a listener says about requests, ready for use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack<'a, T> {
    /// `None` if they have not come yet, or are gone.
    pub(crate) routes: Option<&'a Routes>,
    /// The authority whose virtual host takes requests that have none of their own.
    pub(crate) authority: &'a str,
    pub(crate) filters: &'a [HttpFilter],
    pub(crate) active_faults: &'a ActiveFaults,
    pub(crate) upstream: &'a Upstream<T>,
}

impl<T: Transport> Stack<'_, T> {
    /// Answers a call: always, whatever goes wrong.
    pub(crate) async fn serve(&self, call: &mut Call, info: &StreamInfo) {
        let Some((parts, _)) = &call.request else { return };
        let random = ThreadRng.next_u64();
        let Some(routes) = self.routes else {
            return call.answer(route::reply(info, LocalReply::ROUTE_NOT_FOUND, call.survey.is_grpc));
        };
        let matched = match route::find(routes, parts, Some(self.authority), random, info) {
            Ok(matched) => matched,
            Err(answer) => return call.answer(*answer),
        };
        if !self.filters.is_empty() {
            let means = (self.upstream.timers(), self.active_faults);
            if let Some(failed) = fault::filter(self.filters, (&matched, random), parts, info, means).await {
                return call.answer(route::reply(info, failed, call.survey.is_grpc));
            }
        }
        if let Some(answer) = route::direct_answer(matched, parts, info) {
            return call.answer(answer);
        }
        self.upstream.forward(call, info, matched, random).await;
    }
}
