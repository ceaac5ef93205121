//! The listeners of a process, which follow the configuration without dropping connections.
//!
//! A new listener is bound on every worker. A changed listener keeps its sockets, serves new connections with the new
//! configuration and drains the old ones. A removed listener stops accepting and drains. If a listener cannot be
//! started or updated, its predecessor of the same name stays in use, unchanged; other listeners are updated
//! nevertheless.

use std::{collections::BTreeMap, error::Error as StdError, fmt, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use mesh_core::model::{Listener, ListenerAddress, TrafficDirection};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use super::{
    accept::accept,
    listen,
    listener_change::{ListenerChange, ListenerError},
    redirect::{self, ByAddress, OriginalDestination},
};
use crate::{
    AcceptedConnection, AsyncReadWrite,
    drain::{Drain, DrainTimes},
};

/// Serves the connections of one listener, on one worker, under one version of its configuration.
pub trait ServeConnection: Send + Sync + 'static {
    /// Serves a connection to its end. Called within the worker's runtime, so it may spawn tasks. The connection
    /// belongs to the group of connections that `drain` ends.
    fn serve<I: AsyncReadWrite>(self: Arc<Self>, accepted: AcceptedConnection<I>, drain: &Drain);
}

/// Makes the server of a listener, once per worker and version. It fails if the configuration cannot be used, such as
/// an access log that cannot be opened.
pub type MakeServer<S> = Box<dyn FnMut(&Arc<Listener>) -> Result<Arc<S>, Box<dyn StdError + Send + Sync>> + Send>;

/// The listeners of a process.
pub struct Listeners<S> {
    workers: Vec<Worker<S>>,
    active: HashMap<Arc<str>, ActiveListener<S>>,
    /// Listeners that could not be started or updated: their configuration, and the error that was reported.
    failed: HashMap<Arc<str>, (Arc<Listener>, String)>,
    times: DrainTimes,
    original_destination: OriginalDestination,
    by_address: ByAddress<Arc<ArcSwap<Generation<S>>>>,
    /// Connections of removed listeners and of previous versions.
    draining: Vec<Drain>,
}

struct Worker<S> {
    runtime: Handle,
    make: MakeServer<S>,
}

struct ActiveListener<S> {
    config: Arc<Listener>,
    address: SocketAddr,
    accepting: Drain,
    generation: Arc<ArcSwap<Generation<S>>>,
}

/// One version of a listener: its server on each worker, and its connections.
struct Generation<S> {
    servers: Vec<Arc<S>>,
    connections: Drain,
    restores_destination: bool,
    use_original_dst: bool,
}

/// A listener in use.
#[derive(Clone, Debug)]
pub struct ListenerStatus {
    /// Its configuration.
    pub config: Arc<Listener>,
    /// The address of its sockets, with the actual port if port 0 is configured.
    pub address: SocketAddr,
}

impl<S: ServeConnection> Listeners<S> {
    /// Creates an empty set of listeners on these workers.
    #[must_use]
    pub fn new(workers: Vec<(Handle, MakeServer<S>)>, times: DrainTimes) -> Self {
        let workers = workers.into_iter().map(|(runtime, make)| Worker { runtime, make }).collect();
        Self {
            workers,
            active: HashMap::new(),
            failed: HashMap::new(),
            times,
            original_destination: redirect::of_system,
            by_address: ByAddress::default(),
            draining: Vec::new(),
        }
    }

