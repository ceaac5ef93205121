//! Information about an active request.
//!
//! A request has one [`StreamInfo`]. The stages of the pipeline write to it: the route, the cluster, the endpoint, failures.
//! Telemetry reads it when the response body has ended. It is one allocation per request and cheap to clone. Byte counts
//! are atomics, because both directions of a stream run concurrently. The other fields are behind a lock that only this
//! request takes, so there is no contention.

use std::{
    borrow::Cow,
    cell::OnceCell,
    net::SocketAddr,
    ops::DerefMut,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Version, header::HOST, request, uri::PathAndQuery};
use mesh_core::{
    cluster::{ClusterState, EndpointState},
    filter::rbac::Report,
    local_reply::LocalReply,
    model::{Metadata, MetadataValue},
    route::RouteHandle,
    store::ClusterSlot,
    telemetry::{Attributes, ResponseFlags},
    tls::TlsInfo,
};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{machine::hostname, timer::now};

/// A shared reference to the information about a request. Clones share the information.
///
/// Servers insert it into the request's extensions, where the service can read it.
#[derive(Clone, Debug)]
pub struct StreamInfo(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    /// Nanoseconds from the start to the end of the request, plus one; 0 = it has not ended.
    request_complete: AtomicU64,
    /// Whether access logs are written. Outside the lock, because it is read for every request.
    is_logged: AtomicBool,
    /// The client has aborted the request.
    request_aborted: AtomicBool,
    /// The request body violates the protocol.
    request_malformed: AtomicBool,
    /// The request has an upgrade protocol.
    asks_for_upgrade: AtomicBool,
    state: Mutex<StreamState>,
}

/// The changing part of a [`StreamInfo`]. Fields have the names of Envoy's `StreamInfo`.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct StreamState {
    /// Protocol of the downstream connection; `None` if the request began in this process.
    pub protocol: Option<Version>,
    /// Address of the client, which may come from a trusted `x-forwarded-for`.
    pub downstream_remote_address: Option<SocketAddr>,
    /// Remote address of the downstream connection.
    pub downstream_direct_remote_address: Option<SocketAddr>,
    /// Local address of the downstream connection.
    pub downstream_local_address: Option<SocketAddr>,
    /// Whether the downstream connection was made to its local address before it was redirected to this process.
    pub is_local_address_restored: bool,
    /// ID of the downstream connection.
    pub connection_id: Option<u64>,
    /// The server name (SNI) that the client requests, also if TLS is passed through.
    pub requested_server_name: Option<Arc<str>>,
    /// The result of the TLS handshake on the downstream connection; `None` = plain text.
    pub downstream_tls: Option<Arc<TlsInfo>>,
    /// Whether the request is internal, so that its `x-envoy-*` headers may override retries and timeouts.
    pub internal: bool,
    /// The request's head for access logs; `None` if no log is written.
    logged_request: Option<Box<LoggedRequest>>,
    /// The route of the request, for access logs, header values and the service. `None` if it is not needed.
    pub route: Option<RouteHandle<Arc<ClusterSlot>>>,
    /// The cluster that the request was sent to.
    pub upstream_cluster: Option<Arc<ClusterState>>,
    /// The endpoint of the last try.
    pub upstream_host: Option<Arc<EndpointState>>,
    /// Response flags.
    pub response_flags: ResponseFlags,
    /// The source of the response; `None` until there is one.
    pub response_source: Option<ResponseSource>,
    /// `%RESPONSE_CODE_DETAILS%`, such as `via_upstream`, for logs only; `None` until there is a response.
    pub response_code_details: Option<Cow<'static, str>>,
    /// Number of tries so far.
    pub attempt_count: u32,
    /// Protocol of the upstream connection.
    pub upstream_protocol: Option<Version>,
    /// Local address of the upstream connection.
    pub upstream_local_address: Option<SocketAddr>,
    /// TLS of the upstream connection; `None` = plain text.
    pub upstream_tls: Option<Arc<TlsInfo>>,
    /// Why the upstream connection could not be established.
    pub upstream_transport_failure_reason: Option<Cow<'static, str>>,
    /// Times of the last try.
    pub upstream_timing: UpstreamTiming,
    /// Dynamic metadata and filter state; `None` until a filter sets any.
    filter_data: Option<Box<FilterData>>,
    /// What access control has decided, which is part of the dynamic metadata.
    access_decisions: SmallVec<[Report; 2]>,
    /// The dynamic metadata with these decisions, made when it is read.
    merged_metadata: OnceCell<Box<Metadata>>,
}

