//! The client with its I/O: moves messages and time between a [`ClientState`] and a [`Transport`], and keeps a store.

mod log;

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mesh_core::model::ClusterName;
use mesh_core::rng::Rng;
use mesh_core::store::{Store, Version, Watch};
use tokio::time;

use super::applier::apply;
use super::elsewhere::{Elsewhere, FromElsewhere, MakeTransport};
use super::link::{Link, LinkEvent};
use super::machine::{CONNECT_TIMEOUT, ServerOptions};
use super::notice::Notice;
use super::request::Request;
use super::state::{ClientState, Output, Scope};
use super::status::ClientStatus;
use super::subscription::Subscriber;
use super::transport::Transport;
use crate::proto::envoy::config::core::v3::Node;
use crate::resource::{Resource, ResourceType, Source, Sources};
use log::Log;

/// Keeps a [`Store`] up to date with a control plane.
///
/// Clusters with host names get their addresses from another component, such as `DnsDiscovery` of `mesh-tower`, through
/// [`Store::set_resolved_endpoints`]. Routes to a new one wait for that, 5 s at most.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// use mesh_core::{rng::SplitMix64, store::Store};
/// use mesh_xds::client::{Agent, Scope, transport::in_process};
/// use mesh_xds::proto::envoy::config::core::v3::Node;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let (transport, control_plane) = in_process::pair();
/// let store = Arc::new(Store::new());
/// let agent = Agent::new(transport, Node::default(), Scope::UsedListeners, Arc::clone(&store), SplitMix64::new(7));
/// let subscriber = agent.subscriber();
/// let mut settled = agent.settled();
/// tokio::spawn(agent.run(|notice| println!("{notice:?}")));
///
/// // Keeps the listener, its routes, their clusters and the endpoints of these in the store while it exists.
/// let subscription = subscriber.subscribe(&"reviews.default.svc.cluster.local:9080".into());
/// settled.changed().await;
/// # }
/// ```
pub struct Agent<T, R> {
    state: ClientState,
    /// To the control planes, in order of preference.
    transports: Vec<T>,
    link: Link,
    probe: Option<Probe>,
    elsewhere: Elsewhere,
    subscriber: Subscriber,
    store: Arc<Store>,
    rng: R,
    settled: Version,
    status: Arc<ClientStatus>,
    log: Log,
}

/// Yields the first control plane that responds, by its position.
type Probe = Pin<Box<dyn Future<Output = Option<usize>> + Send>>;

enum Input {
    Link(LinkEvent),
    Probed(Option<usize>),
    Elsewhere(FromElsewhere),
    UsedListeners,
    Resolved,
    Timeout,
}

impl<T: Transport, R: Rng> Agent<T, R> {
    /// An agent that subscribes to `scope` as `node`, and applies the resources to `store`. It starts with
    /// [`Agent::run`].
    #[must_use]
    pub fn new(transport: T, node: Node, scope: Scope, store: Arc<Store>, rng: R) -> Self {
        Self {
            state: ClientState::new(node.clone(), scope, now()),
            transports: vec![transport],
            link: Link::default(),
            probe: None,
            elsewhere: Elsewhere::new(node),
            subscriber: Subscriber::default(),
            store,
            rng,
            settled: Version::new(),
            status: Arc::default(),
            log: Log::default(),
        }
    }

    /// Uses the incremental variant of the protocol ("delta xDS"), which the transports must carry. Default state of the world.
    #[must_use]
    pub fn incremental(self) -> Self {
        Self { state: self.state.incremental(), ..self }
    }

    /// Adds control planes that are used when those before them fail and resources are missing (gRFC A71), and sets what is special about
    /// all of them.
    #[must_use]
    pub fn with_servers(mut self, others: impl IntoIterator<Item = T>, options: ServerOptions) -> Self {
        self.transports.extend(others);
        self.state = self.state.with_servers(self.transports.len(), options);
        self
    }

    /// Lets resources name `sources`, to which `make` makes transports. Default none.
    #[must_use]
    pub fn with_sources(mut self, sources: Sources, make: MakeTransport) -> Self {
        self.state = self.state.with_sources(sources.clone());
        self.elsewhere.allow(sources, make);
        self
    }

    /// Adds the resources of a bootstrap. No others of the same names replace them.
    #[must_use]
    pub fn with_fixed(mut self, resources: impl IntoIterator<Item = Resource>) -> Self {
        resources.into_iter().for_each(|resource| self.state.handle_fixed(resource, now()));
        self
    }

