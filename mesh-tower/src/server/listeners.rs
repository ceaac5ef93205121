//! The listeners of a process: kept in step with the configuration without dropping connections.
//!
//! A listener that is new is bound on every worker; one that changed keeps its sockets, serves new connections with the
//! new configuration and drains the old ones; one that is gone stops accepting and drains. A listener that cannot be
//! bound is reported, and everything else goes on: those that left with the same change as well, because the new one may
//! have been meant to replace one of them.

use std::{error::Error as StdError, fmt, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use hashbrown::{HashMap, HashSet};
use mesh_core::model::{Listener, ListenerAddress, TrafficDirection};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use super::{
    accept::accept,
    listen,
    listener_change::{ListenerChange, ListenerError},
};
use crate::drain::{Drain, DrainTimes};

/// Serves the connections of one listener, on one worker, under one version of its configuration.
pub trait ServeConnection: Send + Sync + 'static {
    /// Serves `stream` to its end; called within the worker's runtime, where it may spawn. The connection belongs to
    /// `drain`'s group.
    fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, drain: &Drain);
}

/// Makes what serves a listener: once per worker and version. Errors are those of the configuration, such as an access
/// log that cannot be opened.
pub type MakeServer<S> = Box<dyn FnMut(&Arc<Listener>) -> Result<Arc<S>, Box<dyn StdError + Send + Sync>> + Send>;

/// The listeners of a process.
pub struct Listeners<S> {
    workers: Vec<Worker<S>>,
    active: HashMap<Arc<str>, ActiveListener<S>>,
    /// Listeners that are not as they are wanted, as they are wanted, and what was told of that.
    failed: HashMap<Arc<str>, (Arc<Listener>, String)>,
    /// Active ones that are not wanted any more, but go on for the sake of those that failed.
    kept: HashSet<Arc<str>>,
    times: DrainTimes,
    /// Connections of listeners and versions that are no more.
    leaving: Vec<Drain>,
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

/// One version of a listener: who serves it on each worker, and its connections.
struct Generation<S> {
    servers: Vec<Arc<S>>,
    connections: Drain,
}

/// Why a listener cannot be brought up while another listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clash {
    /// It takes over the other's sockets.
    SameAddress,
    /// One of them is to listen on all addresses.
    SamePort,
}

/// A listener that is up.
#[derive(Clone, Debug)]
pub struct ListenerStatus {
    /// Its configuration.
    pub config: Arc<Listener>,
    /// Where it really listens: the port is known.
    pub address: SocketAddr,
}

impl<S: ServeConnection> Listeners<S> {
    /// No listener yet, on these workers.
    #[must_use]
    pub fn new(workers: Vec<(Handle, MakeServer<S>)>, times: DrainTimes) -> Self {
        let workers = workers.into_iter().map(|(runtime, make)| Worker { runtime, make }).collect();
        Self {
            workers,
            active: HashMap::new(),
            failed: HashMap::new(),
            kept: HashSet::new(),
            times,
            leaving: Vec::new(),
        }
    }

