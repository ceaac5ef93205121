//! The connection manager of a listener with sockets: serves connections, brings requests into canonical form, and adds the
//! headers that every response of the listener has.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use h2::Reason;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts, uri::PathAndQuery,
};
use mesh_core::{
    local_reply::LocalReply,
    model::{HeadersWithUnderscoresAction as Underscores, HttpConnectionManager, Listener, TrafficDirection},
    policy::{
        client_certificate::Treatment,
        forwarded::{self, Peer},
        hop_by_hop,
        request_id::{self, Existing, X_REQUEST_ID},
        user_agent::UserAgent,
    },
    telemetry::{ResponseFlags, details},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    HttpListener, ListenerConfigError, ListenerContext, ListenerFacts, Respond,
    canonical::{Refusal, canonicalize},
    pipeline::Served,
    response::{self, Persistence, RequestFacts},
};
use crate::{
    Body, Downstream,
    call::{Call, Interim, OnFailure, Recorder, ResponseBody, StreamInfo, Tunnelling},
    cluster_client::ClusterClients,
    codec::{Codecs, Connection, ConnectionInfo, Lifetime, Refuse, ResetStream, drop_underscores, has_underscore},
    drain::DrainWatch,
    machine::local_address,
    peer_metadata::ClientMetadata,
    telemetry::CodecStats,
    timer::now,
    upgrade,
};

/// The address of a client whose address is unknown.
const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Serves the connections of one listener; `S` answers the requests that its filters and routes do not answer.
pub struct ConnectionManager<S> {
    pub(super) listener: Arc<HttpListener>,
    pub(super) edge: Arc<Edge>,
    pub(super) service: S,
}

/// What the connections of the listener need.
pub(super) struct Edge {
    codecs: Codecs,
    codec_stats: Arc<CodecStats>,
    local_address: Option<IpAddr>,
    user_agent: Option<UserAgent>,
}

impl<S> ConnectionManager<S> {
    /// Serves connections of `listener` as `http` configures, with the routes and clusters of `context`.
    ///
    /// # Errors
    /// If routes given in the listener cannot be compiled, an access log cannot be opened, or a filter sends requests of its
    /// own and `context` has no worker.
    pub fn new(
        listener: &Listener,
        http: Arc<HttpConnectionManager>,
        context: &ListenerContext,
        service: S,
    ) -> Result<Self, ListenerConfigError> {
        let ListenerContext { store, telemetry, .. } = context;
        let is_inbound = listener.traffic_direction == TrafficDirection::Inbound;
        let facts = ListenerFacts {
            name: Arc::clone(&listener.name),
            stat_prefix: Arc::clone(&listener.stat_prefix),
            traffic_direction: listener.traffic_direction,
            service: telemetry.service.clone().filter(|_| is_inbound),
            default_authority: None,
        };
        let names = &telemetry.local_info;
        let user_agent = if http.add_user_agent { UserAgent::new(&names.cluster_name, &names.node_name) } else { None };
        let codec_stats = telemetry.stats.codec();
        let edge =
            Edge { codecs: Codecs::new(&http, &codec_stats), codec_stats, local_address: local_address(), user_agent };
        let clients = context.clients();
        let clients = clients.as_ref().map(|clients| clients as &dyn ClusterClients);
        let listener = Arc::new(HttpListener::new(facts, http, store, telemetry, clients)?);
        Ok(Self { listener, edge: Arc::new(edge), service })
    }

    /// A connection manager with the same configuration and another service.
    pub(crate) fn with_service<T>(&self, service: T) -> ConnectionManager<T> {
        ConnectionManager { listener: Arc::clone(&self.listener), edge: Arc::clone(&self.edge), service }
    }
}