    /// Starts, updates and removes listeners until they are the `wanted` ones; returns the changes. Every call retries
    /// the listeners that failed; an unchanged failure is returned once.
    ///
    /// # Cancel safety
    /// If the future is dropped, some changes have not been made; the next call makes them.
    pub async fn apply<'a>(&mut self, wanted: impl IntoIterator<Item = &'a Arc<Listener>>) -> Vec<ListenerChange> {
        self.draining.retain(|connections| connections.connections() > 0);
        let wanted: BTreeMap<&str, &Arc<Listener>> =
            wanted.into_iter().map(|listener| (&*listener.name, listener)).collect();
        self.failed.retain(|name, _| wanted.contains_key(&**name));
        let mut changes = Vec::new();
        // Removals come first, because other listeners may need their addresses.
        for old in self.take_unwanted(&wanted) {
            self.publish_addresses();
            self.stop(&old).await;
            changes.push(ListenerChange::Removed(Arc::clone(&old.config.name)));
        }
        // A listener that moves may free an address for a new one.
        let (present, new): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(name, _)| self.active.contains_key(*name));
        for (_, listener) in present.into_iter().chain(new) {
            changes.extend(self.apply_one(listener).await);
        }
        self.publish_addresses();
        changes
    }

    /// Lets listeners hand connections to those that are active now.
    fn publish_addresses(&self) {
        self.by_address.set(self.active.values().map(|active| (active.address, Arc::clone(&active.generation))));
    }

    fn take_unwanted(&mut self, wanted: &BTreeMap<&str, &Arc<Listener>>) -> Vec<ActiveListener<S>> {
        let unwanted = self.active.extract_if(|name, _| !wanted.contains_key(&**name));
        let mut unwanted: Vec<_> = unwanted.map(|(_, listener)| listener).collect();
        unwanted.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        unwanted
    }

    /// Whether all listeners of the last [`apply`](Self::apply) are in use.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// Names of the listeners that the last [`apply`](Self::apply) could not start or update.
    pub fn failed(&self) -> impl Iterator<Item = &Arc<str>> {
        self.failed.keys()
    }

    /// Starts or updates one listener; returns the change to report.
    async fn apply_one(&mut self, listener: &Arc<Listener>) -> Option<ListenerChange> {
        let ListenerAddress::Socket(address) = listener.address else { return None };
        let name = Arc::clone(&listener.name);
        let before = self.active.get(&name);
        if before.is_some_and(|before| before.config == *listener) {
            self.failed.remove(&name);
            return None;
        }
        let moves = before.is_none_or(|before| {
            before.config.address != listener.address || before.config.bind_to_port != listener.bind_to_port
        });
        let result = if moves { self.start(listener, address).await } else { self.update(listener) };
        match result {
            Ok(change) => {
                self.failed.remove(&name);
                Some(change)
            }
            Err(source) => {
                let text = source.to_string();
                let before = self.failed.insert(Arc::clone(&name), (Arc::clone(listener), text.clone()));
                let is_known = before.is_some_and(|(before, reason)| before == *listener && reason == text);
                (!is_known).then_some(ListenerChange::Failed(ListenerError { name, source }))
            }
        }
    }

    async fn start(
        &mut self,
        listener: &Arc<Listener>,
        address: SocketAddr,
    ) -> Result<ListenerChange, Box<dyn StdError + Send + Sync>> {
        let generation = Arc::new(ArcSwap::new(self.generation(listener)?));
        let sockets = if listener.bind_to_port { listen::bind(address, self.workers.len())? } else { Vec::new() };
        let address = sockets.first().map_or(Ok(address), std::net::TcpListener::local_addr)?;
        let accepting = Drain::new();
        for ((index, worker), socket) in self.workers.iter().enumerate().zip(sockets) {
            let _in_worker = worker.runtime.enter();
            let socket = TcpListener::from_std(socket)?;
            let (generation, others) = (Arc::clone(&generation), self.by_address.clone());
            let original_destination = self.original_destination;
            worker.runtime.spawn(accept(socket, accepting.watch(), move |mut accepted| {
                let own = generation.load();
                if own.restores_destination {
                    restore(&mut accepted, original_destination);
                }
                let other =
                    accepted.local_address.filter(|_| own.use_original_dst && accepted.is_local_address_restored);
                match other.and_then(|destination| others.find(destination)) {
                    Some(other) => other.load().serve(index, accepted),
                    None => own.serve(index, accepted),
                }
            }));
        }
        let name = Arc::clone(&listener.name);
        let up = ActiveListener { config: Arc::clone(listener), address, accepting, generation };
        if let Some(before) = self.active.insert(Arc::clone(&name), up) {
            self.stop(&before).await;
        }
        Ok(if listener.bind_to_port {
            ListenerChange::Added(name, address)
        } else {
            ListenerChange::AddedWithoutSocket(name)
        })
    }

    fn update(&mut self, listener: &Arc<Listener>) -> Result<ListenerChange, Box<dyn StdError + Send + Sync>> {
        let generation = self.generation(listener)?;
        let name = Arc::clone(&listener.name);
        if let Some(active) = self.active.get_mut(&name) {
            active.config = Arc::clone(listener);
            let before = active.generation.swap(generation);
            self.drain_in_background(before.connections.clone());
        }
        Ok(ListenerChange::Updated(name))
    }

    fn generation(&mut self, listener: &Arc<Listener>) -> Result<Arc<Generation<S>>, Box<dyn StdError + Send + Sync>> {
        let servers = self.workers.iter_mut().map(|worker| (worker.make)(listener)).collect::<Result<_, _>>()?;
        let (restores_destination, use_original_dst) = (listener.restores_destination(), listener.use_original_dst);
        Ok(Arc::new(Generation { servers, connections: Drain::new(), restores_destination, use_original_dst }))
    }

    /// Stops accepting and drains; the address is free afterwards.
    async fn stop(&mut self, listener: &ActiveListener<S>) {
        listener.accepting.begin();
        listener.accepting.emptied().await;
        self.drain_in_background(listener.generation.load().connections.clone());
    }

    fn drain_in_background(&mut self, connections: Drain) {
        self.draining.push(connections.clone());
        if let Some(worker) = self.workers.first() {
            let times = self.times;
            worker.runtime.spawn(async move { connections.run(times).await });
        }
    }

    /// The listeners in use, sorted by name.
    #[must_use]
    pub fn status(&self) -> Vec<ListenerStatus> {
        let mut status: Vec<_> = self
            .active
            .values()
            .map(|listener| ListenerStatus { config: Arc::clone(&listener.config), address: listener.address })
            .collect();
        status.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        status
    }

    /// Stops accepting, on every listener or only on those of one direction; open connections stay open.
    pub fn stop_accepting(&self, direction: Option<TrafficDirection>) {
        for listener in self.active.values() {
            if direction.is_none_or(|direction| listener.config.traffic_direction == direction) {
                listener.accepting.begin();
            }
        }
    }

    /// Stops accepting and ends every connection; resolves when all have ended, after `drain_time` at the latest.
    ///
    /// # Cancel safety
    /// Draining that has begun continues if the future is dropped.
    pub async fn drain(&mut self) {
        self.stop_accepting(None);
        // Connections of the accept queue join their group before the group drains.
        for listener in self.active.values() {
            listener.accepting.emptied().await;
        }
        let mut groups: Vec<_> =
            self.active.values().map(|listener| listener.generation.load().connections.clone()).collect();
        groups.append(&mut self.draining);
        let mut drains: Vec<_> = groups
            .into_iter()
            .map(|group| {
                let times = self.times;
                tokio::spawn(async move { group.run(times).await })
            })
            .collect();
        for drain in &mut drains {
            // A group whose task was cancelled has no runtime left to drain on.
            let _ = drain.await;
        }
    }
}

