//! The state-of-the-world ADS client, without I/O.
//!
//! ```text
//!              poll_event: Connect          handle_stream_up
//!   waiting ──────────────────────► connecting ─────────────► streaming
//!      ▲  handle_timeout: back-off over  │                        │
//!      └─────────────────────────────────┴────────────────────────┘
//!                          handle_stream_down
//! ```
//!
//! While streaming, each kind of resource goes its own way: a request is sent when its interest changes or a response
//! is answered; a name that was asked for and has not come within 15 s is reported as missing (gRFC A57). What was
//! accepted stays in force over reconnects.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use prost_types::Any;

use super::Request;
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use crate::resource::{self, Decoded, FieldError, ResourceError, ResourceType};

/// How long a resource that was asked for may take to come. Envoy `initial_fetch_timeout`, gRFC A57.
pub const RESOURCE_TIMEOUT: Duration = Duration::from_secs(15);
/// First pause before reconnecting.
const BASE_BACK_OFF: Duration = Duration::from_secs(1);
/// Longest pause before reconnecting.
const MAX_BACK_OFF: Duration = Duration::from_secs(120);
/// Longest text of a NACK, in bytes; what is left out is counted in it.
const MAX_ERROR_TEXT: usize = 4096;

/// What is wanted of a kind of resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// Nothing: the kind is not requested.
    #[default]
    Nothing,
    /// Whatever the control plane has for this node.
    Everything,
    /// These.
    Names(Arc<BTreeSet<Arc<str>>>),
}

impl Interest {
    /// Whether a resource of this name is wanted.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Names(names) => names.contains(name),
        }
    }
}

/// What a response brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The kind of resource.
    pub resource_type: ResourceType,
    /// The control plane's version of the response.
    pub version: Arc<str>,
    /// New and changed resources.
    pub accepted: Vec<Decoded>,
    /// Resources that exist no longer.
    pub removed: Vec<Arc<str>>,
    /// Resources that are not taken; their predecessors stay in force.
    pub rejected: Vec<ResourceError>,
}

/// Something for the driver to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Open a stream, then call [`Machine::handle_stream_up`] or [`Machine::handle_stream_down`].
    Connect,
    /// Send this.
    Send(Request),
    /// Apply this.
    Update(Update),
    /// A resource that was asked for does not exist.
    Missing {
        /// The kind of resource.
        resource_type: ResourceType,
        /// Its name.
        name: Arc<str>,
    },
}

/// The client's side of the protocol.
#[derive(Debug)]
pub struct Machine {
    node: Arc<Node>,
    stream: StreamState,
    types: [TypeState; ResourceType::ALL.len()],
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum StreamState {
    /// Not connected until the moment, after so many failures in a row.
    Waiting { until: Instant, failures: u32 },
    /// The driver is connecting.
    Connecting { failures: u32 },
    /// Messages pass. `failures` is forgotten with the first response.
    Streaming { failures: u32, node_sent: bool },
}

/// One kind of resource.
#[derive(Debug, Default)]
struct TypeState {
    interest: Interest,
    /// Version of the last response that was taken whole.
    version: Arc<str>,
    nonce: Arc<str>,
    /// Bytes of the resources in force, by name; to pass over what has not changed.
    accepted: HashMap<Arc<str>, Any>,
    /// Names asked for that have not come, and until when they may.
    awaited: HashMap<Arc<str>, Instant>,
    /// Whether any response has come.
    answered: bool,
}

impl Machine {
    /// A client that is not connected and wants nothing.
    #[must_use]
    pub fn new(node: Node, now: Instant) -> Self {
        Self {
            node: Arc::new(node),
            stream: StreamState::Waiting { until: now, failures: 0 },
            types: Default::default(),
            events: VecDeque::new(),
        }
    }

    /// Whether messages pass.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(self.stream, StreamState::Streaming { .. })
    }

