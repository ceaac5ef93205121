//! The client's side of the protocol, without I/O.
//!
//! ```text
//!              a subscription exists,           the stream
//!              the pause is over                is open
//! Waiting ───────────────────────► Connecting ────────────► Streaming
//!    ▲                                 │                        │
//!    └─────────────────────────────────┴────────────────────────┘
//!        the attempt failed or took too long; the stream ended
//! ```
//!
//! There are two variants of the protocol. State-of-the-world: a response for clusters or listeners has all of them, a response
//! for endpoints or routes has the resources that it names. Incremental: see `incremental`. If some resources of a response are refused, the others are
//! accepted and the response gets a NACK with the reasons (gRFC A46, A57). Accepted resources survive a lost stream:
//! the next stream requests them again, and only differences are reported.
//!
//! Connecting is an input like any other: the machine requests it with [`Event::Connect`], and
//! [`Machine::handle_stream_up`] or [`Machine::handle_stream_down`] handles the outcome.

mod incremental;
mod servers;
mod type_state;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::resilience::connection_back_off;
use mesh_core::rng::Rng;
use prost_types::Any;

use self::servers::Servers;
use self::type_state::{TypeState, error_text};
use super::interest::Interest;
use super::request::{Changes, Request};
use super::response::Response;
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use crate::resource::{Decoded, ResourceError, ResourceType, Sources};

/// Timeout of a requested resource. Envoy `initial_fetch_timeout`, gRFC A57.
pub const RESOURCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of a requested resource of a control plane with [`ServerOptions::resource_timer_is_transient_error`]. gRFC A88.
pub const LONG_RESOURCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of opening a stream.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What is special about a control plane. gRFC A53, A88 `server_features`. By default nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "one for each feature, under its name")]
pub struct ServerOptions {
    /// Listeners and clusters that a response no longer has stay in force.
    pub ignore_resource_deletion: bool,
    /// The control plane says which resources do not exist, so the client waits for them for 30 s instead of 15 s.
    pub resource_timer_is_transient_error: bool,
    /// The client behaves as those of gRPC, where they differ from Envoy. Its clusters are
    /// [`proxyless`](mesh_core::model::Cluster::proxyless), and one that a response no longer has is not used any more, even
    /// while a route in force names it (gRFC A53).
    pub proxyless: bool,
    /// A proxyless client lets the authority of requests be rewritten. gRFC A81.
    pub trusted_xds_server: bool,
}

impl ServerOptions {
    fn resource_timeout(self) -> Duration {
        if self.resource_timer_is_transient_error { LONG_RESOURCE_TIMEOUT } else { RESOURCE_TIMEOUT }
    }
}

/// The changes of a response.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Update {
    /// The kind of resource.
    pub resource_type: ResourceType,
    /// The control plane's version of the response.
    pub version: Arc<str>,
    /// Whether it has only resources that have been requested since the last response.
    pub is_answer: bool,
    /// New and changed resources.
    pub accepted: Vec<Decoded>,
    /// Resources that no longer exist.
    pub removed: Vec<Arc<str>>,
    /// Refused resources; their predecessors stay in force.
    pub rejected: Vec<Rejected>,
}

/// A refused resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Its name, the field and the reason.
    pub error: ResourceError,
    /// The resource as it was received.
    pub resource: Arc<Any>,
}

impl Update {
    /// An update with these resources.
    #[must_use]
    pub fn new(resource_type: ResourceType, accepted: Vec<Decoded>) -> Self {
        let (version, removed, rejected) = ("".into(), Vec::new(), Vec::new());
        Self { resource_type, version, is_answer: false, accepted, removed, rejected }
    }
}

