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

/// How long a cluster is still asked for by name when no route names it any more. Routes that come back to it meanwhile
/// find its connections, and what is known of its endpoints.
pub const UNUSED_CLUSTER_TIME: Duration = Duration::from_secs(60);

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
    /// Clusters that are named.
    named_clusters: BTreeSet<Arc<str>>,
    /// Clusters that were named, and until when they are still asked for.
    unnamed_clusters: BTreeMap<Arc<str>, Instant>,
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
        let mut client = Self {
            scope,
            machine,
            applier,
            named_clusters: BTreeSet::new(),
            unnamed_clusters: BTreeMap::new(),
            is_settled: false,
            outputs: VecDeque::new(),
        };
        if scope == Scope::Everything {
            client.machine.subscribe(ResourceType::Cluster, Interest::Everything, now);
        }
        if scope != Scope::UsedListeners {
            client.machine.subscribe(ResourceType::Listener, Interest::Everything, now);
        }
        client.handle_used_listeners(BTreeSet::new(), now);
        client
    }

    /// Takes the names of all listeners that are used.
    pub fn handle_used_listeners(&mut self, names: BTreeSet<Arc<str>>, now: Instant) {
        match self.scope {
            Scope::Everything => return,
            Scope::AllListeners => self.applier.set_used_listeners(names, now),
            Scope::UsedListeners => {
                self.machine.subscribe(ResourceType::Listener, names.into_iter().collect(), now);
            }
        }
        self.is_settled = false;
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
        let before = self.unnamed_clusters.len();
        self.unnamed_clusters.retain(|_, until| *until > now);
        if self.unnamed_clusters.len() < before {
            self.ask_for_clusters(now);
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
                self.subscribe(kind, interest, now);
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
        timeouts.into_iter().flatten().chain(self.unnamed_clusters.values().copied()).min()
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

    fn subscribe(&mut self, kind: ResourceType, interest: Interest, now: Instant) {
        if kind != ResourceType::Cluster {
            return self.machine.subscribe(kind, interest, now);
        }
        let names = interest.into_names();
        let unnamed = self.named_clusters.difference(&names).filter(|name| self.machine.has(kind, name));
        self.unnamed_clusters.extend(unnamed.map(|name| (Arc::clone(name), now + UNUSED_CLUSTER_TIME)));
        self.unnamed_clusters.retain(|name, _| !names.contains(name));
        self.named_clusters = names;
        self.ask_for_clusters(now);
    }

    fn ask_for_clusters(&mut self, now: Instant) {
        let names = self.named_clusters.iter().chain(self.unnamed_clusters.keys()).cloned().collect();
        self.machine.subscribe(ResourceType::Cluster, names, now);
    }

    fn notify(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

#[cfg(test)]
mod tests;