    /// Whether every kind that is wanted has been answered and no name is awaited any more.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.types.iter().all(|state| {
            let is_wanted = state.interest != Interest::Nothing;
            state.awaited.is_empty() && (state.answered || !is_wanted)
        })
    }

    /// Version of the last response of this kind that was taken whole; empty before the first.
    #[must_use]
    pub fn version(&self, resource_type: ResourceType) -> &Arc<str> {
        &self.types[resource_type as usize].version
    }

    /// Changes what is wanted of a kind of resource.
    pub fn subscribe(&mut self, resource_type: ResourceType, interest: Interest, now: Instant) {
        let state = &mut self.types[resource_type as usize];
        if state.interest == interest {
            return;
        }
        state.accepted.retain(|name, _| interest.includes(name));
        state.awaited.retain(|name, _| interest.includes(name));
        state.interest = interest;
        if self.is_streaming() {
            self.types[resource_type as usize].await_names(now);
            self.send(resource_type, None);
        }
    }

    /// The stream that [`Event::Connect`] asked for is open.
    pub fn handle_stream_up(&mut self, now: Instant) {
        let StreamState::Connecting { failures } = self.stream else { return };
        self.stream = StreamState::Streaming { failures, node_sent: false };
        for kind in ResourceType::ALL {
            let state = &mut self.types[kind as usize];
            state.nonce = Arc::default();
            if state.interest != Interest::Nothing {
                state.await_names(now);
                self.send(kind, None);
            }
        }
    }

    /// The stream ended or could not be opened. `random` spreads the reconnects of many clients.
    pub fn handle_stream_down(&mut self, now: Instant, random: u64) {
        let (StreamState::Streaming { failures, .. } | StreamState::Connecting { failures }) = self.stream else {
            return;
        };
        // Requests and answers belong to the stream that is gone.
        self.events.retain(|event| !matches!(event, Event::Send(_)));
        self.types.iter_mut().for_each(|state| state.awaited.clear());
        self.stream = StreamState::Waiting { until: now + back_off(failures, random), failures: failures + 1 };
    }

    /// Takes a response: each resource that is new or changed is decoded, and the whole is acknowledged or refused.
    pub fn handle_response(&mut self, response: DiscoveryResponse) {
        if let StreamState::Streaming { failures, .. } = &mut self.stream {
            *failures = 0;
        }
        let Some(kind) = ResourceType::from_type_url(&response.type_url) else {
            // Not asked for, and there is no way to refuse a type that is not spoken.
            return;
        };
        let state = &mut self.types[kind as usize];
        if state.interest == Interest::Nothing {
            return;
        }
        state.answered = true;
        state.nonce = response.nonce.as_str().into();
        let version: Arc<str> = response.version_info.as_str().into();
        let update = state.take(kind, Arc::clone(&version), response.resources);
        let error = (!update.rejected.is_empty()).then(|| error_text(&update.rejected));
        if error.is_none() {
            state.version = version;
        }
        self.send(kind, error);
        self.events.push_back(Event::Update(update));
    }

    /// Acts on what [`Machine::poll_timeout`] announced.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let StreamState::Waiting { until, failures } = self.stream
            && until <= now
        {
            self.stream = StreamState::Connecting { failures };
            self.events.push_back(Event::Connect);
        }
        for kind in ResourceType::ALL {
            let state = &mut self.types[kind as usize];
            for (name, _) in state.awaited.extract_if(|_, until| *until <= now) {
                // Silence is an answer, too.
                state.answered = true;
                self.events.push_back(Event::Missing { resource_type: kind, name });
            }
        }
    }

    /// The next thing to do; `None` until the next input.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Machine::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let reconnect = match self.stream {
            StreamState::Waiting { until, .. } => Some(until),
            StreamState::Connecting { .. } | StreamState::Streaming { .. } => None,
        };
        self.types.iter().flat_map(|state| state.awaited.values().copied()).chain(reconnect).min()
    }

    fn send(&mut self, kind: ResourceType, error: Option<String>) {
        let StreamState::Streaming { node_sent, .. } = &mut self.stream else { return };
        let node = (!std::mem::replace(node_sent, true)).then(|| Arc::clone(&self.node));
        let state = &self.types[kind as usize];
        let resource_names = match &state.interest {
            Interest::Names(names) => Arc::clone(names),
            Interest::Nothing | Interest::Everything => Arc::default(),
        };
        self.events.push_back(Event::Send(Request {
            resource_type: kind,
            resource_names,
            version_info: Arc::clone(&state.version),
            response_nonce: Arc::clone(&state.nonce),
            node,
            error,
        }));
    }
}