/// An action for the caller.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Begin to open a stream.
    Connect,
    /// Abandon opening a stream: it took longer than [`CONNECT_TIMEOUT`].
    Abandon,
    /// End the stream: a preferred control plane has responded.
    Leave,
    /// Find out whether one of the first control planes responds, and report it to [`Machine::handle_probe`].
    Probe {
        /// How many of them.
        servers: usize,
        /// What to send.
        request: Request,
    },
    /// Send this.
    Send(Request),
    /// Apply this.
    Update(Update),
    /// A resource that was requested does not exist.
    Missing {
        /// The kind of resource.
        resource_type: ResourceType,
        /// Its name.
        name: Arc<str>,
    },
    /// Received resources that are no longer wanted; their changes will not be received.
    Unsubscribed {
        /// The kind of resource.
        resource_type: ResourceType,
        /// Their names.
        names: Vec<Arc<str>>,
    },
}

/// The client's side of the protocol.
#[derive(Debug)]
pub struct Machine {
    node: Arc<Node>,
    sources: Sources,
    options: ServerOptions,
    servers: Servers,
    is_incremental: bool,
    stream: StreamState,
    types: [TypeState; ResourceType::ALL.len()],
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum StreamState {
    /// Not to connect before the moment, after so many failures in a row.
    Waiting { until: Instant, failures: u32 },
    /// A stream is being opened, until the moment at the latest.
    Connecting { until: Instant, failures: u32 },
    /// Messages pass. `failures` is forgotten with the first response.
    Streaming { failures: u32, node_sent: bool },
}

impl Machine {
    /// A client without connection and subscriptions. It connects with the first subscription.
    #[must_use]
    pub fn new(node: Node, now: Instant) -> Self {
        Self {
            node: Arc::new(node),
            sources: Sources::default(),
            options: ServerOptions::default(),
            servers: Servers::new(1),
            is_incremental: false,
            stream: StreamState::Waiting { until: now, failures: 0 },
            types: Default::default(),
            events: VecDeque::new(),
        }
    }

    /// Sets the sources that resources may name beside the stream. Default none.
    #[must_use]
    pub fn with_sources(self, sources: Sources) -> Self {
        Self { sources, ..self }
    }

    /// Sets how many control planes there are, and what is special about them. Default one, and nothing.
    #[must_use]
    pub fn with_servers(self, number: usize, options: ServerOptions) -> Self {
        Self { servers: Servers::new(number), options, ..self }
    }

    /// Uses the incremental variant of the protocol ("delta xDS"), which the transport must carry. Default state of the world.
    #[must_use]
    pub fn incremental(self) -> Self {
        Self { is_incremental: true, ..self }
    }

    /// What is special about the control planes.
    #[must_use]
    pub fn options(&self) -> ServerOptions {
        self.options
    }

    /// The control plane of [`Event::Connect`]: its position in order of preference.
    #[must_use]
    pub fn server(&self) -> usize {
        self.servers.current()
    }

    /// Whether a stream is open.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(self.stream, StreamState::Streaming { .. })
    }

