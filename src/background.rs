//! The tasks that run for as long as a mesh is used. They keep its store up to date with the source of the configuration.
//!
//! ```text
//! directory ─► translation, ADS server ─► in-process stream ─► agent ─► store
//! ```
//!
//! A remote control plane is followed in the same way, but over a network. The agent subscribes to all listeners, because
//! their names are the targets and sockets that the mesh knows. It subscribes by name to the routes, clusters and endpoints
//! of the listeners that channels use.

use std::{
    hash::{BuildHasher as _, RandomState},
    path::Path,
    sync::Arc,
    time::Duration,
};

use mesh_admin::Translation;
use mesh_control::{mesh::Mesh as Source, server, source::Directory, translate::with_labels};
use mesh_core::{node::Node, rng::SplitMix64, store::Store};
use mesh_tower::dns::{DnsDiscovery, SystemResolver};
use mesh_xds::{
    client::{Agent, Scope, Subscriber, Subscription, transport::in_process},
    node::to_xds,
};
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    ConfigEvent,
    error::{Error, Kind},
    event::{self, Changes},
};

/// How long the first configuration may take to come into force.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A directory that has been read once.
#[derive(Debug)]
pub(crate) struct Opened {
    directory: Directory,
    sources: watch::Receiver<Arc<Source>>,
}

/// The tasks; dropping this ends them.
#[derive(Debug)]
pub(crate) struct Background {
    events: broadcast::Sender<ConfigEvent>,
    subscriber: Subscriber,
    tasks: JoinSet<()>,
    _dns: DnsDiscovery,
}

impl Opened {
    pub(crate) fn new(dir: &Path) -> Result<Self, Error> {
        let opened = Directory::open(dir);
        let (directory, sources) = opened.map_err(|source| Kind::Config { path: dir.to_owned(), source })?;
        Ok(Self { directory, sources })
    }

    /// `node` with the labels that all its endpoints share, if it has none of its own.
    pub(crate) fn with_labels(&self, node: Node) -> Node {
        with_labels(node, &self.sources.borrow().registry)
    }

    /// The xDS resources that the directory is translated to for `node`, at any moment.
    pub(crate) fn translation(&self, node: Node) -> Translation {
        Translation::new(self.sources.clone(), node)
    }
}

impl Background {
    /// Starts resolving the host names of clusters in `store`.
    pub(crate) fn start(store: &Arc<Store>) -> Self {
        Self {
            events: broadcast::channel(event::CAPACITY).0,
            subscriber: Subscriber::default(),
            tasks: JoinSet::new(),
            _dns: DnsDiscovery::start(Arc::clone(store), SystemResolver::new()),
        }
    }

    /// Starts keeping `store` up to date with a directory; returns when the first configuration is in force.
    pub(crate) async fn follow(&mut self, opened: Opened, node: &Node, store: Arc<Store>) -> Result<(), Error> {
        let (transport, acceptor) = in_process::pair();
        let agent = Agent::new(transport, to_xds(node), Scope::AllListeners, store, rng());
        let mut settled = agent.settled();
        self.subscriber = agent.subscriber();
        let (events, mut changes) = (self.events.clone(), Changes::default());
        self.tasks.spawn(agent.run(move |notice| {
            if let Some(applied) = changes.note(notice) {
                send(&events, ConfigEvent::Applied(applied));
            }
        }));
        self.tasks.spawn(server::serve(acceptor, opened.sources));
        let events = self.events.clone();
        self.tasks.spawn(opened.directory.run(move |reload| send(&events, reload.into())));
        let first = timeout(START_LIMIT, settled.changed()).await;
        first.map_err(|_| Kind::NotInForce { limit: START_LIMIT }.into())
    }

    /// Subscribes to everything that the listener called `name` refers to.
    pub(crate) fn subscribe(&self, name: &Arc<str>) -> Subscription {
        self.subscriber.subscribe(name)
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<ConfigEvent> {
        self.events.subscribe()
    }
}

fn send(events: &broadcast::Sender<ConfigEvent>, event: ConfigEvent) {
    // It fails if nobody listens.
    drop(events.send(event));
}

/// Random numbers for load balancing and jitter; nothing secret.
pub(crate) fn rng() -> SplitMix64 {
    SplitMix64::new(RandomState::new().hash_one(()))
}
