//! The listeners of a process: kept in step with the configuration without dropping connections.
//!
//! A listener that is new is bound on every worker; one that changed keeps its sockets, serves new connections with the
//! new configuration and drains the old ones; one that is gone stops accepting and drains. A listener that cannot be
//! bound is reported, and everything else goes on.

use std::{fmt, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use mesh_core::model::{Listener, ListenerAddress, TrafficDirection};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use super::{accept::accept, listen};
use crate::drain::{Drain, DrainTimes};

/// Serves the connections of one listener, on one worker, under one version of its configuration.
pub trait ServeConnection: Send + Sync + 'static {
    /// Serves `stream` to its end; called within the worker's runtime, where it may spawn. The connection belongs to
    /// `drain`'s group.
    fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, drain: &Drain);
}

/// Makes what serves a listener: once per worker and version. Errors are those of the configuration, such as an access
/// log that cannot be opened.
pub type MakeServer<S> =
    Box<dyn FnMut(&Arc<Listener>) -> Result<Arc<S>, Box<dyn std::error::Error + Send + Sync>> + Send>;

/// The listeners of a process.
pub struct Listeners<S> {
    workers: Vec<Worker<S>>,
    active: HashMap<Arc<str>, ActiveListener<S>>,
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

/// What became of one listener.
#[derive(Debug)]
pub enum ListenerChange {
    /// It listens on this address now.
    Added(Arc<str>, SocketAddr),
    /// It serves new connections with its new configuration.
    Updated(Arc<str>),
    /// It no longer listens.
    Removed(Arc<str>),
    /// It could not be brought up, or not be changed; what was before still holds.
    Failed(ListenerError),
}

/// A listener could not be brought up or changed.
#[derive(Debug, Error)]
#[error("listener {name}: {source}")]
pub struct ListenerError {
    /// The listener.
    pub name: Arc<str>,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
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
        Self { workers, active: HashMap::new(), times, leaving: Vec::new() }
    }

    /// Brings up, changes and takes down listeners so that they are `wanted`; returns what changed.
    pub fn apply<'a>(&mut self, wanted: impl IntoIterator<Item = &'a Arc<Listener>>) -> Vec<ListenerChange> {
        self.leaving.retain(|connections| connections.connections() > 0);
        let wanted: HashMap<Arc<str>, &Arc<Listener>> =
            wanted.into_iter().map(|listener| (Arc::clone(&listener.name), listener)).collect();
        let gone: Vec<_> = self.active.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        let mut changes: Vec<_> = gone
            .into_iter()
            .filter_map(|name| {
                let listener = self.active.remove(&name)?;
                self.retire(&listener);
                Some(ListenerChange::Removed(name))
            })
            .collect();
        let mut wanted: Vec<_> = wanted.into_values().collect();
        wanted.sort_by(|a, b| a.name.cmp(&b.name));
        changes.extend(wanted.into_iter().filter_map(|listener| self.apply_one(listener)));
        changes
    }

    fn apply_one(&mut self, listener: &Arc<Listener>) -> Option<ListenerChange> {
        let ListenerAddress::Socket(address) = listener.address else { return None };
        let name = Arc::clone(&listener.name);
        let before = self.active.get(&name);
        if before.is_some_and(|before| before.config == *listener) {
            return None;
        }
        let moves = before.is_none_or(|before| before.config.address != listener.address);
        let result = if moves { self.bring_up(listener, address) } else { self.change(listener) };
        Some(result.unwrap_or_else(|source| ListenerChange::Failed(ListenerError { name, source })))
    }

    fn bring_up(
        &mut self,
        listener: &Arc<Listener>,
        address: SocketAddr,
    ) -> Result<ListenerChange, Box<dyn std::error::Error + Send + Sync>> {
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

    fn change(&mut self, listener: &Arc<Listener>) -> Result<ListenerChange, Box<dyn std::error::Error + Send + Sync>> {
        let generation = self.generation(listener)?;
        let name = Arc::clone(&listener.name);
        if let Some(active) = self.active.get_mut(&name) {
            active.config = Arc::clone(listener);
            let before = active.generation.swap(generation);
            self.drain_in_background(before.connections.clone());
        }
        Ok(ListenerChange::Updated(name))
    }

    fn generation(
        &mut self,
        listener: &Arc<Listener>,
    ) -> Result<Arc<Generation<S>>, Box<dyn std::error::Error + Send + Sync>> {
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

impl fmt::Display for ListenerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(name, address) => write!(f, "listener {name}: listening on {address}"),
            Self::Updated(name) => write!(f, "listener {name}: configuration changed"),
            Self::Removed(name) => write!(f, "listener {name}: removed"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}