    /// Whether every wanted resource has been received, or is known not to exist.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.types.iter().all(|state| match state.interest {
            Interest::Nothing => true,
            Interest::Everything => state.is_answered,
            Interest::Names(_) => state.awaited.is_empty(),
        })
    }

    /// Whether a resource of this name has been accepted and is still wanted.
    #[must_use]
    pub fn has(&self, resource_type: ResourceType, name: &str) -> bool {
        self.types[resource_type as usize].accepted.contains_key(name)
    }

    /// The accepted resource of this name, as it was received, if it is still wanted.
    #[must_use]
    pub fn accepted(&self, resource_type: ResourceType, name: &str) -> Option<&Arc<Any>> {
        self.types[resource_type as usize].accepted.get(name)
    }

    /// Changes the interest in a type of resource. Without a stream, it is requested on the next one.
    pub fn subscribe(&mut self, resource_type: ResourceType, interest: Interest, now: Instant) {
        let until = self.is_streaming().then(|| now + self.options.resource_timeout());
        let state = &mut self.types[resource_type as usize];
        if state.interest == interest {
            return;
        }
        let names = state.change_interest(interest, until);
        if !names.is_empty() {
            self.events.push_back(Event::Unsubscribed { resource_type, names });
        }
        self.send(resource_type);
    }

    /// Handles that the stream of [`Event::Connect`] is open.
    pub fn handle_stream_up(&mut self, now: Instant) {
        let StreamState::Connecting { failures, .. } = self.stream else { return };
        self.stream = StreamState::Streaming { failures, node_sent: false };
        let is_other = self.servers.handle_up(now);
        let until = now + self.options.resource_timeout();
        for kind in ResourceType::ALL {
            let state = &mut self.types[kind as usize];
            // Nonces belong to a stream, versions do not.
            (state.nonce, state.is_requested, state.subscribed) = (Arc::default(), false, Arc::default());
            if is_other {
                state.version = Arc::default();
                state.versions.clear();
            }
            state.awaited.values_mut().for_each(|deadline| *deadline = Some(until));
            if state.interest != Interest::Nothing {
                self.send(kind);
            }
        }
    }

    /// Handles that the stream ended or could not be opened. `rng` spreads the reconnects of many clients.
    pub fn handle_stream_down(&mut self, now: Instant, rng: &mut impl Rng) {
        let (StreamState::Streaming { failures, .. } | StreamState::Connecting { failures, .. }) = self.stream else {
            return;
        };
        let goes_on = self.servers.handle_down(!self.is_answered());
        let (until, failures) =
            if goes_on { (now, failures) } else { (now + connection_back_off(failures, rng), failures + 1) };
        self.wait(until, failures);
    }

    /// Handles which of the control planes of [`Event::Probe`] has responded first, if any.
    pub fn handle_probe(&mut self, responded: Option<usize>, now: Instant, rng: &mut impl Rng) {
        if self.is_streaming() && self.servers.handle_probe(responded, now, rng) {
            self.wait(now, 0);
            self.events.push_back(Event::Leave);
        }
    }

    fn wait(&mut self, until: Instant, failures: u32) {
        // Requests and acknowledgements belong to the lost stream.
        self.events.retain(|event| !matches!(event, Event::Send(_) | Event::Probe { .. }));
        self.types.iter_mut().flat_map(|state| state.awaited.values_mut()).for_each(|until| *until = None);
        self.stream = StreamState::Waiting { until, failures };
    }

    /// Handles a response: decodes new and changed resources, and acknowledges or refuses the response.
    pub fn handle_response(&mut self, response: impl Into<Response>) {
        let StreamState::Streaming { failures, .. } = &mut self.stream else { return };
        *failures = 0;
        self.servers.handle_response();
        let response = response.into();
        let (Response::Whole(DiscoveryResponse { type_url, .. })
        | Response::Incremental(DeltaDiscoveryResponse { type_url, .. })) = &response;
        let Some(kind) = ResourceType::from_type_url(type_url) else {
            // Not requested, and a type that is not supported cannot be refused.
            return;
        };
        // An acknowledgement without names would subscribe to everything.
        if !self.types[kind as usize].is_requested {
            return;
        }
        match response {
            Response::Whole(response) => self.handle_whole(kind, response),
            Response::Incremental(response) => self.handle_incremental(kind, response),
        }
    }

    fn handle_incremental(&mut self, kind: ResourceType, response: DeltaDiscoveryResponse) {
        let state = &mut self.types[kind as usize];
        state.nonce = response.nonce.as_str().into();
        let (update, missing) = state.take_changes(kind, response, (&self.sources, self.options));
        let error = (!update.rejected.is_empty()).then(|| error_text(&update.rejected));
        self.answer(kind, error);
        self.events.push_back(Event::Update(update));
        self.events.extend(missing.into_iter().map(|name| Event::Missing { resource_type: kind, name }));
    }

    fn handle_whole(&mut self, kind: ResourceType, response: DiscoveryResponse) {
        let state = &mut self.types[kind as usize];
        state.nonce = response.nonce.as_str().into();
        let version: Arc<str> = response.version_info.as_str().into();
        let update = state.take(kind, Arc::clone(&version), response.resources, (&self.sources, self.options));
        let error = (!update.rejected.is_empty()).then(|| error_text(&update.rejected));
        if error.is_none() {
            state.version = version;
        }
        self.answer(kind, error);
        self.events.push_back(Event::Update(update));
    }

    /// Handles the time that [`Machine::poll_timeout`] has returned.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) {
        match self.stream {
            StreamState::Waiting { until, failures } if until <= now && self.has_interest() => {
                self.stream = StreamState::Connecting { until: now + CONNECT_TIMEOUT, failures };
                self.events.push_back(Event::Connect);
            }
            StreamState::Connecting { until, .. } if until <= now => {
                self.handle_stream_down(now, rng);
                self.events.push_back(Event::Abandon);
            }
            StreamState::Streaming { .. } if self.servers.begin_probe(now) => {
                self.events
                    .extend(self.probe().map(|request| Event::Probe { servers: self.servers.current(), request }));
            }
            StreamState::Waiting { .. } | StreamState::Connecting { .. } | StreamState::Streaming { .. } => {}
        }
        for kind in ResourceType::ALL {
            let awaited = &mut self.types[kind as usize].awaited;
            let overdue = awaited.extract_if(|_, until| until.is_some_and(|until| until <= now));
            let mut names: Vec<_> = overdue.map(|(name, _)| name).collect();
            names.sort();
            self.events.extend(names.into_iter().map(|name| Event::Missing { resource_type: kind, name }));
        }
    }

    /// The next action; `None` until the next input.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Machine::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stream = match self.stream {
            StreamState::Waiting { until, .. } => self.has_interest().then_some(until),
            StreamState::Connecting { until, .. } => Some(until),
            StreamState::Streaming { .. } => self.servers.poll_timeout(),
        };
        self.types.iter().flat_map(|state| state.awaited.values().copied().flatten()).chain(stream).min()
    }

    /// The first request of a stream, for one type of resource.
    fn probe(&self) -> Option<Request> {
        let kind =
            ResourceType::ALL.into_iter().find(|kind| self.types[*kind as usize].interest != Interest::Nothing)?;
        let names = self.types[kind as usize].interest.names();
        let changes = self.is_incremental.then(|| Changes::subscribing(BTreeSet::clone(&names)));
        let mut request = Request::new(kind, names);
        (request.node, request.changes) = (Some(Arc::clone(&self.node)), changes.map(Box::new));
        Some(request)
    }

    fn has_interest(&self) -> bool {
        self.types.iter().any(|state| state.interest != Interest::Nothing)
    }

    /// Sends what is requested of a type.
    fn send(&mut self, kind: ResourceType) {
        let changes = if self.is_incremental && self.is_streaming() {
            let Some(changes) = self.types[kind as usize].subscription_changes() else { return };
            Some(changes)
        } else {
            None
        };
        // In the incremental variant, a nonce acknowledges.
        let nonce = if self.is_incremental { Arc::default() } else { Arc::clone(&self.types[kind as usize].nonce) };
        self.push_request(kind, nonce, changes, None);
    }

    /// Acknowledges the last response for a type, or refuses it.
    fn answer(&mut self, kind: ResourceType, error: Option<String>) {
        let changes = self.is_incremental.then(Changes::default);
        let nonce = Arc::clone(&self.types[kind as usize].nonce);
        self.push_request(kind, nonce, changes, error);
    }

    fn push_request(&mut self, kind: ResourceType, nonce: Arc<str>, changes: Option<Changes>, error: Option<String>) {
        let StreamState::Streaming { node_sent, .. } = &mut self.stream else { return };
        let node = (!std::mem::replace(node_sent, true)).then(|| Arc::clone(&self.node));
        let state = &mut self.types[kind as usize];
        state.is_requested = true;
        self.events.push_back(Event::Send(Request {
            resource_type: kind,
            resource_names: state.interest.names(),
            version_info: Arc::clone(&state.version),
            response_nonce: nonce,
            node,
            error,
            changes: changes.map(Box::new),
        }));
    }
}

#[cfg(test)]
mod tests;
