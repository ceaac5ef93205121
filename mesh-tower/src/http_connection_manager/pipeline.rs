//! One request.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use mesh_core::{
    local_reply::LocalReply,
    model::Action,
    policy::{
        forwarded::{self, Peer},
        hop_by_hop::{self, remove_hop_by_hop},
        request_id::{self, Existing, X_REQUEST_ID},
    },
    request::RequestHead,
    route::{RouteEntry, RouteHandle, RouteResult, https_location},
    store::ClusterSlot,
    telemetry::{ResponseFlags, details},
};

use super::{
    ConnectionManager, Respond, ResponseBody,
    canonical::{Refusal, canonicalize},
    direct, filter,
    patience::{Expired, Patience},
    recorder::Recorder,
    response::{self, Origin, Persistence, RequestFacts},
};
use crate::{Body, StreamInfo, server::ConnectionInfo, timer::now, upgrade, upstream::HeldByTunnel};

/// Stands for the address of a client that nobody told us.
const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

type Route = RouteHandle<Arc<ClusterSlot>>;

/// What the connection manager says about a request before it is passed on.
enum Verdict {
    /// The service is to answer; with the client's end of the tunnel if the request asks for one.
    Pass { upgrade: Option<OnUpgrade> },
    /// This is the answer.
    Answer(Box<Response<Body>>),
}

/// The ends of a connection that has switched protocols, and what it occupies.
struct Tunnel {
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    held: Option<HeldByTunnel>,
}

impl<S: Respond> ConnectionManager<S> {
    /// Answers `request`.
    pub(crate) async fn handle(
        self: Arc<Self>,
        connection: Arc<ConnectionInfo>,
        request: Request<impl Into<Body>>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let (mut parts, incoming) = request.into_parts();
        let info = StreamInfo::new(now());
        let mut body: Body = incoming.into();
        body.count(&info);
        let mut recorder = Recorder::start(Arc::clone(&self.listener), Arc::clone(&connection), info.clone(), &parts);
        let is_last = self.is_last(connection.request_started());
        if is_last {
            connection.take_no_more();
        }
        let (method, version) = (parts.method.clone(), parts.version);
        let ends_by_itself = version < Version::HTTP_11 && !asks_to_stay(&parts.headers);
        let verdict = self.decide(&mut parts, &connection, &mut recorder).await;
        let mut facts =
            RequestFacts { version, request_id: self.answered_request_id(&parts), persistence: Persistence::Keep };
        let mut patience =
            Patience::new(&self.listener, info.state().route.as_ref().and_then(|route| route.action()), &info);
        let (response, origin, tunnel) = match verdict {
            Verdict::Answer(response) => (*response, Origin::Local, None),
            Verdict::Pass { upgrade } => {
                let (response, origin) = self.forward(Request::from_parts(parts, body), &recorder, &mut patience).await;
                (response, origin, upgrade)
            }
        };
        let (response, origin) = if info.is_request_malformed() && is_local(&info, origin) {
            (self.malformed(&recorder), Origin::Local)
        } else {
            (response, origin)
        };
        let (mut response, body) = response::without_body_for_head(response, &method).into_parts();
        let abandons_upload = !info.is_request_complete() && is_local(&info, origin);
        if is_last
            || ends_by_itself
            || abandons_upload
            || info.asks_for_upgrade()
            || connection.drain.is_draining()
            || is_asked_to_end(&info, &response)
        {
            facts.persistence = Persistence::Close;
        }
        recorder.exchange_peers(&mut response.headers);
        response::finish(&mut response, &self.listener.config, facts, origin);
        if abandons_upload && info.has_request_broken_off() && !info.is_request_malformed() {
            recorder.client_left();
            return Ok(Response::from_parts(response, ResponseBody::unrecorded(body)));
        }
        recorder.response(&response);
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let (Some(downstream), Some(upstream)) = (tunnel, response.extensions.remove::<OnUpgrade>())
        {
            let held = response.extensions.remove::<HeldByTunnel>();
            self.spawn_tunnel(Tunnel { downstream, upstream, held }, &connection, recorder);
            return Ok(Response::from_parts(response, ResponseBody::unrecorded(Body::empty())));
        }
        Ok(Response::from_parts(response, ResponseBody::new(body, recorder, patience)))
    }

