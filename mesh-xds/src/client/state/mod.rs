//! The client without I/O: its subscriptions, the protocol, and the order in which resources come into force.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use mesh_core::model::ClusterName;
use mesh_core::rng::Rng;
use prost_types::Any;

use super::applier::{Applier, Change};
use super::interest::Interest;
use super::machine::{CONNECT_TIMEOUT, Event, Machine, ServerOptions};
use super::notice::Notice;
use super::proxyless;
use super::request::Request;
use super::response::Response;
use super::status::Waiting;
use super::transport::Disconnected;
use crate::proto::envoy::config::core::v3::Node;
use crate::resource::{Resource, ResourceType, Source, Sources, elsewhere};

/// How long a client stays subscribed to a cluster after the last route that refers to it was removed. A route that
/// refers to it again in the meantime uses its connections, ejections and statistics.
pub const UNUSED_CLUSTER_TIME: Duration = Duration::from_secs(60);

/// Which resources a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Everything that the control plane has for the node, as proxies do.
    Everything,
    /// All listeners, so that their names are known. The routes, clusters and endpoints of used listeners, by name.
    AllListeners,
    /// Used listeners, their routes, clusters and endpoints, all by name, as clients of gRPC do.
    UsedListeners,
    /// What a bootstrap says: all listeners or those of the bootstrap only, all clusters or those of the bootstrap only. Routes,
    /// endpoints and secrets by name.
    Bootstrap {
        /// Whether listeners come over the stream for all types.
        listeners: bool,
        /// Whether clusters do.
        clusters: bool,
    },
}

/// An action for the [`Agent`](super::Agent).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Begin to open a stream to this control plane, by its position in order of preference.
    Connect(usize),
    /// Abandon opening a stream.
    Abandon,
    /// End the stream.
    Leave,
    /// Find out whether one of the first control planes responds, and report it to [`ClientState::handle_probe`].
    Probe {
        /// How many of them.
        servers: usize,
        /// What to send.
        request: Request,
    },
    /// Send this.
    Send(Request),
    /// Follow these resources of a type, by their names in the store, from [elsewhere](crate::resource::elsewhere), and no others.
    Follow {
        /// The type of the resources.
        resource_type: ResourceType,
        /// Their names in the store.
        names: BTreeSet<Arc<str>>,
    },
    /// Make this change.
    Change(Change),
    /// Report this.
    Notice(Notice),
}

/// A [`Machine`], and the [`Applier`] of the resources that it accepts. Inputs are `handle_*`; after each, poll all
/// outputs.
#[derive(Debug)]
pub struct ClientState {
    scope: Scope,
    machine: Machine,
    applier: Applier,
    /// Clusters that routes and listeners refer to.
    referenced_clusters: BTreeSet<Arc<str>>,
    /// Clusters that nothing refers to any more, and when their subscription ends.
    unreferenced_clusters: BTreeMap<Arc<str>, Instant>,
    /// Whether everything is in force and [`Notice::Settled`] has been sent.
    is_settled: bool,
    /// The names of resources from elsewhere that are followed, by type.
    followed: [BTreeSet<Arc<str>>; ResourceType::ALL.len()],
    /// Resources from elsewhere, as they were received.
    from_elsewhere: HashMap<(ResourceType, Arc<str>), Arc<Any>>,
    /// Resources from elsewhere that have been neither received nor found missing. An empty name stands for all of a type.
    awaited: HashSet<(ResourceType, Arc<str>)>,
    outputs: VecDeque<Output>,
}

impl ClientState {
    /// A client that is not connected.
    #[must_use]
    pub fn new(node: Node, scope: Scope, now: Instant) -> Self {
        let applier = match scope {
            Scope::Everything | Scope::Bootstrap { .. } => Applier::with_all_clusters(),
            Scope::AllListeners | Scope::UsedListeners => Applier::with_clusters_by_name(),
        };
        let machine = Machine::new(node, now);
        let mut client = Self {
            scope,
            machine,
            applier,
            referenced_clusters: BTreeSet::new(),
            unreferenced_clusters: BTreeMap::new(),
            is_settled: false,
            followed: Default::default(),
            from_elsewhere: HashMap::new(),
            awaited: HashSet::new(),
            outputs: VecDeque::new(),
        };
        let (listeners, clusters) = match scope {
            Scope::Everything => (true, true),
            Scope::AllListeners => (true, false),
            Scope::UsedListeners => (false, false),
            Scope::Bootstrap { listeners, clusters } => (listeners, clusters),
        };
        if clusters {
            client.machine.subscribe(ResourceType::Cluster, Interest::Everything, now);
        }
        if listeners {
            client.machine.subscribe(ResourceType::Listener, Interest::Everything, now);
        }
        client.handle_used_listeners(BTreeSet::new(), now);
        client
    }