impl<S: Respond> ConnectionManager<S> {
    /// Serves one connection until it ends. `drain` drains it.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub fn serve_connection<I>(
        self: Arc<Self>,
        io: I,
        downstream: Downstream,
        drain: DrainWatch,
    ) -> impl Future<Output = ()> + Send + use<I, S>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = &self.listener.config;
        let lifetime =
            Lifetime { idle_timeout: config.idle_timeout, max_connection_duration: config.max_connection_duration };
        let info = Arc::new(ConnectionInfo::new(downstream, drain.drain()));
        let stats = Arc::clone(&self.listener.stats);
        let connection = Box::new(Connection::new(io, Arc::clone(&info), stats, lifetime, drain));
        async move {
            let service = |request, interim| Arc::clone(&self).handle(Arc::clone(&info), request, interim);
            let answer = |reply, since| self.answer_unserved(&info, reply, since);
            connection.serve(&self.edge.codecs, service, Refuse { answer: &answer, is_program: S::IS_PROGRAM }).await;
        }
    }

    /// Answers `request`. Interim responses go to `interim`, if the connection sends them.
    pub(crate) async fn handle(
        self: Arc<Self>,
        connection: Arc<ConnectionInfo>,
        request: Request<Body>,
        interim: Option<Interim>,
    ) -> Response<ResponseBody> {
        let mut call = Call::new(request);
        call.interim = interim;
        if !S::IS_PROGRAM {
            call.tunnelling = Tunnelling::Possible;
        }
        let mut recorder = self.recorder(&connection, StreamInfo::new(now()), &mut call);
        let is_last = self.is_last(connection.request_started());
        if is_last {
            connection.take_no_more();
        }
        let method = call.head.method.clone();
        let version = call.head.version;
        let is_not_persistent = version < Version::HTTP_11 && !asks_to_keep_alive(&call.head.headers);
        let admitted = self.admit(&mut call, &connection, &mut recorder);
        let mut facts =
            RequestFacts { version, request_id: self.response_request_id(&call.head), persistence: Persistence::Keep };
        let (client, served) = match admitted {
            Ok(client) => {
                let served = self.listener.serve(&self.service, &mut call, &mut recorder).await;
                (client, served)
            }
            Err(Refusal::UnexpectedUnderscore) => return reset_for_underscore(recorder),
            Err(refusal) => {
                self.refuse(refusal, &mut call, &mut recorder);
                (ClientMetadata::default(), Served::default())
            }
        };
        let on_failure = OnFailure::of(call.is_grpc() && served.by_program);
        let info = recorder.info();
        if info.is_request_malformed() && info.state().is_local_reply() {
            if version == Version::HTTP_2 {
                return reset_for_underscore(recorder);
            }
            self.reply_malformed(&mut call, info);
        }
        let response = call.response.take().unwrap_or_default();
        let (mut response, body) = response::without_body_for_head(response, &method).into_parts();
        let is_local = info.state().is_local_reply();
        let is_tunnel = opens_tunnel(&call, &method, &response, &served);
        let abandons_upload = !info.is_request_complete() && is_local;
        if is_last
            || is_not_persistent
            || abandons_upload
            || (info.asks_for_upgrade() && !is_tunnel)
            || connection.drain.is_draining()
            || (served.by_program && asks_to_close(&response.headers))
        {
            facts.persistence = Persistence::Close;
        }
        let has_disconnected = abandons_upload && info.is_request_aborted() && !info.is_request_malformed();
        let server = self.listener.peers.receive_response(&mut response.headers);
        recorder.observe_server(server);
        self.listener.peers.send_response(&mut response.headers, &client);
        if is_tunnel {
            facts.persistence = Persistence::Switch;
        }
        response::finish(&mut response, &self.listener.config, facts, is_local);
        if has_disconnected {
            recorder.client_disconnected();
            return Response::from_parts(response, ResponseBody::unrecorded(body));
        }
        recorder.observe_response_head(&response);
        ResponseBody::wrap(Response::from_parts(response, body), recorder, served.timeouts, on_failure)
    }

    /// Brings a request into canonical form and sanitizes its headers, or refuses it.
    fn admit(
        &self,
        call: &mut Call,
        connection: &ConnectionInfo,
        recorder: &mut Recorder,
    ) -> Result<ClientMetadata, Refusal> {
        if call.head.version == Version::HTTP_2 {
            self.check_underscores(&mut call.head.headers)?;
        }
        canonicalize(
            &mut call.head,
            call.survey.hop_by_hop,
            &self.listener.config,
            connection.downstream.local_address().map_or(0, |address| address.port()),
        )?;
        self.sanitize(call, connection, recorder.info());
        let mut metadata = self.listener.peers.receive_request(&mut call.head.headers);
        recorder.observe_client(metadata.client.take());
        Ok(metadata)
    }

    /// Removes the headers of an HTTP/2 request whose names have an underscore, or refuses it. The codec does this for HTTP/1.
    fn check_underscores(&self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let stats = &self.edge.codec_stats;
        match self.listener.config.headers_with_underscores_action {
            Underscores::Allow => {}
            Underscores::DropHeader => {
                stats.http2_dropped_headers_with_underscores.add(drop_underscores(headers));
            }
            Underscores::RejectRequest if headers.keys().any(has_underscore) => {
                stats.http2_requests_rejected_with_underscores_in_headers.inc();
                return Err(Refusal::UnexpectedUnderscore);
            }
            Underscores::RejectRequest => {}
        }
        Ok(())
    }

    fn refuse(&self, refusal: Refusal, call: &mut Call, recorder: &mut Recorder) {
        recorder.observe_request(&call.head);
        let reply = refusal.reply();
        let is_violation = reply.flags.contains(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
        if is_violation {
            self.listener.stats.downstream_cx_protocol_error.inc();
        }
        call.reply(recorder.info(), reply);
        self.count_normalization(refusal, call);
        let may_stay = self.listener.config.http1.override_stream_error_on_invalid_http_message && !is_violation;
        // What follows an invalid request on the connection may be anything.
        if call.head.version < Version::HTTP_2
            && ![Refusal::AbsolutePathRejected, Refusal::PathNormalizationRedirected].contains(&refusal)
            && !may_stay
            && let Some(response) = &mut call.response
        {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Counts a request whose path is not normal, and tells its client where to go, if it may come again.
    fn count_normalization(&self, refusal: Refusal, call: &mut Call) {
        match (refusal, &mut call.response) {
            (Refusal::PathNormalizationFailed, _) => self.listener.stats.downstream_rq_failed_path_normalization.inc(),
            (Refusal::PathNormalizationRedirected, Some(response)) => {
                self.listener.stats.downstream_rq_redirected_with_normalized_path.inc();
                let path = call.head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
                if let Ok(location) = HeaderValue::from_str(path) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
            }
            _ => {}
        }
    }

    /// Responds to a request whose body violates the protocol. The flags of the upstream reset that follows from it are
    /// discarded.
    fn reply_malformed(&self, call: &mut Call, info: &StreamInfo) {
        self.listener.stats.downstream_cx_protocol_error.inc();
        info.state().response_flags = ResponseFlags::NONE;
        call.reply(info, LocalReply::BAD_REQUEST);
    }

    /// Sanitizes the headers about the client, and sets the request id.
    fn sanitize(&self, call: &mut Call, connection: &ConnectionInfo, info: &StreamInfo) {
        let config = &self.listener.config;
        let address = connection.downstream.remote_address().map_or(UNKNOWN_ADDRESS, |remote| remote.ip());
        let peer = Peer { address, local_address: self.edge.local_address, tls: connection.downstream.tls.is_some() };
        let headers = &mut call.head.headers;
        let client = forwarded::sanitize(&config.forwarded_for, &peer, headers);
        let certificate = connection.client_certificate(config.forward_client_cert);
        if *certificate != Treatment::Remove || call.survey.has_client_certificate {
            certificate.apply(headers);
        }
        if let Some(user_agent) = &self.edge.user_agent {
            user_agent.apply(headers);
        }
        if config.generate_request_id {
            let replace = client.edge && !config.preserve_external_request_id;
            let existing = if replace { Existing::Replace } else { Existing::Keep };
            request_id::ensure(headers, existing, || [fastrand::u64(..), fastrand::u64(..)]);
        }
        if let Some(via) = &config.via {
            response::append_via(headers, via);
        }
        if !config.proxy_100_continue {
            answer_expectation(call);
        }
        let mut state = info.state();
        if client.address != address {
            state.downstream_remote_address = Some((client.address, 0).into());
        }
        state.internal = client.internal;
    }

    /// The id of the request, if responses have it.
    fn response_request_id(&self, parts: &Parts) -> Option<HeaderValue> {
        let is_set = self.listener.config.always_set_request_id_in_response;
        if is_set { parts.headers.get(X_REQUEST_ID).cloned() } else { None }
    }

    fn is_last(&self, requests: u32) -> bool {
        let is_last = self.listener.config.max_requests_per_connection.is_some_and(|max| requests >= max.get());
        if is_last {
            self.listener.stats.downstream_cx_max_requests_reached.inc();
        }
        is_last
    }
}

impl<S> ConnectionManager<S> {
    /// The recorder of a request on `connection`.
    pub(super) fn recorder(&self, connection: &Arc<ConnectionInfo>, info: StreamInfo, call: &mut Call) -> Recorder {
        {
            let mut state = info.state();
            state.protocol = Some(call.head.version);
            let downstream = &connection.downstream;
            state.downstream_remote_address = downstream.remote_address();
            state.downstream_direct_remote_address = downstream.facts.direct_source;
            state.downstream_local_address = downstream.local_address();
            state.is_local_address_restored = downstream.facts.is_destination_restored;
            state.connection_id = Some(downstream.id);
            state.requested_server_name = downstream.requested_server_name().cloned();
            state.downstream_tls.clone_from(&downstream.tls);
        }
        let connection = Arc::clone(connection);
        Recorder::start(&self.listener.telemetry, Some(connection), info, call)
    }
}

impl<S> fmt::Debug for ConnectionManager<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionManager").field("config", &self.listener.config).finish_non_exhaustive()
    }
}