/// The source of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseSource {
    /// An endpoint, or the service of a library server.
    Upstream,
    /// A local reply.
    Local,
    /// A local reply because of `max_stream_duration`.
    MaxStreamDuration,
}

/// Data that filters set for later filters, access logs and header values.
#[derive(Debug, Default)]
struct FilterData {
    dynamic_metadata: Metadata,
    filter_state: Extensions,
}

/// A request's head for access logs. It is updated after the request has been changed, because logs show the request that
/// was sent upstream.
#[derive(Debug)]
struct LoggedRequest {
    names: Arc<[HeaderName]>,
    method: Method,
    authority: Option<HeaderValue>,
    path: Option<PathAndQuery>,
    headers: HeaderMap,
}

/// Times of an exchange with an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTiming {
    /// When the first byte of the request was passed to a connection.
    pub first_upstream_tx_byte_sent: Option<Instant>,
    /// When the response headers were received.
    pub first_upstream_rx_byte_received: Option<Instant>,
    /// When the response ended.
    pub last_upstream_rx_byte_received: Option<Instant>,
}

impl LoggedRequest {
    /// Keeps the headers called `names`.
    fn new(names: &Arc<[HeaderName]>, request: &request::Parts) -> Self {
        let mut logged = Self {
            names: Arc::clone(names),
            method: request.method.clone(),
            authority: None,
            path: None,
            headers: HeaderMap::with_capacity(names.len()),
        };
        logged.observe(request);
        logged
    }

    fn observe(&mut self, request: &request::Parts) {
        self.path = request.uri.path_and_query().cloned();
        self.authority = match request.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => request.headers.get(HOST).cloned(),
        };
        self.headers.clear();
        for name in &*self.names {
            for value in request.headers.get_all(name) {
                self.headers.append(name, value.clone());
            }
        }
    }
}

impl StreamState {
    /// Where the client's connection was made to before it was redirected to this process.
    pub(crate) fn original_destination(&self) -> Option<SocketAddr> {
        self.downstream_local_address.filter(|_| self.is_local_address_restored)
    }

    /// Records the route, unless one is recorded.
    pub(crate) fn observe_route(&mut self, route: impl FnOnce() -> RouteHandle<Arc<ClusterSlot>>) {
        self.route.get_or_insert_with(route);
    }

    /// Records a local reply.
    pub(crate) fn observe_local_reply(&mut self, reply: &LocalReply) {
        self.response_flags.insert(reply.flags);
        self.response_code_details = Some(reply.details.clone());
        self.response_source = Some(ResponseSource::Local);
    }

    /// Whether the response is a local reply.
    pub(crate) fn is_local_reply(&self) -> bool {
        matches!(self.response_source, Some(ResponseSource::Local | ResponseSource::MaxStreamDuration))
    }

    /// The dynamic metadata that filters have set, by namespace. Envoy `StreamInfo::dynamicMetadata`.
    #[must_use]
    pub fn dynamic_metadata(&self) -> Option<&Metadata> {
        let set = self.filter_data.as_deref().map(|data| &data.dynamic_metadata);
        if self.access_decisions.is_empty() {
            return set;
        }
        Some(self.merged_metadata.get_or_init(|| {
            let mut metadata = set.cloned().unwrap_or_default();
            self.access_decisions.iter().for_each(|decision| decision.write(&mut metadata));
            Box::new(metadata)
        }))
    }