    /// Brings up, changes and takes down listeners so that they are `wanted`; returns what changed. What failed is told
    /// once; asking for the same again tries again.
    ///
    /// # Cancel safety
    /// Not all is as wanted if the future is dropped; the next call goes on from there.
    pub async fn apply<'a>(&mut self, wanted: impl IntoIterator<Item = &'a Arc<Listener>>) -> Vec<ListenerChange> {
        self.leaving.retain(|connections| connections.connections() > 0);
        let wanted: HashMap<Arc<str>, &Arc<Listener>> =
            wanted.into_iter().map(|listener| (Arc::clone(&listener.name), listener)).collect();
        self.failed.retain(|name, _| wanted.contains_key(name));
        let mut gone: Vec<_> = self.active.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        gone.sort();
        self.kept.retain(|name| gone.contains(name));
        let mut wanted: Vec<_> = wanted.into_values().collect();
        wanted.sort_by(|a, b| a.name.cmp(&b.name));

        let mut stopped = Vec::new();
        for name in &gone {
            match wanted.iter().find_map(|listener| Some((listener, self.clash(name, listener)?))) {
                Some((listener, Clash::SameAddress)) => self.rename(name, listener),
                // The address is free only without the old one.
                Some((listener, Clash::SamePort)) => {
                    if let Some(old) = self.active.remove(name) {
                        self.retire(&old);
                        old.accepting.emptied().await;
                        stopped.push((old, Arc::clone(&listener.name)));
                    }
                }
                None => {}
            }
        }
        let mut changes = Vec::new();
        let mut may_be_replaced = false;
        for listener in wanted {
            let (change, failed_newly) = self.apply_one(listener);
            changes.extend(change);
            may_be_replaced |= failed_newly;
        }
        changes.extend(stopped.into_iter().filter_map(|(old, successor)| self.restart_without(&old, &successor)));
        changes.extend(gone.into_iter().filter_map(|name| self.leave(name, may_be_replaced)));
        changes
    }

    /// Whether every listener that was wanted last is as it was wanted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// Names of the listeners that are not as they were wanted last.
    pub fn failed(&self) -> impl Iterator<Item = &Arc<str>> {
        self.failed.keys()
    }

    /// Why a new listener cannot listen beside the one called `name`.
    fn clash(&self, name: &str, wanted: &Listener) -> Option<Clash> {
        let (&ListenerAddress::Socket(new), Some(active)) = (&wanted.address, self.active.get(name)) else {
            return None;
        };
        // What failed before is not worth the old one's connections.
        let is_retry = self.failed.get(&wanted.name).is_some_and(|(failed, _)| **failed == *wanted);
        let is_new = !self.active.contains_key(&wanted.name) && !is_retry;
        let old = active.address;
        let overlap = old.ip() == new.ip() || old.ip().is_unspecified() || new.ip().is_unspecified();
        match is_new && overlap && old.port() == new.port() {
            true if old.ip() == new.ip() => Some(Clash::SameAddress),
            true => Some(Clash::SamePort),
            false => None,
        }
    }

    /// The sockets of the listener called `name` become those of `wanted`, which is then changed as any other.
    fn rename(&mut self, name: &str, wanted: &Listener) {
        if let Some(mut listener) = self.active.remove(name) {
            let mut config = Listener::clone(&listener.config);
            config.address = wanted.address.clone();
            listener.config = Arc::new(config);
            self.active.insert(Arc::clone(&wanted.name), listener);
        }
    }

    /// A listener that is not wanted any more goes, unless it may have been meant to be replaced by one that failed.
    fn leave(&mut self, name: Arc<str>, may_be_replaced: bool) -> Option<ListenerChange> {
        if may_be_replaced || (self.kept.contains(&name) && !self.failed.is_empty()) {
            let is_news = self.active.contains_key(&name) && self.kept.insert(Arc::clone(&name));
            return is_news.then_some(ListenerChange::Kept(name));
        }
        self.kept.remove(&name);
        let old = self.active.remove(&name)?;
        self.retire(&old);
        Some(ListenerChange::Removed(name))
    }

    /// A listener that was stopped goes on if its successor failed.
    fn restart_without(&mut self, old: &ActiveListener<S>, successor: &str) -> Option<ListenerChange> {
        let name = Arc::clone(&old.config.name);
        if !self.failed.contains_key(successor) {
            return Some(ListenerChange::Removed(name));
        }
        let failed = self.bring_up(&old.config, old.address).err()?;
        Some(ListenerChange::Failed(ListenerError { name, source: failed }))
    }

    /// What there is to tell, and whether the listener failed as it had not before.
    fn apply_one(&mut self, listener: &Arc<Listener>) -> (Option<ListenerChange>, bool) {
        let ListenerAddress::Socket(address) = listener.address else { return (None, false) };
        let name = Arc::clone(&listener.name);
        let before = self.active.get(&name);
        if before.is_some_and(|before| before.config == *listener) {
            self.failed.remove(&name);
            return (None, false);
        }
        let moves = before.is_none_or(|before| before.config.address != listener.address);
        let result = if moves { self.bring_up(listener, address) } else { self.change(listener) };
        match result {
            Ok(change) => {
                self.failed.remove(&name);
                (Some(change), false)
            }
            Err(source) => {
                let text = source.to_string();
                let before = self.failed.insert(Arc::clone(&name), (Arc::clone(listener), text.clone()));
                let failed_newly = before.as_ref().is_none_or(|(before, _)| before != listener);
                let is_news = failed_newly || before.is_some_and(|(_, before)| before != text);
                (is_news.then_some(ListenerChange::Failed(ListenerError { name, source })), failed_newly)
            }
        }
    }

    fn bring_up(
        &mut self,
        listener: &Arc<Listener>,
        address: SocketAddr,
    ) -> Result<ListenerChange, Box<dyn StdError + Send + Sync>> {
        let generation = Arc::new(ArcSwap::new(self.generation(listener)?));
        let sockets = listen::bind(address, self.workers.len())?;
        let address = sockets.first().map_or(Ok(address), std::net::TcpListener::local_addr)?;
        let accepting = Drain::new();
        for ((index, worker), socket) in self.workers.iter().enumerate().zip(sockets) {
            let _in_worker = worker.runtime.enter();
            let socket = TcpListener::from_std(socket)?;
            let generation = Arc::clone(&generation);
            worker.runtime.spawn(accept(socket, accepting.watch(), move |stream, peer| {
                let generation = generation.load();
                Arc::clone(&generation.servers[index]).serve(stream, peer, &generation.connections);
            }));
        }
        let name = Arc::clone(&listener.name);
        let up = ActiveListener { config: Arc::clone(listener), address, accepting, generation };
        if let Some(before) = self.active.insert(Arc::clone(&name), up) {
            self.retire(&before);
        }
        Ok(ListenerChange::Added(name, address))
    }

    fn change(&mut self, listener: &Arc<Listener>) -> Result<ListenerChange, Box<dyn StdError + Send + Sync>> {
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
        Ok(Arc::new(Generation { servers, connections: Drain::new() }))
    }

    fn retire(&mut self, listener: &ActiveListener<S>) {
        listener.accepting.begin();
        self.drain_in_background(listener.generation.load().connections.clone());
    }

    fn drain_in_background(&mut self, connections: Drain) {
        self.leaving.push(connections.clone());
        if let Some(worker) = self.workers.first() {
            let times = self.times;
            worker.runtime.spawn(async move { connections.run(times).await });
        }
    }

    /// The listeners that are up, sorted by name.
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

    /// Stops accepting, on every listener or only on those of one direction; connections go on.
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
    /// Draining that has begun goes as far as it has come.
    pub async fn drain(&mut self) {
        self.stop_accepting(None);
        // What the system has accepted by now reaches its group before the group is asked to end.
        for listener in self.active.values() {
            listener.accepting.emptied().await;
        }
        let mut groups: Vec<_> =
            self.active.values().map(|listener| listener.generation.load().connections.clone()).collect();
        groups.append(&mut self.leaving);
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

impl<S> fmt::Debug for Listeners<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("active", &self.active.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mesh_core::model::{HttpConnectionManager, RouteSource};

    use super::*;

    struct Nobody;

    impl ServeConnection for Nobody {
        fn serve(self: Arc<Self>, _: TcpStream, _: SocketAddr, _: &Drain) {}
    }

    fn listener(name: &str, address: SocketAddr) -> Arc<Listener> {
        Arc::new(Listener::http(name, address, HttpConnectionManager::new(name, RouteSource::Rds("r".into()))))
    }

    fn texts(changes: &[ListenerChange]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    /// Listeners on one worker, where nobody serves.
    fn listeners() -> Listeners<Nobody> {
        let make: MakeServer<Nobody> = Box::new(|_| Ok(Arc::new(Nobody)));
        Listeners::new(vec![(Handle::current(), make)], DrainTimes::default())
    }

    #[tokio::test]
    async fn a_listener_goes_on_until_its_successor_listens() {
        let any = "127.0.0.1:0".parse().unwrap();
        let mut listeners = listeners();
        let (old, other) = (listener("old", any), listener("other", any));
        listeners.apply([&old, &other]).await;
        let address = listeners.status()[0].address;

        let owner = TcpListener::bind(any).await.unwrap();
        let taken = owner.local_addr().unwrap();
        let new = listener("new", taken);
        assert_eq!(
            texts(&listeners.apply([&new, &other]).await),
            [
                format!("listener new: cannot listen on {taken}: address already in use"),
                "listener old: not wanted any more, but goes on until all others listen".to_owned(),
            ]
        );
        assert!(listeners.apply([&new, &other]).await.is_empty() && !listeners.is_complete(), "told once");
        assert_eq!(texts(&listeners.apply([&new]).await), ["listener other: removed"], "by another change");
        TcpStream::connect(address).await.unwrap();

        drop(owner);
        assert_eq!(
            texts(&listeners.apply([&new]).await),
            [format!("listener new: listening on {taken}"), "listener old: removed".to_owned()]
        );
        assert!(listeners.is_complete());
    }

    #[tokio::test]
    async fn a_listener_that_is_kept_goes_with_the_one_that_failed_or_is_wanted_again() {
        let any = "127.0.0.1:0".parse().unwrap();
        let owner = TcpListener::bind(any).await.unwrap();
        let (old, new) = (listener("old", any), listener("new", owner.local_addr().unwrap()));
        let mut listeners = listeners();
        listeners.apply([&old]).await;
        assert_eq!(listeners.apply([&new]).await.len(), 2);
        assert!(listeners.apply([&old]).await.is_empty() && listeners.is_complete());
        assert_eq!(listeners.apply([&new]).await.len(), 2);
        assert_eq!(texts(&listeners.apply([]).await), ["listener old: removed"]);
    }

    #[tokio::test]
    async fn a_port_goes_from_listener_to_listener() {
        let mut listeners = listeners();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        listeners.apply([&listener("a", free)]).await;
        assert_eq!(texts(&listeners.apply([&listener("b", free)]).await), ["listener b: configuration changed"]);
        assert_eq!(listeners.status()[0].address, free);
        let everywhere = SocketAddr::from(([0, 0, 0, 0], free.port()));
        let wide = listener("c", everywhere);
        let owner = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), free.port())).await.unwrap();
        for expected in [2, 0] {
            assert_eq!(listeners.apply([&wide]).await.len(), expected);
            TcpStream::connect(free).await.expect("what cannot be replaced goes on");
        }
        drop(owner);
        let wide = listener("d", everywhere);
        assert_eq!(
            texts(&listeners.apply([&wide]).await),
            [format!("listener d: listening on {everywhere}"), "listener b: removed".to_owned()]
        );
        TcpStream::connect(free).await.unwrap();
    }
}
