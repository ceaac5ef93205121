//! One request.

use std::{convert::Infallible, future::poll_fn, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use mesh_core::{
    local_reply::LocalReply,
    model::{Action, HttpFilter},
    policy::{
        fault,
        forwarded::{self, Client, Peer},
        header_mutation,
        hop_by_hop::{self, remove_hop_by_hop},
        request_id::{self, Existing, X_REQUEST_ID},
    },
    request::RequestHead,
    route::{ChosenCluster, RouteEntry, RouteResult, https_location},
    store::ClusterSlot,
    telemetry::{Attributes, ResponseFlags, details},
};
use tower_service::Service;

use super::{
    ConnectionManager, ResponseBody,
    canonical::{Refusal, canonicalize},
    listener::Routes,
    recorder::{Recorder, now},
    response::{self, Origin, Persistence, RequestFacts},
};
use crate::{Body, StreamInfo, server::ConnectionInfo, upgrade};

type Route = Arc<RouteEntry<Arc<ClusterSlot>>>;

/// What the connection manager says about a request before it is passed on.
enum Verdict {
    /// The service is to answer; with the client's end of the tunnel if the request asks for one.
    Pass { upgrade: Option<OnUpgrade> },
    /// This is the answer.
    Answer(Box<Response<Body>>),
}

impl<S> ConnectionManager<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    /// Answers `request`.
    pub(super) async fn handle(
        self: Arc<Self>,
        connection: Arc<ConnectionInfo>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let (mut parts, incoming) = request.into_parts();
        let info = StreamInfo::new(now(), SystemTime::now());
        let body = Body::counted(incoming, &info);
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
        let (response, origin, tunnel) = match verdict {
            Verdict::Answer(response) => (*response, Origin::Local, None),
            Verdict::Pass { upgrade } => {
                parts.extensions.insert(info.clone());
                let response = self.call(Request::from_parts(parts, body)).await;
                (response, Origin::Service, upgrade)
            }
        };
        let (mut response, body) = response::without_body_for_head(response, &method).into_parts();
        let abandons_upload = !info.is_request_complete() && is_local(&info, origin);
        if is_last || ends_by_itself || abandons_upload || connection.drain.is_draining() {
            facts.persistence = Persistence::Close;
        }
        response::finish(&mut response, &self.listener.config, facts, origin);
        recorder.response(&response);
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let (Some(downstream), Some(upstream)) = (tunnel, response.extensions.remove::<OnUpgrade>())
        {
            self.spawn_tunnel(downstream, upstream, &connection, recorder);
            return Ok(Response::from_parts(response, ResponseBody::unrecorded()));
        }
        Ok(Response::from_parts(response, ResponseBody::new(body, recorder)))
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let mut service = self.service.clone();
        match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => service.call(request).await.unwrap_or_else(|never| match never {}),
            Err(never) => match never {},
        }
    }

    /// Everything up to the service. Envoy's order: the request is made canonical and safe, routed, then filtered.
    async fn decide(&self, parts: &mut Parts, connection: &ConnectionInfo, recorder: &mut Recorder) -> Verdict {
        let listener = &*self.listener;
        if let Err(refusal) = canonicalize(parts, &listener.config, connection.local_address.port()) {
            recorder.request(parts, None);
            return answer(refused(refusal), recorder);
        }
        let client = self.sanitize(parts, connection, recorder);
        let random = fastrand::u64(..);
        let routed = self.route(parts, random);
        let upgrade = match self.upgrade(parts, routed.as_ref().ok()) {
            Ok(upgrade) => upgrade,
            Err(reply) => {
                recorder.request(parts, Some(client));
                return answer(reply, recorder);
            }
        };
        recorder.request(parts, Some(client));
        let route = match routed {
            Ok(route) => route,
            Err(Unrouted::NotFound) => return answer(LocalReply::ROUTE_NOT_FOUND, recorder),
            Err(Unrouted::TlsRequired(location)) => return self.redirect_to_tls(location, recorder),
        };
        {
            let mut state = recorder.info.state();
            state.random = random;
            state.route = Some(Arc::clone(&route));
        }
        if let Some(reply) = self.filter(parts, &route, random, recorder).await {
            return answer(reply, recorder);
        }
        match self.direct_answer(parts, &route, recorder) {
            Some(response) => Verdict::Answer(Box::new(response)),
            None => Verdict::Pass { upgrade },
        }
    }

    /// Makes the headers tell the truth about the client, and gives the request its id.
    fn sanitize(&self, parts: &mut Parts, connection: &ConnectionInfo, recorder: &Recorder) -> Client {
        let config = &self.listener.config;
        let peer =
            Peer { address: connection.remote_address.ip(), local_address: self.listener.local_address, tls: false };
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
        let mut state = recorder.info.state();
        let address = connection.remote_address;
        let told = client.address != address.ip();
        state.protocol = Some(parts.version);
        state.downstream_remote_address = Some(if told { (client.address, 0).into() } else { address });
        state.downstream_direct_remote_address = Some(address);
        state.downstream_local_address = Some(connection.local_address);
        state.connection_id = Some(connection.id);
        state.internal = client.internal;
        client
    }

    fn route(&self, parts: &Parts, random: u64) -> Result<Route, Unrouted> {
        let head = RequestHead::from_parts(parts);
        let routes = match &self.listener.routes {
            Routes::Inline(routes) => Arc::clone(routes),
            Routes::Rds(slot) => slot.load().ok_or(Unrouted::NotFound)?,
        };
        match routes.route(&head, random) {
            RouteResult::Matched(route) => Ok(Arc::clone(route)),
            RouteResult::TlsRequired(_) => Err(Unrouted::TlsRequired(https_location(&head))),
            RouteResult::NoVirtualHost | RouteResult::NoRoute(_) => Err(Unrouted::NotFound),
        }
    }

    /// The client's end of the tunnel if the request may upgrade its connection; removes what concerns only this hop.
    fn upgrade(&self, parts: &mut Parts, route: Option<&Route>) -> Result<Option<OnUpgrade>, LocalReply> {
        // Clients that try HTTP/2 by upgrade get their answer in HTTP/1.1, as from Envoy.
        let requested = upgrade::requested_upgrade(&parts.headers).filter(|protocol| *protocol != "h2c");
        let Some(protocol) = requested else {
            remove_hop_by_hop(&mut parts.headers, hop_by_hop::Upgrade::Remove);
            return Ok(None);
        };
        let of_route = route.and_then(|route| route.action()).map_or(&[][..], |action| &action.upgrade_configs);
        if !upgrade::is_allowed(protocol, of_route, &self.listener.config.upgrade_configs) {
            self.listener.stats.downstream_rq_ws_on_non_ws_route.increment();
            return Err(LocalReply::UPGRADE_FAILED);
        }
        remove_hop_by_hop(&mut parts.headers, hop_by_hop::Upgrade::Pass);
        Ok(parts.extensions.remove::<OnUpgrade>())
    }

    /// The HTTP filters in configured order; the answer of the first that has one.
    async fn filter(&self, parts: &Parts, route: &Route, random: u64, recorder: &Recorder) -> Option<LocalReply> {
        for filter in &self.listener.config.http_filters {
            let HttpFilter::Fault(config) = filter;
            let decision = {
                let head = RequestHead::from_parts(parts);
                let choice = route.select_cluster(&head, random);
                let weighted = choice.as_ref().and_then(|choice| choice.weighted);
                let cluster = choice.map(|choice| choice.cluster).and_then(|cluster| match cluster {
                    ChosenCluster::Resolved(slot) => Some(slot.name().as_str()),
                    ChosenCluster::Named(name) => Some(name),
                    ChosenCluster::Unnamed => None,
                });
                let config = route.fault(weighted, Some(config))?;
                fault::decide(config, &head, cluster, [fastrand::u64(..), fastrand::u64(..)])
            };
            if let Some(delay) = decision.delay {
                recorder.info.state().response_flags.insert(ResponseFlags::DELAY_INJECTED);
                tokio::time::sleep(delay).await;
            }
            if let Some(abort) = decision.abort {
                return Some(LocalReply::fault(abort));
            }
        }
        None
    }

    /// What the route answers itself.
    fn direct_answer(&self, parts: &Parts, route: &Route, recorder: &Recorder) -> Option<Response<Body>> {
        let head = RequestHead::from_parts(parts);
        let mut response = match &route.route().action {
            Action::Redirect(redirect) => with_status(redirect.response_code, Body::empty()),
            Action::DirectResponse(direct) => {
                let mut response = with_status(direct.status, Body::from(direct.body.clone()));
                if !direct.body.is_empty() {
                    let text = HeaderValue::from_static("text/plain");
                    response.headers_mut().insert(header::CONTENT_TYPE, text);
                }
                response
            }
            Action::Route(_) | Action::NonForwarding => return None,
        };
        self.listener.stats.rq_direct_response.increment();
        if let Some(location) = route.location(&head).and_then(|location| HeaderValue::try_from(location).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        let mut state = recorder.info.state();
        state.response_code_details = Some(details::DIRECT_RESPONSE.into());
        let attributes = Attributes {
            protocol: state.protocol,
            response_code: Some(response.status()),
            response_code_details: Some(details::DIRECT_RESPONSE),
            start_time: Some(recorder.info.start_time()),
            downstream_remote_address: state.downstream_remote_address,
            downstream_direct_remote_address: state.downstream_direct_remote_address,
            downstream_local_address: state.downstream_local_address,
            connection_id: state.connection_id,
            route_name: Some(&*route.route().name).filter(|name| !name.is_empty()),
            virtual_host_name: Some(&*route.virtual_host().name),
            ..Attributes::of_request(&head)
        };
        header_mutation::apply_to_response(route.response_headers(None), response.headers_mut(), &attributes);
        Some(response)
    }

    fn redirect_to_tls(&self, location: String, recorder: &Recorder) -> Verdict {
        self.listener.stats.rq_direct_response.increment();
        recorder.info.state().response_code_details = Some(details::DIRECT_RESPONSE.into());
        let mut response = with_status(StatusCode::MOVED_PERMANENTLY, Body::empty());
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Verdict::Answer(Box::new(response))
    }

    /// The request's id, if responses are to tell it.
    fn answered_request_id(&self, parts: &Parts) -> Option<HeaderValue> {
        if self.listener.config.always_set_request_id_in_response {
            parts.headers.get(X_REQUEST_ID).cloned()
        } else {
            None
        }
    }

    fn is_last(&self, requests: u32) -> bool {
        let is_last = self.listener.config.max_requests_per_connection.is_some_and(|max| requests >= max.get());
        if is_last {
            self.listener.stats.downstream_cx_max_requests_reached.increment();
        }
        is_last
    }

    /// From here on the request is a tunnel; it is recorded when that ends.
    fn spawn_tunnel(
        &self,
        downstream: OnUpgrade,
        upstream: OnUpgrade,
        connection: &ConnectionInfo,
        recorder: Recorder,
    ) {
        let stats = Arc::clone(&self.listener.stats);
        let drain = connection.drain.watch();
        tokio::spawn(async move {
            stats.downstream_cx_upgrades_total.increment();
            stats.downstream_cx_upgrades_active.increment();
            let bytes = upgrade::tunnel(downstream, upstream, drain).await;
            stats.downstream_cx_upgrades_active.decrement();
            recorder.info.add_bytes_received(bytes.received);
            recorder.info.add_bytes_sent(bytes.sent);
            recorder.complete();
        });
    }
}

fn answer(reply: LocalReply, recorder: &Recorder) -> Verdict {
    {
        let mut state = recorder.info.state();
        state.response_flags.insert(reply.flags);
        state.response_code_details = Some(reply.details.clone());
    }
    Verdict::Answer(Box::new(reply.into_response(recorder.is_grpc()).map(Body::from)))
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
        Refusal::InvalidHost => LocalReply::BAD_REQUEST,
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

/// Whether an HTTP/1.0 client wants its connection to go on.
fn asks_to_stay(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| hop_by_hop::has_token(value, "keep-alive"))
}

fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