    /// Sets the dynamic metadata of `namespace`, which is usually the name of a filter.
    pub fn set_dynamic_metadata(&mut self, namespace: &str, value: MetadataValue) {
        self.merged_metadata.take();
        let data = self.filter_data.get_or_insert_default();
        data.dynamic_metadata.filter_metadata.insert(namespace.into(), value);
    }

    /// Records what access control has decided.
    pub(crate) fn observe_access(&mut self, decision: Report) {
        self.merged_metadata.take();
        self.access_decisions.push(decision);
    }

    /// What access control has decided, in the order of its filters.
    #[must_use]
    pub fn access_decisions(&self) -> &[Report] {
        &self.access_decisions
    }

    /// Typed values that filters set for later filters. Envoy `StreamInfo::filterState`.
    pub fn filter_state(&mut self) -> &mut Extensions {
        &mut self.filter_data.get_or_insert_default().filter_state
    }

    /// The attributes that are known here. Callers add the others: the current request, the response, durations.
    pub(crate) fn attributes<'a>(&'a self, info: &StreamInfo) -> Attributes<'a> {
        let request = self.logged_request.as_deref();
        let host = self.upstream_host.as_deref();
        let cluster = self.upstream_cluster.as_deref().map(|cluster| &**cluster.config());
        let route = self.route.as_deref();
        Attributes {
            method: request.map(|request| &request.method),
            scheme: Some(if self.downstream_tls.is_some() { "https" } else { "http" }),
            authority: request.and_then(|request| request.authority.as_ref()?.to_str().ok()),
            path: request.and_then(|request| request.path.as_ref()).map(PathAndQuery::as_str),
            request_headers: request.map(|request| &request.headers),
            protocol: self.protocol,
            response_code_details: self.response_code_details.as_deref(),
            response_flags: self.response_flags,
            bytes_received: info.bytes_received(),
            bytes_sent: info.bytes_sent(),
            start_time: Some(info.start_time()),
            downstream_remote_address: self.downstream_remote_address,
            downstream_direct_remote_address: self.downstream_direct_remote_address,
            downstream_local_address: self.downstream_local_address,
            connection_id: self.connection_id,
            requested_server_name: self.requested_server_name.as_deref(),
            downstream_tls: self.downstream_tls.as_deref(),
            upstream_tls: self.upstream_tls.as_deref(),
            upstream_protocol: self.upstream_protocol,
            upstream_host: host.map(EndpointState::address),
            upstream_host_name: host.and_then(EndpointState::hostname).map(|name| &**name),
            upstream_remote_address: host
                .filter(|_| self.upstream_protocol.is_some() || self.upstream_local_address.is_some())
                .map(EndpointState::address),
            upstream_local_address: self.upstream_local_address,
            upstream_cluster: cluster.map(|cluster| &*cluster.stat_name),
            upstream_cluster_raw: cluster.map(|cluster| cluster.name.as_str()),
            upstream_request_attempt_count: self.attempt_count,
            upstream_transport_failure_reason: self.upstream_transport_failure_reason.as_deref(),
            route_name: route.map(|route| &*route.route().name).filter(|name| !name.is_empty()),
            dynamic_metadata: self.dynamic_metadata(),
            route_metadata: route.and_then(|route| route.route().metadata.as_deref()),
            virtual_host_name: route.map(|route| &*route.virtual_host().name),
            hostname: hostname(),
            ..Attributes::default()
        }
    }
}

