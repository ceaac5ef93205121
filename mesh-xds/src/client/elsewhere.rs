//! Resources that do not come over the stream for all types: from discovery services of their own, and from files.
//!
//! As in Envoy, each of them has a stream of its own. Its events enter the [`ClientState`](super::ClientState) like those of the
//! stream for all types, under the names that the resources have in the store ([`elsewhere`]).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use mesh_core::rng::SplitMix64;
use prost_types::Any;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time;

use super::interest::Interest;
use super::link::{Connecting, Link, LinkEvent};
use super::machine::{Event, Machine, Update};
use super::transport::{Disconnected, Stream, Transport};
use crate::proto::envoy::config::core::v3::Node;
use crate::resource::{ApiSource, Resource, ResourceType, Source, Sources, elsewhere};

/// Events that may wait for the agent.
const MAX_WAITING: usize = 16;

/// A [`Transport`] of any type.
pub struct AnyTransport(Box<dyn Fn() -> Connecting + Send + Sync>);

impl AnyTransport {
    /// This transport.
    #[must_use]
    pub fn new(transport: impl Transport + Sync) -> Self {
        Self(Box::new(move || Box::pin(transport.connect())))
    }

    /// No control plane: connecting takes forever.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::new(|| Box::pin(std::future::pending())))
    }
}

impl Transport for AnyTransport {
    fn connect(&self) -> impl Future<Output = Result<Stream, Disconnected>> + Send + 'static {
        (self.0)()
    }
}

impl fmt::Debug for AnyTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyTransport").finish_non_exhaustive()
    }
}

/// Makes transports to discovery services of one type of resource.
pub type MakeTransport = Arc<dyn Fn(&ApiSource, ResourceType) -> AnyTransport + Send + Sync>;

/// An event of a stream of its own.
#[derive(Debug)]
pub(super) struct FromElsewhere {
    pub(super) event: Event,
    /// The accepted resources of the event as they were received.
    pub(super) received: Vec<(Arc<str>, Arc<Any>)>,
}

/// The streams of resources from elsewhere.
pub(super) struct Elsewhere {
    node: Node,
    sources: Sources,
    make: Option<MakeTransport>,
    streams: HashMap<(ResourceType, Arc<str>), Follower>,
    sender: mpsc::Sender<FromElsewhere>,
    events: mpsc::Receiver<FromElsewhere>,
}