impl TypeState {
    /// Starts the timers of names that have not come yet.
    fn await_names(&mut self, now: Instant) {
        let Interest::Names(names) = &self.interest else { return };
        for name in names.iter().filter(|name| !self.accepted.contains_key(*name)) {
            self.awaited.entry(Arc::clone(name)).or_insert(now + RESOURCE_TIMEOUT);
        }
    }

    fn take(&mut self, kind: ResourceType, version: Arc<str>, resources: Vec<Any>) -> Update {
        let mut update =
            Update { resource_type: kind, version, accepted: Vec::new(), removed: Vec::new(), rejected: Vec::new() };
        let is_full_state = matches!(kind, ResourceType::Cluster | ResourceType::Listener);
        let mut present: HashSet<Arc<str>> = HashSet::new();
        for any in resources {
            let name: Arc<str> = resource::name(&any).into();
            self.awaited.remove(&name);
            if !present.insert(Arc::clone(&name)) && !name.is_empty() {
                update.rejected.push(duplicate(kind, &name));
                continue;
            }
            // Control planes may send more than was asked for; it has no effect.
            if !name.is_empty() && !self.interest.includes(&name) {
                continue;
            }
            if self.accepted.get(&name).is_some_and(|accepted| accepted.value == any.value) {
                continue;
            }
            match checked(kind, &any) {
                Ok(decoded) => {
                    self.accepted.insert(name, any);
                    update.accepted.push(decoded);
                }
                // A refused successor does not remove what is in force.
                Err(error) => update.rejected.push(*error),
            }
        }
        if is_full_state {
            let gone = self.accepted.extract_if(|name, _| !present.contains(name));
            update.removed.extend(gone.map(|(name, _)| name));
            update.removed.sort();
        }
        update
    }
}

fn checked(kind: ResourceType, any: &Any) -> Result<Decoded, Box<ResourceError>> {
    let decoded = resource::decode(any)?;
    let found = decoded.resource.resource_type();
    if found == kind {
        return Ok(decoded);
    }
    let reason = format!("came in a response about {kind}");
    let error = FieldError { path: String::new(), reason };
    Err(Box::new(ResourceError { kind: found.to_string(), name: decoded.resource.name().to_owned(), error }))
}

fn duplicate(kind: ResourceType, name: &str) -> ResourceError {
    let error = FieldError { path: "name".to_owned(), reason: "duplicate: a name stands for one resource".to_owned() };
    ResourceError { kind: kind.to_string(), name: name.to_owned(), error }
}

fn error_text(rejected: &[ResourceError]) -> String {
    let mut text = String::new();
    for (index, error) in rejected.iter().enumerate() {
        let line = error.to_string();
        if text.len() + line.len() > MAX_ERROR_TEXT {
            text.push_str(&format!("; and {} more", rejected.len() - index));
            break;
        }
        if index > 0 {
            text.push_str("; ");
        }
        text.push_str(&line);
    }
    text
}

/// Exponential with factor 1.6 and ±20 % jitter, as gRPC connects.
fn back_off(failures: u32, random: u64) -> Duration {
    let exponent = f64::from(failures.min(32));
    let pause = BASE_BACK_OFF.as_secs_f64() * 1.6f64.powf(exponent);
    let jitter = 0.8 + 0.4 * f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    Duration::from_secs_f64(pause.min(MAX_BACK_OFF.as_secs_f64()) * jitter)
}