    /// Sets the sources that resources may name beside the stream for all types. Default none.
    #[must_use]
    pub fn with_sources(self, sources: Sources) -> Self {
        Self { machine: self.machine.with_sources(sources), ..self }
    }

    /// Sets how many control planes there are, and what is special about them. Default one, and nothing.
    #[must_use]
    pub fn with_servers(self, number: usize, options: ServerOptions) -> Self {
        let applier = if options.proxyless { self.applier.removing_at_once() } else { self.applier };
        Self { machine: self.machine.with_servers(number, options), applier, ..self }
    }

    /// Uses the incremental variant of the protocol, which the transport must carry.
    #[must_use]
    pub fn incremental(self) -> Self {
        Self { machine: self.machine.incremental(), ..self }
    }

    /// Adds a resource of the bootstrap. No other of the same name replaces it.
    pub fn handle_fixed(&mut self, resource: Resource, now: Instant) {
        self.is_settled = false;
        self.applier.handle_fixed(resource, now);
    }

    /// All resources of a type come from elsewhere.
    pub fn handle_all_from_elsewhere(&mut self, resource_type: ResourceType) {
        self.awaited.insert((resource_type, Arc::default()));
    }

    /// Handles an event about resources from elsewhere, and the accepted ones as they were received.
    pub fn handle_elsewhere(&mut self, event: Event, received: Vec<(Arc<str>, Arc<Any>)>, now: Instant) {
        match &event {
            Event::Update(update) => {
                let kind = update.resource_type;
                self.awaited.remove(&(kind, Arc::default()));
                let rejected = update.rejected.iter().map(|rejected| Arc::from(rejected.error.name.as_str()));
                let answered = rejected.chain(received.iter().map(|(name, _)| Arc::clone(name)));
                for name in answered {
                    self.awaited.remove(&(kind, name));
                }
                update.removed.iter().for_each(|name| drop(self.from_elsewhere.remove(&(kind, Arc::clone(name)))));
                self.from_elsewhere.extend(received.into_iter().map(|(name, any)| ((kind, name), any)));
            }
            Event::Missing { resource_type, name } => {
                self.awaited.remove(&(*resource_type, Arc::clone(name)));
            }
            Event::Connect
            | Event::Abandon
            | Event::Leave
            | Event::Probe { .. }
            | Event::Send(_)
            | Event::Unsubscribed { .. } => {}
        }
        self.handle_event(event, now);
    }

    /// Sets the names of all listeners in use.
    pub fn handle_used_listeners(&mut self, names: BTreeSet<Arc<str>>, now: Instant) {
        match self.scope {
            Scope::Everything | Scope::Bootstrap { .. } => return,
            Scope::AllListeners => self.applier.set_used_listeners(names, now),
            Scope::UsedListeners => {
                self.machine.subscribe(ResourceType::Listener, names.into_iter().collect(), now);
            }
        }
        self.is_settled = false;
    }

    /// Handles that the stream of [`Output::Connect`] is open.
    pub fn handle_stream_up(&mut self, now: Instant) {
        self.machine.handle_stream_up(now);
        self.notify(Notice::Connected);
    }

    /// Handles that the stream ended or could not be opened.
    pub fn handle_stream_down(&mut self, reason: Disconnected, now: Instant, rng: &mut impl Rng) {
        self.machine.handle_stream_down(now, rng);
        self.notify(Notice::Disconnected(reason));
    }

    /// Handles which of the control planes of [`Output::Probe`] has responded first, if any.
    pub fn handle_probe(&mut self, responded: Option<usize>, now: Instant, rng: &mut impl Rng) {
        self.machine.handle_probe(responded, now, rng);
    }

    /// New clusters whose host names have not been resolved, as far as [`ClientState::handle_resolved`] has said.
    pub fn unresolved_clusters(&self) -> impl Iterator<Item = &ClusterName> {
        self.applier.unresolved_clusters()
    }

    /// Handles that host names of clusters have been resolved, with or without addresses.
    pub fn handle_resolved(&mut self, clusters: &[ClusterName], now: Instant) {
        self.applier.handle_resolved(clusters, now);
    }

    /// The accepted resource of this name, as it was received, if it is still wanted.
    #[must_use]
    pub fn accepted(&self, resource_type: ResourceType, name: &str) -> Option<&Arc<Any>> {
        self.machine
            .accepted(resource_type, name)
            .or_else(|| self.from_elsewhere.get(&(resource_type, Arc::from(name))))
    }

