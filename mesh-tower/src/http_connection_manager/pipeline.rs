//! The pipeline of a request through a listener, in one function, for proxies, servers and channels.
//!
//! ```text
//! route (virtual host, route, cluster) ──► upgrade allowed? ──► http filters ──► the route's own response
//!                                                                             └► the service: upstream, or the program's
//! response ◄── http filters, in reverse ◄─────────────────────────────────────┘
//! ```
//!
//! Requests are in canonical form: [`ConnectionManager`](super::ConnectionManager) makes them so for a socket, and
//! [`Channel`](crate::Channel) for the calls of a program.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use http::{HeaderValue, Method};
use mesh_core::{
    local_reply::LocalReply,
    model::Action,
    policy::hop_by_hop::{self, HopByHop, remove_hop_by_hop},
    rng::Rng as _,
};

use super::{HttpListener, RequestContext, Respond};
use crate::{
    call::{Call, Recorder, StreamExpired, StreamInfo, StreamTimeouts, Tunnelling},
    filter::FilterRun,
    rng::ThreadRng,
    route::{self, Matched, Router, Routing},
    span::within,
    upgrade,
};

/// State of a request that is needed after its response has been made.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// Timeouts of the stream, which also apply to the response body.
    pub(crate) timeouts: StreamTimeouts,
    /// The response is the program's own, so its `connection` header concerns this hop.
    pub(crate) by_program: bool,
}

impl HttpListener {
    /// Answers a call whose request is in canonical form. Afterwards the call has a response, also after a failure.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the request.
    pub(crate) async fn serve<R: Respond>(&self, service: &R, call: &mut Call, recorder: &mut Recorder) -> Served {
        let span = recorder.follow(&call.head);
        within(span, pin!(self.serve_in_span(service, call, recorder))).await
    }

    async fn serve_in_span<R: Respond>(&self, service: &R, call: &mut Call, recorder: &mut Recorder) -> Served {
        let routes = self.routes.load();
        let (authority, store) = (self.default_authority.as_deref(), Some(&*self.store));
        let mut router = Router::new(routes.as_deref(), authority, store, ThreadRng.next_u64());
        router.route(&call.head);
        let upgrade = self.upgrade(call, router.matched(), recorder);
        recorder.observe_request(&call.head);
        let info = recorder.info();
        if recorder.reads_route()
            && let Some(matched) = router.matched()
        {
            info.state().observe_route(|| matched.route.to_handle());
        }
        let mut served = Served {
            timeouts: self.timeouts(router.matched(), info),
            by_program: R::IS_PROGRAM || router.matched().is_some_and(is_served_here),
        };
        let mut run = if self.filters.is_empty() { None } else { Some(self.filters.start()) };
        if let Err(reply) = upgrade {
            info.state().upstream_cluster = router.matched().and_then(|matched| matched.cluster.clone());
            call.reply(info, reply);
            change_reply(call, info, &router);
            if let Some(run) = &mut run {
                run.on_response(call, info, router.matched());
            }
            return served;
        }
        let expired = {
            let mut answering = pin!(async {
                if self.answers_itself(call, info, &mut router, run.as_mut()).await {
                    return;
                }
                if let Some(matched) = router.matched() {
                    service.respond(call, RequestContext { listener: self, info, matched }).await;
                }
            });
            poll_fn(|cx| match answering.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => served.timeouts.poll_expired(info, cx).map(Some),
            })
            .await
        };
        if let Some(expired) = expired {
            self.count_expired(expired);
            call.reply(info, expired.reply());
            change_reply(call, info, &router);
        }
        if let Some(run) = &mut run {
            run.on_response(call, info, router.matched());
        }
        served
    }

    /// Passes the request to the filters, and then to the route. Whether one of them has responded.
    async fn answers_itself(
        &self,
        call: &mut Call,
        info: &StreamInfo,
        router: &mut Router<'_>,
        run: Option<&mut FilterRun<'_>>,
    ) -> bool {
        if let Some(run) = run {
            let reply = run.on_request(call, info, router).await;
            // Access logs show the changes of the filters.
            info.observe_request(&call.head);
            if let Some(reply) = reply {
                // Metrics have the service that the request would have reached.
                info.state().upstream_cluster = router.matched().and_then(|matched| matched.cluster.clone());
                reply.respond(call, info, router.matched());
                return true;
            }
        }
        self.stats.rq_total.inc();
        let responds = route::respond(call, info, router.routing());
        if responds && !matches!(router.routing(), Routing::NotFound) {
            self.stats.rq_direct_response.inc();
        }
        responds
    }

    fn timeouts(&self, matched: Option<&Matched<'_>>, info: &StreamInfo) -> StreamTimeouts {
        let of_route = matched.and_then(|matched| matched.route.idle_timeout());
        let idle_timeout = of_route.or(self.config.stream_idle_timeout);
        StreamTimeouts::new(idle_timeout, self.config.request_timeout, info)
    }

    fn count_expired(&self, expired: StreamExpired) {
        match expired {
            StreamExpired::Idle { .. } => self.stats.downstream_rq_idle_timeout.inc(),
            StreamExpired::Request => self.stats.downstream_rq_timeout.inc(),
        }
    }

    /// Checks whether the request may switch the protocol of its connection, if it asks for it. Removes hop-by-hop headers.
    fn upgrade(
        &self,
        call: &mut Call,
        matched: Option<&Matched<'_>>,
        recorder: &mut Recorder,
    ) -> Result<(), LocalReply> {
        let Call { head, survey, .. } = call;
        let present = survey.hop_by_hop;
        let requested = if present.has(HopByHop::UPGRADE) { upgrade::requested_upgrade(&head.headers) } else { None };
        // As in Envoy, clients that request an upgrade to HTTP/2 get an HTTP/1.1 response.
        let upgrade = requested.filter(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).cloned();
        let headers = if upgrade.is_some() { hop_by_hop::Upgrade::Pass } else { hop_by_hop::Upgrade::Remove };
        let is_connect = head.method == Method::CONNECT;
        let protocol = upgrade.as_ref().map_or(b"CONNECT".as_slice(), HeaderValue::as_bytes);
        // A program may upgrade connections itself, so what follows is up to it.
        if (upgrade.is_none() && !is_connect) || matched.is_some_and(is_served_here) {
            remove_hop_by_hop(&mut head.headers, present, headers);
            return Ok(());
        }
        recorder.info().ask_for_upgrade();
        if self.allows_upgrade(protocol, matched) {
            recorder.count_upgrade();
            if call.tunnelling == Tunnelling::Possible {
                call.tunnelling = Tunnelling::Requested;
            }
        } else if matched.is_some() {
            self.stats.downstream_rq_ws_on_non_ws_route.inc();
            return Err(LocalReply::UPGRADE_FAILED);
        }
        remove_hop_by_hop(&mut call.head.headers, present, headers);
        Ok(())
    }

    fn allows_upgrade(&self, protocol: &[u8], matched: Option<&Matched<'_>>) -> bool {
        let action = matched.and_then(|matched| matched.route.action());
        let of_route = action.map_or(&[][..], |action| &action.upgrade_configs);
        upgrade::is_allowed(protocol, of_route, &self.config.upgrade_configs)
    }
}

/// Whether the program's own service responds.
/// Changes the headers of a local reply as the route says.
fn change_reply(call: &mut Call, info: &StreamInfo, router: &Router<'_>) {
    if let Some(matched) = router.matched() {
        matched.change_reply(call, info);
    }
}

fn is_served_here(matched: &Matched<'_>) -> bool {
    !matched.route.is_forwarding() && matched.route.route().action == Action::NonForwarding
}