    /// The service's answer, or one of our own if that takes too long.
    async fn forward(
        &self,
        request: Request<Body>,
        recorder: &Recorder,
        patience: &mut Patience,
    ) -> (Response<Body>, Origin) {
        let info = &recorder.info;
        let expired = {
            let mut answer = pin!(self.service.respond(request, info));
            let waited = poll_fn(|cx| match answer.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => patience.poll_expired(info, cx).map(Err),
            });
            match waited.await {
                Ok(response) => return (response, Origin::Service),
                Err(expired) => expired,
            }
        };
        match expired {
            Expired::Idle { .. } => self.listener.stats.downstream_rq_idle_timeout.inc(),
            Expired::Request => self.listener.stats.downstream_rq_timeout.inc(),
        }
        (own_answer(expired.reply(), info, recorder.is_grpc()), Origin::Local)
    }

    /// Everything up to the service. Envoy's order: the request is made canonical and safe, routed, then filtered.
    async fn decide(&self, parts: &mut Parts, connection: &ConnectionInfo, recorder: &mut Recorder) -> Verdict {
        let listener = &*self.listener;
        if let Err(refusal) = canonicalize(parts, &listener.config, connection.local_address.port()) {
            return self.refuse(refusal, parts, recorder);
        }
        self.sanitize(parts, connection, recorder);
        recorder.receive_request(&mut parts.headers);
        let random = fastrand::u64(..);
        let routed = self.route(parts, random);
        let upgrade = self.upgrade(parts, routed.as_ref().ok(), &recorder.info);
        recorder.request(parts);
        let upgrade = match upgrade {
            Ok(upgrade) => upgrade,
            Err(reply) => return Verdict::own(reply, recorder),
        };
        let route = match routed {
            Ok(route) => route,
            Err(Unrouted::NotFound) => {
                listener.stats.rq_total.inc();
                return Verdict::own(LocalReply::ROUTE_NOT_FOUND, recorder);
            }
            Err(Unrouted::TlsRequired(location)) => {
                listener.stats.rq_total.inc();
                listener.stats.rq_direct_response.inc();
                return Verdict::answer(direct::redirect_to_tls(location, &recorder.info, recorder.is_grpc()));
            }
        };
        {
            let mut state = recorder.info.state();
            state.random = random;
            state.route = Some(route.clone());
        }
        if let Some(reply) = filter::run(listener, parts, &route, &recorder.info).await {
            return Verdict::own(reply, recorder);
        }
        listener.stats.rq_total.inc();
        match direct::answer(parts, &route, &recorder.info, recorder.is_grpc()) {
            Some(response) => {
                listener.stats.rq_direct_response.inc();
                Verdict::answer(response)
            }
            None => Verdict::Pass { upgrade },
        }
    }

    fn refuse(&self, refusal: Refusal, parts: &Parts, recorder: &mut Recorder) -> Verdict {
        drop(recorder.observe_connection(parts.version));
        recorder.request(parts);
        let reply = refused(refusal);
        if reply.flags.contains(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) {
            self.listener.stats.downstream_cx_protocol_error.inc();
        }
        let mut response = own_answer(reply, &recorder.info, recorder.is_grpc());
        // Who sends such a request may send anything behind it.
        if parts.version < Version::HTTP_2 && refusal != Refusal::AbsolutePathRejected {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Verdict::answer(response)
    }

    /// The answer to a request whose body breaks the protocol. What became of the upstream's side is a consequence.
    fn malformed(&self, recorder: &Recorder) -> Response<Body> {
        self.listener.stats.downstream_cx_protocol_error.inc();
        recorder.info.state().response_flags = ResponseFlags::NONE;
        own_answer(LocalReply::BAD_REQUEST, &recorder.info, recorder.is_grpc())
    }

    /// Makes the headers tell the truth about the client, and gives the request its id.
    fn sanitize(&self, parts: &mut Parts, connection: &ConnectionInfo, recorder: &Recorder) {
        let config = &self.listener.config;
        let address = connection.remote_address.map_or(UNKNOWN_ADDRESS, |remote| remote.ip());
        let peer = Peer { address, local_address: self.listener.local_address, tls: false };
        let headers = &mut parts.headers;
        let client = forwarded::sanitize(&config.forwarded_for, &peer, headers);
        if config.generate_request_id {
            let replace = client.edge && !config.preserve_external_request_id;
            let existing = if replace { Existing::Replace } else { Existing::Keep };
            request_id::ensure(headers, existing, || [fastrand::u64(..), fastrand::u64(..)]);
        }
        if let Some(via) = &config.via {
            response::append_via(headers, via);
        }
        // The codec answers it when the body is asked for.
        if headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            headers.remove(header::EXPECT);
        }
        let mut state = recorder.observe_connection(parts.version);
        if client.address != address {
            state.downstream_remote_address = Some((client.address, 0).into());
        }
        state.internal = client.internal;
    }

    fn route(&self, parts: &Parts, random: u64) -> Result<Route, Unrouted> {
        let head = RequestHead::from_parts(parts);
        self.listener.routes.read(|routes| match routes.ok_or(Unrouted::NotFound)?.route(&head, random) {
            RouteResult::Matched(route) => Ok(route.to_handle()),
            RouteResult::TlsRequired(_) => Err(Unrouted::TlsRequired(https_location(&head))),
            RouteResult::NoVirtualHost | RouteResult::NoRoute(_) => Err(Unrouted::NotFound),
        })
    }

    /// The client's end of the tunnel if the request may upgrade its connection; removes what concerns only this hop.
    fn upgrade(
        &self,
        parts: &mut Parts,
        route: Option<&Route>,
        info: &StreamInfo,
    ) -> Result<Option<OnUpgrade>, LocalReply> {
        // Clients that try HTTP/2 by upgrade get their answer in HTTP/1.1, as from Envoy.
        let requested = upgrade::requested_upgrade(&parts.headers).filter(|protocol| *protocol != "h2c");
        let Some(protocol) = requested else {
            remove_hop_by_hop(&mut parts.headers, hop_by_hop::Upgrade::Remove);
            return Ok(None);
        };
        // What a program serves itself it may also upgrade itself: its end of the tunnel stays with the request.
        if route.is_some_and(|route| is_served_here(route)) {
            remove_hop_by_hop(&mut parts.headers, hop_by_hop::Upgrade::Pass);
            return Ok(None);
        }
        info.ask_for_upgrade();
        let of_route = route.and_then(|route| route.action()).map_or(&[][..], |action| &action.upgrade_configs);
        if !upgrade::is_allowed(protocol, of_route, &self.listener.config.upgrade_configs) {
            self.listener.stats.downstream_rq_ws_on_non_ws_route.inc();
            return Err(LocalReply::UPGRADE_FAILED);
        }
        remove_hop_by_hop(&mut parts.headers, hop_by_hop::Upgrade::Pass);
        Ok(parts.extensions.remove::<OnUpgrade>())
    }

    /// The request's id, if responses are to tell it.
    fn answered_request_id(&self, parts: &Parts) -> Option<HeaderValue> {
        if self.listener.config.always_set_request_id_in_response {
            parts.headers.get(&X_REQUEST_ID).cloned()
        } else {
            None
        }
    }

    fn is_last(&self, requests: u32) -> bool {
        let is_last = self.listener.config.max_requests_per_connection.is_some_and(|max| requests >= max.get());
        if is_last {
            self.listener.stats.downstream_cx_max_requests_reached.inc();
        }
        is_last
    }

    /// From here on the request is a tunnel; it is recorded when that ends.
    fn spawn_tunnel(&self, tunnel: Tunnel, connection: &ConnectionInfo, recorder: Recorder) {
        let stats = Arc::clone(&self.listener.stats);
        let drain = connection.drain.watch();
        tokio::spawn(async move {
            stats.downstream_cx_upgrades_total.inc();
            stats.downstream_cx_upgrades_active.inc();
            let tunnelled = upgrade::tunnel(tunnel.downstream, tunnel.upstream, drain).await;
            drop(tunnel.held);
            stats.downstream_cx_upgrades_active.dec();
            recorder.tunnelled(tunnelled);
        });
    }
}

