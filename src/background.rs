//! The background tasks of a mesh. They resolve host names, and keep the store up to date with a source of configuration.
//!
//! They run on a dedicated thread, because a program may use a mesh in several runtimes, and the mesh may outlive each of them.
//!
//! Sources are optional features, so this module has only their traits; each source is a module of its own.

use std::{
    any::Any,
    convert::Infallible,
    fmt::Debug,
    hash::{BuildHasher as _, RandomState},
    io,
    net::SocketAddr,
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    thread,
};

use http::uri::Authority;
use mesh_core::{
    node::Node,
    rng::SplitMix64,
    store::{ListenerMap, Store},
    target::Target,
};
use mesh_tower::{
    Worker,
    dns::{DnsDiscovery, Resolve},
    telemetry::LogFiles,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::{broadcast, oneshot},
};

use crate::{ConfigEvent, Error, error::Kind, event, identity::Identity};

/// A source of configuration other than code.
pub(crate) trait Source: Debug + Send {
    /// Starts keeping the store of `member` up to date with the source; resolves when the first configuration is in force.
    fn follow(self: Box<Self>, member: &mut Joining) -> Following<'_>;
}

pub(crate) type Following<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Followed>, Error>> + Send + 'a>>;

/// A source that is followed until this value is dropped.
pub(crate) trait Followed: Debug + Send + Sync {
    /// Subscribes to everything that the listener of this name refers to.
    fn subscribe(&self, listener: &Arc<str>) -> Subscription;

    /// Metrics about the configuration, in Prometheus' text format.
    fn metrics(&self) -> String;

    /// The name of the listener of a target, and the authority of its requests, if listeners are requested by name; `None` = all
    /// listeners are known.
    fn client_listener(&self, _target: &str) -> Option<Result<(Arc<str>, Authority), Error>> {
        None
    }

    /// The name of the listener of a socket with this address, if it is requested by name.
    fn server_listener(&self, _address: SocketAddr) -> Option<Arc<str>> {
        None
    }
}

/// Dropping this ends the subscription.
pub(crate) type Subscription = Arc<dyn Any + Send + Sync>;

/// A member of a mesh whose configuration is not in force yet.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) identity: Identity,
    /// The node with the labels that the source has for it, if it has none of its own.
    pub(crate) labelled: Node,
    /// The namespace that the program has chosen, if any.
    pub(crate) namespace: Option<String>,
    #[cfg(feature = "istio")]
    pub(crate) allow_local_jwks_uri: bool,
    /// Where certificates come from; a directory takes it.
    #[cfg(all(feature = "istio", feature = "tls"))]
    pub(crate) certificates: crate::certificates::Certificates,
    pub(crate) store: Arc<Store>,
    /// The services that [`MeshBuilder::endpoints`](crate::MeshBuilder::endpoints) has added.
    pub(crate) endpoints: Vec<Target>,
    /// The listeners of targets that are configured by code.
    pub(crate) from_code: Arc<ListenerMap>,
    pub(crate) logs: Arc<LogFiles>,
    pub(crate) worker: Worker,
    pub(crate) events: broadcast::Sender<ConfigEvent>,
    /// Resolves host names.
    pub(crate) resolver: Arc<dyn Resolve>,
}

impl Joining {
    pub(crate) fn new(node: Node, resolver: Arc<dyn Resolve>) -> Self {
        let (store, events) = (Arc::new(Store::new()), broadcast::channel(event::CAPACITY).0);
        Self {
            labelled: node.clone(),
            identity: Identity::new(node),
            namespace: None,
            #[cfg(feature = "istio")]
            allow_local_jwks_uri: false,
            #[cfg(all(feature = "istio", feature = "tls"))]
            certificates: crate::certificates::Certificates::default(),
            store,
            endpoints: Vec::new(),
            from_code: Arc::default(),
            logs: Arc::default(),
            worker: Worker::single(),
            events,
            resolver,
        }
    }

    /// Takes the identity that the source has for this program.
    #[cfg(feature = "ads")]
    pub(crate) fn identify(&mut self, node: Node) {
        self.labelled = node.clone();
        self.identity = Identity::new(node);
    }
}

/// The tasks; dropping this ends them.
#[derive(Debug)]
pub(crate) struct Background {
    events: broadcast::Sender<ConfigEvent>,
    followed: Option<Box<dyn Followed>>,
    _dns: DnsDiscovery,
    _thread: Thread,
}

impl Background {
    /// Starts resolving the host names of clusters in the store of `member`, and follows the source, if there is one.
    pub(crate) async fn start(source: Option<Box<dyn Source>>, mut member: Joining) -> Result<(Joining, Self), Error> {
        let thread = Thread::start().map_err(Kind::Thread)?;
        let starting = thread.runtime.spawn(async move {
            let dns = DnsDiscovery::start(Arc::clone(&member.store), Arc::clone(&member.resolver));
            let followed = match source {
                Some(source) => Some(source.follow(&mut member).await?),
                None => None,
            };
            Ok::<_, Error>((member, dns, followed))
        });
        // The task is not aborted, so an error is a panic.
        let started = starting.await.unwrap_or_else(|error| resume_unwind(error.into_panic()));
        let (member, dns, followed) = started?;
        let events = member.events.clone();
        Ok((member, Self { events, followed, _dns: dns, _thread: thread }))
    }

    /// Subscribes to everything that the listener called `name` refers to; to nothing if all configuration is from code.
    pub(crate) fn subscribe(&self, name: &Arc<str>) -> Option<Subscription> {
        self.followed.as_ref().map(|source| source.subscribe(name))
    }

    /// See [`Followed::client_listener`].
    pub(crate) fn client_listener(&self, target: &str) -> Option<Result<(Arc<str>, Authority), Error>> {
        self.followed.as_ref()?.client_listener(target)
    }

    /// See [`Followed::server_listener`].
    pub(crate) fn server_listener(&self, address: SocketAddr) -> Option<Arc<str>> {
        self.followed.as_ref()?.server_listener(address)
    }

    /// Metrics about the configuration, in Prometheus' text format; none if all of it is from code.
    pub(crate) fn metrics(&self) -> String {
        self.followed.as_ref().map(|source| source.metrics()).unwrap_or_default()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<ConfigEvent> {
        self.events.subscribe()
    }
}

/// A thread with a runtime, which ends when this value is dropped.
#[derive(Debug)]
struct Thread {
    runtime: Handle,
    _stop: oneshot::Sender<Infallible>,
}

impl Thread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel());
        thread::Builder::new().name("mesh".to_owned()).spawn(move || drop(runtime.block_on(stopped)))?;
        Ok(Self { runtime: handle, _stop: stop })
    }
}

/// Random numbers for load balancing and jitter, not for secrets.
pub(crate) fn rng() -> SplitMix64 {
    SplitMix64::new(RandomState::new().hash_one(()))
}