    /// All resources of a type come from `source`, unless that is the stream for all types.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn with_all_from(mut self, resource_type: ResourceType, source: &Source) -> Self {
        if *source != Source::Aggregated {
            self.state.handle_all_from_elsewhere(resource_type);
            self.elsewhere.follow_all(resource_type, source);
        }
        self
    }

    /// A handle to subscribe to listeners, without effect if the scope is [`Scope::Everything`].
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        self.subscriber.clone()
    }

    /// What becomes of the resources that the control plane sends, as the agent records it.
    #[must_use]
    pub fn status(&self) -> Arc<ClientStatus> {
        Arc::clone(&self.status)
    }

    /// Changes whenever everything that was requested is in force: after the first complete configuration, and again
    /// after every response and every subscription.
    #[must_use]
    pub fn settled(&self) -> Watch {
        self.settled.watch()
    }

    /// Follows the control plane for as long as the future is polled. Every notice is logged, recorded in [`Agent::status`] and
    /// passed to `on_notice`, which should return quickly.
    ///
    /// # Cancel safety
    /// Dropping the future ends the stream; the configuration stays in force.
    pub async fn run(mut self, mut on_notice: impl FnMut(Notice) + Send) {
        let mut resolved = self.store.watch_resolved();
        let mut used = self.subscriber.watch();
        self.state.handle_used_listeners(self.subscriber.names(), now());
        loop {
            let now = now();
            self.state.handle_timeout(now, &mut self.rng);
            loop {
                while let Some(output) = self.state.poll_output(now) {
                    self.act(output, now, &mut on_notice);
                }
                let resolved = self.resolved_clusters();
                if resolved.is_empty() {
                    break;
                }
                self.state.handle_resolved(&resolved, now);
            }
            self.status.set_waiting(self.state.waiting());
            let input = self.input(&mut used, &mut resolved).await;
            self.handle(input);
        }
    }

    /// Clusters that routes wait for, although their host names have been resolved.
    fn resolved_clusters(&self) -> Vec<ClusterName> {
        let is_resolved =
            |name: &&ClusterName| self.store.cluster(name.as_str()).is_none_or(|cluster| cluster.is_initialized());
        self.state.unresolved_clusters().filter(is_resolved).cloned().collect()
    }

    fn act(&mut self, output: Output, now: Instant, on_notice: &mut impl FnMut(Notice)) {
        match output {
            Output::Connect(server) => {
                self.probe = None;
                self.link.connect(Box::pin(self.transports[server].connect()));
            }
            Output::Abandon | Output::Leave => self.link.end(),
            Output::Probe { servers, request } => self.probe = Some(probe(&self.transports[..servers], request)),
            Output::Send(request) => self.link.send(request),
            Output::Follow { resource_type, names } => self.elsewhere.follow(resource_type, &names),
            Output::Change(change) => {
                if let Err(error) = apply(&self.store, change, now, &mut self.rng) {
                    self.report(Notice::NotApplied(error), now, on_notice);
                }
            }
            Output::Notice(notice) => {
                let is_settled = notice == Notice::Settled;
                self.report(notice, now, on_notice);
                if is_settled {
                    self.settled.advance();
                }
            }
        }
    }

    fn report(&mut self, notice: Notice, now: Instant, on_notice: &mut impl FnMut(Notice)) {
        let received = |resource_type, name: &str| self.state.accepted(resource_type, name);
        self.status.record(&notice, received, SystemTime::now());
        self.log.add(&notice, now);
        on_notice(notice);
    }

    async fn input(&mut self, used: &mut Watch, resolved: &mut Watch) -> Input {
        let deadline = self.state.poll_timeout().map(time::Instant::from_std);
        let timeout = async {
            match deadline {
                Some(deadline) => time::sleep_until(deadline).await,
                None => pending().await,
            }
        };
        let probed = async {
            match &mut self.probe {
                Some(probe) => probe.await,
                None => pending().await,
            }
        };
        tokio::select! {
            server = probed => Input::Probed(server),
            event = self.link.event() => Input::Link(event),
            event = self.elsewhere.event() => Input::Elsewhere(event),
            () = used.changed() => Input::UsedListeners,
            () = resolved.changed() => Input::Resolved,
            () = timeout => Input::Timeout,
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Link(LinkEvent::Connected) => self.state.handle_stream_up(now()),
            Input::Link(LinkEvent::Disconnected(reason)) => {
                self.state.handle_stream_down(reason, now(), &mut self.rng);
            }
            Input::Link(LinkEvent::Response(response)) => self.state.handle_response(response),
            Input::Elsewhere(FromElsewhere { event, received }) => {
                self.state.handle_elsewhere(event, received, now());
            }
            Input::Probed(server) => {
                self.probe = None;
                self.state.handle_probe(server, now(), &mut self.rng);
            }
            Input::UsedListeners => self.state.handle_used_listeners(self.subscriber.names(), now()),
            Input::Link(LinkEvent::Sent) | Input::Resolved | Input::Timeout => {}
        }
    }
}

/// Asks each control plane, and yields the first that responds.
fn probe(transports: &[impl Transport], request: Request) -> Probe {
    let attempts: Vec<_> = transports.iter().map(Transport::connect).collect();
    Box::pin(async move {
        for (server, attempt) in attempts.into_iter().enumerate() {
            let request = request.clone();
            let responds = async {
                let mut stream = attempt.await.ok()?;
                stream.requests.send(request).await.ok()?;
                stream.responses.recv().await?.ok()
            };
            if let Ok(Some(_)) = time::timeout(CONNECT_TIMEOUT, responds).await {
                return Some(server);
            }
        }
        None
    })
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

impl<T, R> fmt::Debug for Agent<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