impl StreamInfo {
    /// Creates the information about a request that begins at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self(Arc::new(Shared {
            start,
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            request_complete: AtomicU64::new(0),
            is_logged: AtomicBool::new(false),
            request_aborted: AtomicBool::new(false),
            request_malformed: AtomicBool::new(false),
            asks_for_upgrade: AtomicBool::new(false),
            state: Mutex::default(),
        }))
    }

    /// When the request began.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.0.start
    }

    /// When the request began, as a wall-clock time. Computed from the current time, because it is rarely needed.
    #[must_use]
    pub fn start_time(&self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_sub(crate::timer::now().saturating_duration_since(self.0.start)).unwrap_or(now)
    }

    /// Body bytes received from downstream.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.0.bytes_received.load(Ordering::Relaxed)
    }

    /// Body bytes sent downstream.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.0.bytes_sent.load(Ordering::Relaxed)
    }

    /// Counts body bytes received from downstream.
    pub fn add_bytes_received(&self, bytes: u64) {
        self.0.bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts body bytes sent downstream.
    pub fn add_bytes_sent(&self, bytes: u64) {
        self.0.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the whole request has been received.
    #[must_use]
    pub fn is_request_complete(&self) -> bool {
        self.0.request_complete.load(Ordering::Relaxed) != 0
    }

    /// When the whole request had been received; `None` = it has not yet.
    #[must_use]
    pub fn request_completed_at(&self) -> Option<Instant> {
        let nanoseconds = self.0.request_complete.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.0.start + Duration::from_nanos(nanoseconds))
    }

    /// Records that the whole request has been received, unless that is recorded already.
    pub fn complete_request(&self) {
        if !self.is_request_complete() {
            let elapsed = now().saturating_duration_since(self.0.start).as_nanos();
            let nanoseconds = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1);
            self.0.request_complete.store(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Records that the request was complete from the start, without reading the clock.
    pub(crate) fn complete_at_start(&self) {
        self.0.request_complete.store(1, Ordering::Relaxed);
    }

    /// Records that the request body has failed, because the client has aborted the request.
    pub(crate) fn mark_request_aborted(&self) {
        self.0.request_aborted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_request_aborted(&self) -> bool {
        self.0.request_aborted.load(Ordering::Relaxed)
    }

    /// Records that the request body violates the protocol. The client may still receive a response.
    pub(crate) fn mark_request_malformed(&self) {
        self.0.request_malformed.store(true, Ordering::Relaxed);
        self.mark_request_aborted();
    }

    pub(crate) fn is_request_malformed(&self) -> bool {
        self.0.request_malformed.load(Ordering::Relaxed)
    }

    /// Records that the request has an upgrade protocol. The data of the upgraded connection belongs to the request, so
    /// it is not complete although it has no body.
    pub(crate) fn ask_for_upgrade(&self) {
        self.0.asks_for_upgrade.store(true, Ordering::Relaxed);
    }

    pub(crate) fn asks_for_upgrade(&self) -> bool {
        self.0.asks_for_upgrade.load(Ordering::Relaxed)
    }

    /// Records the current request for access logs, with the headers called `names`.
    pub(crate) fn log_request(&self, names: &Arc<[HeaderName]>, request: &request::Parts) {
        self.0.is_logged.store(true, Ordering::Relaxed);
        self.state().logged_request = Some(Box::new(LoggedRequest::new(names, request)));
    }

    /// Whether access logs are written for the request.
    pub(crate) fn is_logged(&self) -> bool {
        self.0.is_logged.load(Ordering::Relaxed)
    }

    /// Records the current request for access logs, if there are any.
    pub(crate) fn observe_request(&self, request: &request::Parts) {
        if self.is_logged() {
            self.observe_logged(request);
        }
    }

    #[inline(never)]
    fn observe_logged(&self, request: &request::Parts) {
        if let Some(logged) = &mut self.state().logged_request {
            logged.observe(request);
        }
    }

    /// Locks the mutable part. Hold the guard for a few statements only.
    #[must_use]
    pub fn state(&self) -> impl DerefMut<Target = StreamState> + '_ {
        self.0.state.lock()
    }
}