/// A task that follows a source; it ends when this is dropped.
struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Elsewhere {
    pub(super) fn new(node: Node) -> Self {
        let (sender, events) = mpsc::channel(MAX_WAITING);
        Self { node, sources: Sources::default(), make: None, streams: HashMap::new(), sender, events }
    }

    /// Resources may name `sources`, to which `make` makes transports.
    pub(super) fn allow(&mut self, sources: Sources, make: MakeTransport) {
        self.sources = sources;
        self.make = Some(make);
    }

    /// Follows all resources of a type from `source`.
    pub(super) fn follow_all(&mut self, resource_type: ResourceType, source: &Source) {
        let Some(transport) = self.transport(resource_type, source) else { return };
        self.start((resource_type, Arc::default()), Interest::Everything, source, transport);
    }

    /// Follows these resources of a type, by their names in the store, and no others.
    pub(super) fn follow(&mut self, resource_type: ResourceType, names: &BTreeSet<Arc<str>>) {
        self.streams.retain(|(kind, name), _| *kind != resource_type || name.is_empty() || names.contains(name));
        for name in names {
            if self.streams.contains_key(&(resource_type, Arc::clone(name))) {
                continue;
            }
            let Some((own_name, source)) = elsewhere(name) else { continue };
            let Some(transport) = self.transport(resource_type, &source) else { continue };
            let interest = Interest::from_iter([Arc::from(own_name)]);
            self.start((resource_type, Arc::clone(name)), interest, &source, transport);
        }
    }

    /// The next event.
    ///
    /// # Cancel safety
    /// No event is lost if the future is dropped.
    pub(super) async fn event(&mut self) -> FromElsewhere {
        match self.events.recv().await {
            Some(event) => event,
            // Not reached: a sender is kept.
            None => std::future::pending().await,
        }
    }

    fn transport(&self, resource_type: ResourceType, source: &Source) -> Option<AnyTransport> {
        match source {
            Source::Aggregated => None,
            Source::Grpc(api) => self.make.as_ref().map(|make| make(api, resource_type)),
            #[cfg(feature = "json")]
            Source::File(path) => Some(AnyTransport::new(super::transport::file::File::new(path, resource_type))),
            #[cfg(not(feature = "json"))]
            Source::File(_) => None,
        }
    }

    fn start(
        &mut self,
        (kind, name): (ResourceType, Arc<str>),
        interest: Interest,
        source: &Source,
        transport: AnyTransport,
    ) {
        let mut machine = Machine::new(self.node.clone(), now()).with_sources(self.sources.clone());
        if matches!(source, Source::Grpc(api) if api.is_incremental) {
            machine = machine.incremental();
        }
        machine.subscribe(kind, interest, now());
        let sender = self.sender.clone();
        let task = tokio::spawn(run(machine, transport, Arc::clone(&name), sender));
        self.streams.insert((kind, name), Follower(task));
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

/// Follows one source, until nothing receives its events.
async fn run(mut machine: Machine, transport: AnyTransport, name: Arc<str>, sender: mpsc::Sender<FromElsewhere>) {
    let mut rng = SplitMix64::new(mesh_core::xxhash::xxh64(name.as_bytes()));
    let mut link = Link::default();
    loop {
        machine.handle_timeout(now(), &mut rng);
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Connect => link.connect(Box::pin(transport.connect())),
                Event::Abandon | Event::Leave => link.end(),
                Event::Send(request) => link.send(request),
                // There is one control plane.
                Event::Probe { .. } => {}
                event @ (Event::Update(_) | Event::Missing { .. } | Event::Unsubscribed { .. }) => {
                    if sender.send(named(event, &name, &machine)).await.is_err() {
                        return;
                    }
                }
            }
        }
        let deadline = machine.poll_timeout().map(time::Instant::from_std);
        let timeout = async {
            match deadline {
                Some(deadline) => time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = link.event() => match event {
                LinkEvent::Connected => machine.handle_stream_up(now()),
                LinkEvent::Response(response) => machine.handle_response(response),
                LinkEvent::Disconnected(reason) => {
                    machine.handle_stream_down(now(), &mut rng);
                    tracing::warn!("{name}: {reason}");
                }
                LinkEvent::Sent => {}
            },
            () = timeout => {}
        }
    }
}

/// The event under the name in the store, which is empty for all resources of a type.
fn named(event: Event, name: &Arc<str>, machine: &Machine) -> FromElsewhere {
    let mut received = Vec::new();
    let is_named = !name.is_empty();
    let event = match event {
        Event::Update(mut update) => {
            for decoded in &mut update.accepted {
                let own_name: Arc<str> = decoded.resource.name().into();
                let any = machine.accepted(update.resource_type, &own_name).cloned();
                received.extend(any.map(|any| (if is_named { Arc::clone(name) } else { own_name }, any)));
            }
            if is_named {
                rename(&mut update, name);
            }
            Event::Update(update)
        }
        Event::Missing { resource_type, .. } if is_named => Event::Missing { resource_type, name: Arc::clone(name) },
        Event::Unsubscribed { resource_type, .. } if is_named => {
            Event::Unsubscribed { resource_type, names: vec![Arc::clone(name)] }
        }
        event => event,
    };
    FromElsewhere { event, received }
}

fn rename(update: &mut Update, name: &Arc<str>) {
    for decoded in &mut update.accepted {
        match &mut decoded.resource {
            Resource::Secret(secret) => Arc::make_mut(secret).name = Arc::clone(name),
            Resource::ClusterLoadAssignment { cluster_name, .. } => *cluster_name = Arc::clone(name),
            Resource::RouteConfiguration(config) => Arc::make_mut(config).name = name.as_ref().into(),
            // All of them have one source.
            Resource::Cluster(_) | Resource::Listener(_) => {}
        }
    }
    for removed in &mut update.removed {
        *removed = Arc::clone(name);
    }
    for rejected in &mut update.rejected {
        rejected.error.name = name.to_string();
    }
}

fn now() -> std::time::Instant {
    time::Instant::now().into_std()
}
