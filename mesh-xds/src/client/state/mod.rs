//! The whole client without I/O: what it asks for, what it was told, and what comes into force of that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::rng::Rng;

use super::applier::{Applier, Change};
use super::interest::Interest;
use super::machine::{CONNECT_TIMEOUT, Event, Machine};
use super::notice::Notice;
use super::request::Request;
use super::transport::Disconnected;
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use crate::resource::ResourceType;

/// How long a listener is still asked for when nobody uses it any more. A channel to it that is made meanwhile finds its
/// configuration in force, and its connections.
pub const UNUSED_LISTENER_TIME: Duration = Duration::from_secs(60);

/// Which resources a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All that the control plane has for the node, as proxies ask.
    Everything,
    /// All listeners, so that their names are known, and of those that are used the routes, clusters and endpoints by
    /// name.
    AllListeners,
    /// The listeners that are used, and their routes, clusters and endpoints, all by name, as proxyless clients ask.
    UsedListeners,
}

/// Something for the [`Agent`](super::Agent) to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Begin to open a stream.
    Connect,
    /// Give up opening a stream.
    Abandon,
    /// Send this.
    Send(Request),
    /// Make this change.
    Change(Change),
    /// Report this.
    Notice(Notice),
}

/// A [`Machine`] and the [`Applier`] of what it accepts. Inputs are `handle_*`; after each, take all outputs.
#[derive(Debug)]
pub struct ClientState {
    scope: Scope,
    machine: Machine,
    applier: Applier,
    /// Listeners that are used.
    used: BTreeSet<Arc<str>>,
    /// Listeners that were used, and until when they are asked for.
    lingering: BTreeMap<Arc<str>, Instant>,
    /// Whether everything that was asked for is in force and that was reported.
    is_settled: bool,
    outputs: VecDeque<Output>,
}

impl ClientState {
    /// A client that is not connected.
    #[must_use]
    pub fn new(node: Node, scope: Scope, now: Instant) -> Self {
        let applier = match scope {
            Scope::Everything => Applier::with_all_clusters(),
            Scope::AllListeners | Scope::UsedListeners => Applier::with_clusters_by_name(),
        };
        let machine = Machine::new(node, now);
        let (used, lingering, outputs) = (BTreeSet::new(), BTreeMap::new(), VecDeque::new());
        let mut client = Self { scope, machine, applier, used, lingering, is_settled: false, outputs };
        if scope == Scope::Everything {
            client.machine.subscribe(ResourceType::Cluster, Interest::Everything, now);
        }
        if scope != Scope::UsedListeners {
            client.machine.subscribe(ResourceType::Listener, Interest::Everything, now);
        }
        client.ask_for_used(now);
        client
    }

    /// Takes the names of all listeners that are used.
    pub fn handle_used_listeners(&mut self, names: BTreeSet<Arc<str>>, now: Instant) {
        let gone = self.used.difference(&names).map(|name| (Arc::clone(name), now + UNUSED_LISTENER_TIME));
        self.lingering.extend(gone);
        self.lingering.retain(|name, _| !names.contains(name));
        self.used = names;
        self.ask_for_used(now);
    }

    /// The stream that [`Output::Connect`] asked for is open.
    pub fn handle_stream_up(&mut self, now: Instant) {
        self.machine.handle_stream_up(now);
        self.notify(Notice::Connected);
    }

    /// The stream ended or could not be opened.
    pub fn handle_stream_down(&mut self, reason: Disconnected, now: Instant, rng: &mut impl Rng) {
        self.machine.handle_stream_down(now, rng);
        self.notify(Notice::Disconnected(reason));
    }

    /// Takes a response.
    pub fn handle_response(&mut self, response: DiscoveryResponse) {
        self.machine.handle_response(response);
    }

    /// Acts on what [`ClientState::poll_timeout`] announced.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) {
        let before = self.lingering.len();
        self.lingering.retain(|_, until| *until > now);
        if self.lingering.len() < before {
            self.ask_for_used(now);
        }
        self.machine.handle_timeout(now, rng);
        self.applier.handle_timeout(now);
    }

    /// The next thing to do; `None` until the next input.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            } else if let Some(event) = self.machine.poll_event() {
                self.handle_event(event, now);
            } else if let Some(change) = self.applier.poll_change() {
                return Some(Output::Change(change));
            } else if let Some((kind, interest)) = self.applier.poll_interest() {
                self.machine.subscribe(kind, interest, now);
            } else if !self.is_settled && self.applier.is_settled() && self.machine.is_answered() {
                self.is_settled = true;
                self.notify(Notice::Settled);
            } else {
                return None;
            }
        }
    }

    /// When [`ClientState::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = [self.machine.poll_timeout(), self.applier.poll_timeout()];
        timeouts.into_iter().flatten().chain(self.lingering.values().copied()).min()
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connect => self.outputs.push_back(Output::Connect),
            Event::Abandon => {
                self.outputs.push_back(Output::Abandon);
                let reason = format!("no connection within {CONNECT_TIMEOUT:?}");
                self.notify(Notice::Disconnected(Disconnected { reason }));
            }
            Event::Send(request) => self.outputs.push_back(Output::Send(request)),
            Event::Update(update) => {
                self.is_settled = false;
                let report = self.applier.handle_update(update, now);
                self.notify(Notice::Applied(report));
            }
            Event::Missing { resource_type, name } => {
                self.is_settled = false;
                self.applier.handle_missing(resource_type, Arc::clone(&name), now);
                self.notify(Notice::Missing { resource_type, name });
            }
            Event::Unsubscribed { resource_type, names } => {
                self.applier.handle_unsubscribed(resource_type, &names, now);
            }
        }
    }

    fn ask_for_used(&mut self, now: Instant) {
        let names = || self.used.iter().chain(self.lingering.keys()).cloned();
        match self.scope {
            Scope::Everything => return,
            Scope::AllListeners => self.applier.set_used_listeners(names().collect(), now),
            Scope::UsedListeners => self.machine.subscribe(ResourceType::Listener, names().collect(), now),
        }
        self.is_settled = false;
    }

    fn notify(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

#[cfg(test)]
mod tests;