    /// The accepted resources that are not in force yet.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.applier.waiting()
    }

    /// Handles a response.
    pub fn handle_response(&mut self, response: impl Into<Response>) {
        self.machine.handle_response(response);
    }

    /// Handles the time that [`ClientState::poll_timeout`] has returned.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) {
        let before = self.unreferenced_clusters.len();
        self.unreferenced_clusters.retain(|_, until| *until > now);
        if self.unreferenced_clusters.len() < before {
            self.ask_for_clusters(now);
        }
        self.machine.handle_timeout(now, rng);
        self.applier.handle_timeout(now);
    }

    /// The next action; `None` until the next input.
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
            } else if !self.is_settled && self.applier.is_settled() && self.is_answered() {
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
        timeouts.into_iter().flatten().chain(self.unreferenced_clusters.values().copied()).min()
    }

    fn is_answered(&self) -> bool {
        self.awaited.is_empty() && self.machine.is_answered()
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connect => self.outputs.push_back(Output::Connect(self.machine.server())),
            Event::Leave => {
                self.outputs.push_back(Output::Leave);
                let reason = "a preferred one responds again".to_owned();
                self.notify(Notice::Disconnected(Disconnected { reason }));
            }
            Event::Probe { servers, request } => self.outputs.push_back(Output::Probe { servers, request }),
            Event::Abandon => {
                self.outputs.push_back(Output::Abandon);
                let reason = format!("no connection within {CONNECT_TIMEOUT:?}");
                self.notify(Notice::Disconnected(Disconnected { reason }));
            }
            Event::Send(request) => self.outputs.push_back(Output::Send(request)),
            Event::Update(mut update) => {
                self.is_settled = false;
                let options = self.machine.options();
                if options.proxyless {
                    update.accepted.iter_mut().for_each(|decoded| proxyless::adapt(&mut decoded.resource, options));
                }
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
                self.notify(Notice::Unsubscribed { resource_type, names });
            }
        }
    }

    fn subscribe(&mut self, kind: ResourceType, interest: Interest, now: Instant) {
        if kind != ResourceType::Cluster {
            let interest = self.subscribe_elsewhere(kind, interest, now);
            return self.machine.subscribe(kind, interest, now);
        }
        let names = interest.into_names();
        let unreferenced = self.referenced_clusters.difference(&names).filter(|name| self.machine.has(kind, name));
        self.unreferenced_clusters.extend(unreferenced.map(|name| (Arc::clone(name), now + UNUSED_CLUSTER_TIME)));
        self.unreferenced_clusters.retain(|name, _| !names.contains(name));
        self.referenced_clusters = names;
        self.ask_for_clusters(now);
    }

    /// Subscribes to those resources that come from elsewhere; returns the others, without those of the bootstrap.
    fn subscribe_elsewhere(&mut self, kind: ResourceType, interest: Interest, now: Instant) -> Interest {
        let Interest::Names(names) = &interest else {
            self.follow(kind, BTreeSet::new(), now);
            return interest;
        };
        // A bootstrap with secrets in files has another part of the process read them.
        let is_followed = |name: &&Arc<str>| {
            elsewhere(name).is_some_and(|(_, source)| kind != ResourceType::Secret || matches!(source, Source::Grpc(_)))
        };
        let is_here = |name: &&Arc<str>| elsewhere(name).is_none() && !self.applier.is_fixed(kind, name);
        let here = names.iter().filter(is_here).cloned().collect();
        let followed = names.iter().filter(is_followed).cloned().collect();
        self.follow(kind, followed, now);
        here
    }

    fn follow(&mut self, resource_type: ResourceType, names: BTreeSet<Arc<str>>, now: Instant) {
        let before = std::mem::replace(&mut self.followed[resource_type as usize], names.clone());
        if before == names {
            return;
        }
        let mut gone = Vec::new();
        for name in before.difference(&names) {
            let key = (resource_type, Arc::clone(name));
            self.awaited.remove(&key);
            gone.extend(self.from_elsewhere.remove(&key).map(|_| Arc::clone(name)));
        }
        if !gone.is_empty() {
            self.handle_event(Event::Unsubscribed { resource_type, names: gone }, now);
        }
        self.awaited.extend(names.difference(&before).map(|name| (resource_type, Arc::clone(name))));
        self.outputs.push_back(Output::Follow { resource_type, names });
    }

    fn ask_for_clusters(&mut self, now: Instant) {
        let names = self.referenced_clusters.iter().chain(self.unreferenced_clusters.keys()).cloned().collect();
        self.machine.subscribe(ResourceType::Cluster, names, now);
    }

    fn notify(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

#[cfg(test)]
mod tests;