impl<S: ServeConnection> Generation<S> {
    fn serve(&self, worker: usize, accepted: AcceptedConnection<TcpStream>) {
        Arc::clone(&self.servers[worker]).serve(accepted, &self.connections);
    }
}

/// Sets the address that a redirected connection was made to.
fn restore(accepted: &mut AcceptedConnection<TcpStream>, original_destination: OriginalDestination) {
    let original = original_destination(&accepted.io);
    // A connection that was not redirected may have its own address there.
    if original.is_some() && original != accepted.local_address {
        (accepted.local_address, accepted.is_local_address_restored) = (original, true);
    }
}

impl<S> fmt::Debug for Listeners<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("active", &self.active.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use mesh_core::model::{HttpConnectionManager, RouteSource};
    use tokio::{net::TcpSocket, sync::mpsc};

    struct Discard;

    impl ServeConnection for Discard {
        fn serve<I: AsyncReadWrite>(self: Arc<Self>, _: AcceptedConnection<I>, _: &Drain) {}
    }

    fn listener(name: &str, address: SocketAddr) -> Arc<Listener> {
        Arc::new(Listener::http(name, address, HttpConnectionManager::new(name, RouteSource::Rds("r".into()))))
    }

    fn texts(changes: &[ListenerChange]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    /// Listeners on one worker, which discard their connections.
    fn listeners() -> Listeners<Discard> {
        let make: MakeServer<Discard> = Box::new(|_| Ok(Arc::new(Discard)));
        Listeners::new(vec![(Handle::current(), make)], DrainTimes::default())
    }

    fn free_address() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_listener_that_cannot_be_bound_keeps_its_predecessor() {
        let any = "127.0.0.1:0".parse().unwrap();
        let mut listeners = listeners();
        listeners.apply([&listener("a", any), &listener("b", any)]).await;
        let [a, b] = &listeners.status()[..] else { panic!("two listeners") };
        let (a, b) = (a.address, b.address);

        let owner = TcpListener::bind(any).await.unwrap();
        let taken = owner.local_addr().unwrap();
        let moved = listener("a", taken);
        assert_eq!(
            texts(&listeners.apply([&moved]).await),
            ["listener b: removed".to_owned(), format!("listener a: cannot listen on {taken}: address already in use"),]
        );
        TcpStream::connect(a).await.expect("the predecessor is still served");
        assert!(TcpStream::connect(b).await.is_err(), "the removed listener is closed");
        assert!(listeners.apply([&moved]).await.is_empty() && !listeners.is_complete(), "reported once");

        drop(owner);
        assert_eq!(texts(&listeners.apply([&moved]).await), [format!("listener a: listening on {taken}")]);
        assert!(TcpStream::connect(a).await.is_err() && listeners.is_complete());
    }

    #[tokio::test]
    async fn an_address_can_move_between_listeners() {
        let mut listeners = listeners();
        let (address, other) = (free_address(), free_address());
        listeners.apply([&listener("b", address)]).await;
        let changes = listeners.apply([&listener("a", address), &listener("b", other)]).await;
        assert_eq!(
            texts(&changes),
            [format!("listener b: listening on {other}"), format!("listener a: listening on {address}")]
        );
        let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
        assert_eq!(
            texts(&listeners.apply([&listener("c", everywhere)]).await),
            [
                "listener a: removed".to_owned(),
                "listener b: removed".to_owned(),
                format!("listener c: listening on {everywhere}"),
            ]
        );
        TcpStream::connect(address).await.unwrap();
    }

    /// Says which of its listeners has served a connection, and the address that it was made to.
    struct Report(Arc<str>, mpsc::UnboundedSender<(String, Option<SocketAddr>)>);

    impl ServeConnection for Report {
        fn serve<I: AsyncReadWrite>(self: Arc<Self>, accepted: AcceptedConnection<I>, _: &Drain) {
            let restored = accepted.local_address.filter(|_| accepted.is_local_address_restored);
            self.1.send((self.0.to_string(), restored)).unwrap();
        }
    }

    #[tokio::test]
    async fn redirected_connections_are_handed_to_the_listener_of_their_address() {
        let (sender, mut served) = mpsc::unbounded_channel();
        let make: MakeServer<Report> =
            Box::new(move |listener| Ok(Arc::new(Report(Arc::clone(&listener.name), sender.clone()))));
        let mut listeners = Listeners::new(vec![(Handle::current(), make)], DrainTimes::default());
        // The last byte of the client's address stands for where it was redirected from.
        listeners.original_destination = |stream| {
            let IpAddr::V4(ip) = stream.peer_addr().unwrap().ip() else { panic!("IPv4") };
            match ip.octets()[3] {
                1 => stream.local_addr().ok(),
                2 => None,
                port => Some(([10, 0, 0, 1], port.into()).into()),
            }
        };
        let captured = |name: &str, address: &str| {
            let mut listener = Listener::clone(&listener(name, address.parse().unwrap()));
            listener.bind_to_port = false;
            Arc::new(listener)
        };
        let mut outbound = Listener::clone(&listener("outbound", "127.0.0.1:0".parse().unwrap()));
        outbound.use_original_dst = true;
        let mut wanted = vec![Arc::new(outbound), captured("80", "0.0.0.0:80"), captured("own", "10.0.0.1:81")];
        let changes = listeners.apply(&wanted).await;
        assert_eq!(changes[0].to_string(), "listener 80: serves redirected connections");
        let address = listeners.status().iter().find(|status| &*status.config.name == "outbound").unwrap().address;
        let from = async |last: u8| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, last], 0).into()).unwrap();
            socket.connect(address).await.unwrap()
        };
        for (last, name, original) in [
            (80, "80", Some("10.0.0.1:80")),
            (81, "own", Some("10.0.0.1:81")),
            (82, "outbound", Some("10.0.0.1:82")),
            (1, "outbound", None),
            (2, "outbound", None),
        ] {
            let _client = from(last).await;
            let original = original.map(|text| text.parse().unwrap());
            assert_eq!(served.recv().await.unwrap(), (name.to_owned(), original), "from {last}");
        }
        wanted.remove(1);
        listeners.apply(&wanted).await;
        let _client = from(80).await;
        assert_eq!(served.recv().await.unwrap().0, "outbound", "its listener was removed");
    }
}
