//! The life of the process: configuration, workers, listeners, and an orderly end.

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc};

use mesh_core::{rng::SplitMix64, route::RouteTableError};
use mesh_tower::{
    ConnectionManager, TcpConnector, Upstream, UpstreamOptions, Worker,
    drain::DrainTimes,
    server::{BindError, ListenerChange, ListenerError, Listeners, MakeServer, Workers, bind},
    telemetry::Telemetry,
};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    sync::mpsc,
};

use crate::{
    admin,
    args::{Args, Mode},
    bootstrap::{self, LoadError, Loaded},
    logging,
    signal::Signals,
    state::{Node, Phase, Request, State},
};

/// Why the process ends before its time.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The configuration is of no use.
    #[error(transparent)]
    Bootstrap(#[from] LoadError),
    /// Its routes contradict themselves.
    #[error(transparent)]
    Routes(#[from] RouteTableError),
    /// A listener cannot be brought up.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The admin endpoint cannot be brought up.
    #[error("admin endpoint: {0}")]
    Admin(#[from] BindError),
    /// The file for the admin endpoint's address cannot be written.
    #[error("cannot write {path}: {source}")]
    AdminAddressPath { path: String, source: io::Error },
    /// The system gives no threads, sockets or signals.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

/// The service behind every listener.
type Server = ConnectionManager<Upstream>;

/// Runs the process to its end.
pub(crate) fn run(args: Args) -> Result<(), RunError> {
    let log_level = logging::start(args.log_level);
    let loaded = bootstrap::load(&args)?;
    for (place, ignored) in &loaded.bootstrap.ignored {
        tracing::info!("{place}: {} has no effect: {}", ignored.path, ignored.reason);
    }
    if args.mode == Mode::Validate {
        tracing::info!("configuration is valid");
        return Ok(());
    }
    let node = Node {
        id: args.service_node.clone().unwrap_or_else(|| loaded.bootstrap.node.id.clone()),
        cluster: args.service_cluster.clone().unwrap_or_else(|| loaded.bootstrap.node.cluster.clone()),
    };
    let (state, requests) = State::new(args, node, log_level, Telemetry::default());
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(Arc::new(state), requests, loaded));
    // What has been logged by now must not be lost, whatever else still holds the files.
    result.map(|telemetry| telemetry.logs.flush())
}

async fn serve(
    state: Arc<State>,
    mut requests: mpsc::UnboundedReceiver<Request>,
    loaded: Loaded,
) -> Result<Telemetry, RunError> {
    let mut signals = Signals::listen()?;
    start_admin(&state, &loaded)?;
    state.lifecycle.enter(Phase::Initializing);
    loaded.apply(&state.store, &mut SplitMix64::new(fastrand::u64(..)))?;
    state.config_dump.lock().bootstrap = Some(Box::new(loaded.proto));
    let workers = Workers::start(state.args.workers())?;
    let mut listeners = Listeners::new(servers(&state, &workers), drain_times(&state));
    apply_listeners(&state, &mut listeners)?;
    state.lifecycle.enter(Phase::Live);
    tracing::info!("ready");
    loop {
        let reason = tokio::select! {
            signal = signals.next() => signal,
            Some(request) = requests.recv() => match request {
                Request::Quit => "/quitquitquit",
                Request::DrainListeners => {
                    listeners.stop_accepting(None);
                    continue;
                }
                Request::DrainInboundListeners => {
                    listeners.stop_accepting(Some(mesh_core::model::TrafficDirection::Inbound));
                    continue;
                }
            },
        };
        tracing::info!("{reason}: draining, for {} s at most", state.args.drain_time_s);
        break;
    }
    state.lifecycle.enter(Phase::Draining);
    listeners.drain().await;
    drop(workers);
    Ok(state.telemetry.clone())
}

/// What serves a listener on each worker.
fn servers(state: &Arc<State>, workers: &Workers) -> Vec<(Handle, MakeServer<Server>)> {
    let count = NonZeroUsize::new(workers.handles().count()).unwrap_or(NonZeroUsize::MIN);
    let server = |(index, handle): (usize, &Handle)| {
        let state = Arc::clone(state);
        let upstream = Upstream::new(Arc::clone(&state.store), Worker::new(index, count, TcpConnector));
        let make: MakeServer<Server> = Box::new(move |listener| {
            let upstream = upstream.with_options(UpstreamOptions::from(&*listener.http));
            Ok(Arc::new(ConnectionManager::new(listener, &state.store, &state.telemetry, upstream)?))
        });
        (handle.clone(), make)
    };
    workers.handles().enumerate().map(server).collect()
}

/// Brings listeners up. At the start all of them must come up.
fn apply_listeners(state: &State, listeners: &mut Listeners<Server>) -> Result<(), ListenerError> {
    let wanted = state.store.listeners();
    for change in listeners.apply(wanted.values()) {
        match change {
            ListenerChange::Failed(error) => return Err(error),
            change => tracing::info!("{change}"),
        }
    }
    state.set_listeners(listeners.status());
    Ok(())
}

fn drain_times(state: &State) -> DrainTimes {
    DrainTimes { drain_time: state.args.drain_time(), ..DrainTimes::default() }
}

fn start_admin(state: &Arc<State>, loaded: &Loaded) -> Result<(), RunError> {
    let of_bootstrap = loaded.bootstrap.admin.as_ref().map(|admin| admin.address);
    let Some(address) = state.args.admin.or(of_bootstrap) else { return Ok(()) };
    let address = listen_admin(state, address)?;
    tracing::info!("admin endpoint: listening on {address}");
    let Some(path) = &state.args.admin_address_path else { return Ok(()) };
    std::fs::write(path, address.to_string())
        .map_err(|source| RunError::AdminAddressPath { path: path.display().to_string(), source })
}

fn listen_admin(state: &Arc<State>, address: SocketAddr) -> Result<SocketAddr, RunError> {
    let mut sockets = bind(address, 1)?;
    let socket = sockets.pop().ok_or_else(|| io::Error::other("no socket"))?;
    let address = socket.local_addr()?;
    tokio::spawn(admin::serve(TcpListener::from_std(socket)?, Arc::clone(state)));
    Ok(address)
}