/// Whether a response switches the protocol of the connection.
fn opens_tunnel(call: &Call, method: &Method, response: &http::response::Parts, served: &Served) -> bool {
    let is_switching = response.status == StatusCode::SWITCHING_PROTOCOLS;
    match call.tunnelling {
        Tunnelling::Requested if *method == Method::CONNECT => response.status.is_success(),
        Tunnelling::Requested => is_switching && upgrade::requested_upgrade(&response.headers).is_some(),
        // A program that responds itself knows what it does.
        Tunnelling::Possible | Tunnelling::ByProgram => served.by_program && is_switching,
    }
}

/// The outcome of an HTTP/2 request with a header or a trailer whose name has an underscore.
fn reset_for_underscore(recorder: Recorder) -> Response<ResponseBody> {
    recorder.refused_by_reset(details::HTTP2_UNEXPECTED_UNDERSCORE);
    let mut response = Response::new(ResponseBody::unrecorded(Body::empty()));
    response.extensions_mut().insert(ResetStream(Reason::INTERNAL_ERROR));
    response
}

/// Answers `expect: 100-continue`. The endpoint does not see it then. As in Envoy, the client gets no other interim responses.
fn answer_expectation(call: &mut Call) {
    let interim = call.interim.take();
    if !call.survey.has_expect {
        return;
    }
    let headers = &mut call.head.headers;
    if headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(header::EXPECT);
        if let Some(interim) = interim {
            interim.push(StatusCode::CONTINUE, HeaderMap::new());
        }
    }
}

/// Whether a response of the program itself closes the connection.
fn asks_to_close(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| hop_by_hop::has_token(value, "close"))
}

/// Whether an HTTP/1.0 client keeps its connection open.
fn asks_to_keep_alive(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| hop_by_hop::has_token(value, "keep-alive"))
}