impl Verdict {
    fn answer(response: Response<Body>) -> Self {
        Self::Answer(Box::new(response))
    }

    fn own(reply: LocalReply, recorder: &Recorder) -> Self {
        Self::answer(own_answer(reply, &recorder.info, recorder.is_grpc()))
    }
}

fn own_answer(reply: LocalReply, info: &StreamInfo, is_grpc: bool) -> Response<Body> {
    {
        let mut state = info.state();
        state.response_flags.insert(reply.flags);
        state.response_code_details = Some(reply.details.clone());
    }
    reply.into_response(is_grpc).map(Body::from)
}

/// No route takes the request.
enum Unrouted {
    NotFound,
    TlsRequired(String),
}

fn refused(refusal: Refusal) -> LocalReply {
    match refusal {
        Refusal::LowVersion => LocalReply::UPGRADE_REQUIRED,
        Refusal::MissingHost => LocalReply::MISSING_HOST,
        Refusal::InvalidHost | Refusal::InvalidTarget => LocalReply::BAD_REQUEST,
        Refusal::AbsolutePathRejected => LocalReply::ABSOLUTE_PATH_REJECTED,
        Refusal::PathNormalizationFailed => LocalReply::PATH_NORMALIZATION_FAILED,
        Refusal::TooManyHeaders => LocalReply::TOO_MANY_HEADERS,
    }
}

/// Whether no upstream gave the answer: either it was given here, or the service says why there is none.
fn is_local(info: &StreamInfo, origin: Origin) -> bool {
    origin == Origin::Local
        || info.state().response_code_details.as_deref().is_some_and(|why| why != details::VIA_UPSTREAM)
}

/// Whether the program itself, on its own server, wants the connection to end.
fn is_asked_to_end(info: &StreamInfo, response: &http::response::Parts) -> bool {
    response.headers.get_all(header::CONNECTION).iter().any(|value| hop_by_hop::has_token(value, "close"))
        && info.state().route.as_deref().is_some_and(is_served_here)
}

fn is_served_here(route: &RouteEntry<Arc<ClusterSlot>>) -> bool {
    route.route().action == Action::NonForwarding
}

/// Whether an HTTP/1.0 client wants its connection to go on.
fn asks_to_stay(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| hop_by_hop::has_token(value, "keep-alive"))
}
