//! The tasks that run for as long as a mesh is used. They resolve host names, and keep its store up to date with a source of
//! configuration.
//!
//! Sources are optional features, so this module has only their traits; each source is a module of its own.

use std::{
    any::Any,
    fmt::Debug,
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    sync::Arc,
};

use mesh_core::{node::Node, rng::SplitMix64, store::Store, target::Target};
use mesh_tower::{
    Worker,
    dns::{DnsDiscovery, Resolve},
    telemetry::LogFiles,
};
use tokio::sync::broadcast;

use crate::{ConfigEvent, Error, event, identity::Identity};

/// A source of configuration, beside code.
pub(crate) trait Source: Debug + Send {
    /// Starts keeping the store of `member` up to date with the source; resolves when the first configuration is in force.
    fn follow(self: Box<Self>, member: &mut Joining) -> Following<'_>;
}

pub(crate) type Following<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Followed>, Error>> + Send + 'a>>;

/// A source that is followed until this value is dropped.
pub(crate) trait Followed: Debug + Send + Sync {
    /// Subscribes to everything that the listener of this name refers to.
    fn subscribe(&self, listener: &Arc<str>) -> Subscription;
}

/// Dropping this ends the subscription.
pub(crate) type Subscription = Arc<dyn Any + Send + Sync>;

/// A member of a mesh whose configuration is not in force yet.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) identity: Identity,
    /// The node with the labels that the source has for it, if it has none of its own.
    pub(crate) labelled: Node,
    pub(crate) store: Arc<Store>,
    /// The services whose endpoints come from code.
    pub(crate) endpoints: Vec<Target>,
    pub(crate) logs: Arc<LogFiles>,
    pub(crate) worker: Worker,
    pub(crate) events: broadcast::Sender<ConfigEvent>,
}

impl Joining {
    pub(crate) fn new(node: Node) -> Self {
        let (store, events) = (Arc::new(Store::new()), broadcast::channel(event::CAPACITY).0);
        Self {
            labelled: node.clone(),
            identity: Identity::new(node),
            store,
            endpoints: Vec::new(),
            logs: Arc::default(),
            worker: Worker::single(),
            events,
        }
    }
}

/// The tasks; dropping this ends them.
#[derive(Debug)]
pub(crate) struct Background {
    events: broadcast::Sender<ConfigEvent>,
    followed: Option<Box<dyn Followed>>,
    _dns: DnsDiscovery,
}

impl Background {
    /// Starts resolving the host names of clusters in the store of `member`, and follows the source, if there is one.
    pub(crate) async fn start(
        source: Option<Box<dyn Source>>,
        resolver: Arc<dyn Resolve>,
        member: &mut Joining,
    ) -> Result<Self, Error> {
        let dns = DnsDiscovery::start(Arc::clone(&member.store), resolver);
        let followed = match source {
            Some(source) => Some(source.follow(member).await?),
            None => None,
        };
        Ok(Self { events: member.events.clone(), followed, _dns: dns })
    }

    /// Subscribes to everything that the listener called `name` refers to; to nothing if all configuration is from code.
    pub(crate) fn subscribe(&self, name: &Arc<str>) -> Option<Subscription> {
        self.followed.as_ref().map(|source| source.subscribe(name))
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<ConfigEvent> {
        self.events.subscribe()
    }
}

/// Random numbers for load balancing and jitter, not for secrets.
pub(crate) fn rng() -> SplitMix64 {
    SplitMix64::new(RandomState::new().hash_one(()))
}
