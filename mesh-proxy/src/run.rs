//! The life of the process: configuration, workers, listeners and shutdown.

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use mesh_admin::Phase;
use mesh_core::{model::TrafficDirection, rng::SplitMix64, store::Version};
use mesh_tower::{
    TcpConnector, Upstream, UpstreamOptions, Worker,
    dns::{DnsDiscovery, SystemResolver},
    drain::DrainTimes,
    peer_metadata::PeerExchange,
    server::{
        BindError, ListenerChange, ListenerContext, ListenerError, ListenerServer, Listeners, MakeServer, Workers, bind,
    },
    telemetry::{LocalInfo, Telemetry},
};
use mesh_xds::{resource::ResourceError, secrets::FileSecrets, status::ConfigStatus};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    sync::mpsc,
    time::Instant,
};

use crate::{
    admin,
    args::{Args, Mode},
    bootstrap::{self, LoadError, Loaded},
    control_plane::{self, Following},
    istio::{self, Istio, IstioError},
    logging,
    signal::Signals,
    state::{Node, Request, State},
};

/// How long listeners wait for the addresses of the first clusters.
const FIRST_ANSWERS_LIMIT: Duration = Duration::from_secs(5);

/// First and longest delay before listeners that could not be started are retried. A port may become free without a
/// change of the configuration.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);

/// An error that ends the process.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// The bootstrap cannot be used.
    #[error(transparent)]
    Bootstrap(#[from] LoadError),
    /// The directory cannot be used.
    #[error(transparent)]
    Istio(#[from] IstioError),
    /// A resource of the bootstrap cannot be used.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// A listener cannot be started.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The admin endpoint cannot be started.
    #[error("admin endpoint: {0}")]
    Admin(#[from] BindError),
    /// The file for the admin endpoint's address cannot be written.
    #[error("cannot write {path}: {source}")]
    AdminAddressPath { path: String, source: io::Error },
    /// The operating system provides no threads, sockets or signals.
    #[error("system error: {0}")]
    System(#[from] io::Error),
}

/// Where the configuration comes from.
enum Source {
    Bootstrap(Box<Loaded>),
    Istio(Box<Istio>),
}

/// The server of a listener.
type Server = ListenerServer<Upstream>;

/// Runs the process to its end.
pub(crate) fn run(args: Args) -> Result<(), RunError> {
    let log_level = logging::start(args.log_level);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let source = {
        // Following a directory needs the runtime's reactor from the start.
        let _in_runtime = runtime.enter();
        open(&args)?
    };
    if args.mode == Mode::Validate {
        tracing::info!("configuration is valid");
        return Ok(());
    }
    let (node, mut telemetry) = source.identity();
    let node = Node {
        id: args.service_node.clone().unwrap_or(node.id),
        cluster: args.service_cluster.clone().unwrap_or(node.cluster),
    };
    telemetry.local_info = LocalInfo { node_name: node.id.as_str().into(), cluster_name: node.cluster.as_str().into() };
    let (state, requests) = State::new(args, node, log_level, telemetry);
    let state = Arc::new(state);
    let result = runtime.block_on(serve(&state, requests, source));
    // Lines that are still in memory must not be lost. Other tasks may hold the files, so dropping them is not enough.
    state.telemetry.logs.flush();
    // Blocking calls may never return, such as a read of a file system that does not answer.
    runtime.shutdown_background();
    result
}

fn open(args: &Args) -> Result<Source, RunError> {
    if let Some(path) = &args.istio {
        return Ok(Source::Istio(Box::new(istio::open(args, path.clone())?)));
    }
    let loaded = bootstrap::load(args)?;
    for (place, ignored) in &loaded.bootstrap.ignored {
        tracing::info!("{place}: {} has no effect: {}", ignored.path, ignored.reason);
    }
    Ok(Source::Bootstrap(Box::new(loaded)))
}

impl Source {
    fn identity(&self) -> (Node, Telemetry) {
        match self {
            Self::Bootstrap(loaded) => {
                let node = &loaded.bootstrap.node;
                (Node { id: node.id.clone(), cluster: node.cluster.clone() }, Telemetry::default())
            }
            Self::Istio(istio) => (istio.identity(), istio.telemetry()),
        }
    }

    fn admin_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Bootstrap(loaded) => loaded.bootstrap.admin.as_ref().map(|admin| admin.address),
            Self::Istio(_) => None,
        }
    }

    /// Starts keeping the store up to date.
    fn follow(self, state: &State) -> Result<Following, RunError> {
        match self {
            Self::Bootstrap(loaded) if control_plane::is_needed(&loaded.bootstrap) => {
                let following = control_plane::follow(&loaded.bootstrap, &state.store);
                let mut dump = state.config_dump.lock();
                dump.bootstrap = Some(Arc::new(loaded.proto));
                dump.dynamic = Some(following.status.clone());
                Ok(following)
            }
            Self::Bootstrap(loaded) => {
                let applied = Version::new();
                let settled = applied.watch();
                loaded.apply(&state.store, &mut SplitMix64::new(fastrand::u64(..)))?;
                let mut files = FileSecrets::new(Arc::clone(&state.store));
                files.refresh();
                drop(tokio::spawn(files.follow()));
                state.config_dump.lock().bootstrap = Some(Arc::new(loaded.proto));
                applied.advance();
                Ok(Following { settled, status: ConfigStatus::default(), initial_fetch_timeout: None })
            }
            Self::Istio(istio) => {
                let (settled, status) = istio.follow(Arc::clone(&state.store));
                state.config_dump.lock().dynamic = Some(status.clone());
                Ok(Following { settled, status, initial_fetch_timeout: None })
            }
        }
    }
}

async fn serve(
    state: &Arc<State>,
    mut requests: mpsc::UnboundedReceiver<Request>,
    source: Source,
) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    start_admin(state, source.admin_address())?;
    let workers = Workers::start(state.args.workers())?;
    let mut listeners = Listeners::new(servers(state, &workers), drain_times(state));
    let dns = DnsDiscovery::start(Arc::clone(&state.store), SystemResolver::new());
    state.lifecycle.enter(Phase::Initializing);
    let Following { mut settled, initial_fetch_timeout, .. } = source.follow(state)?;
    let mut is_first = true;
    let fetched_until = initial_fetch_timeout.map(|timeout| Instant::now() + timeout);
    let mut retry_in = RETRY_MIN;
    let reason = loop {
        let is_complete = listeners.is_complete();
        tokio::select! {
            () = settled.changed() => {
                if state.lifecycle.phase() == Phase::Initializing {
                    dns.first_answers(FIRST_ANSWERS_LIMIT).await;
                }
                apply_listeners(state, &mut listeners).await?;
                (retry_in, is_first) = (RETRY_MIN, false);
            }
            () = until(fetched_until), if is_first => {
                tracing::warn!("no complete configuration within initial_fetch_timeout: serving without it");
                apply_listeners(state, &mut listeners).await?;
                is_first = false;
            }
            () = tokio::time::sleep(retry_in), if !is_complete => {
                apply_listeners(state, &mut listeners).await?;
                retry_in = (retry_in * 2).min(RETRY_MAX);
            }
            signal = signals.next() => break signal,
            Some(request) = requests.recv() => match request {
                Request::Quit => break "/quitquitquit",
                Request::DrainListeners => listeners.stop_accepting(None),
                Request::DrainInboundListeners => listeners.stop_accepting(Some(TrafficDirection::Inbound)),
            },
        }
    };
    tracing::info!("{reason}: draining, for {} s at most", state.args.drain_time_s);
    state.lifecycle.enter(Phase::Draining);
    listeners.drain().await;
    drop(workers);
    Ok(())
}

/// For each worker, its runtime and the function that makes the server of a listener.
fn servers(state: &Arc<State>, workers: &Workers) -> Vec<(Handle, MakeServer<Server>)> {
    let count = NonZeroUsize::new(workers.handles().count()).unwrap_or(NonZeroUsize::MIN);
    let server = |(index, handle): (usize, &Handle)| {
        let worker = Worker::new(index, count, TcpConnector);
        let upstream = Upstream::new(worker.clone());
        let (store, telemetry) = (Arc::clone(&state.store), state.telemetry.clone());
        let context = ListenerContext { store, telemetry, worker: Some(worker) };
        let make: MakeServer<Server> = Box::new(move |listener| {
            let server = ListenerServer::new(listener, &context, |http| {
                let peers = PeerExchange::new(http.peer_metadata, context.telemetry.peer.clone());
                upstream.with_options(UpstreamOptions::from(http)).with_peer_exchange(peers)
            });
            Ok(Arc::new(server?))
        });
        (handle.clone(), make)
    };
    workers.handles().enumerate().map(server).collect()
}

/// Updates the listeners to those of the store. At the start of the process all of them must start. Later, a listener
/// that fails is logged and retried, and the others continue.
async fn apply_listeners(state: &State, listeners: &mut Listeners<Server>) -> Result<(), ListenerError> {
    let is_start = state.lifecycle.phase() == Phase::Initializing;
    for change in listeners.apply(state.store.listeners().values()).await {
        match change {
            ListenerChange::Failed(error) if is_start && state.must_start(&error.name) => return Err(error),
            ListenerChange::Failed(error) => tracing::error!("{error}; retrying"),
            change => tracing::info!("{change}"),
        }
    }
    state.set_listeners(listeners.status());
    if is_start {
        state.lifecycle.enter(Phase::Live);
        tracing::info!("ready");
    }
    Ok(())
}

/// Waits until a moment, forever without one.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn drain_times(state: &State) -> DrainTimes {
    DrainTimes { drain_time: state.args.drain_time(), ..DrainTimes::default() }
}

fn start_admin(state: &Arc<State>, configured: Option<SocketAddr>) -> Result<(), RunError> {
    let Some(address) = state.args.admin.or(configured) else { return Ok(()) };
    let mut sockets = bind(address, 1)?;
    let socket = sockets.pop().ok_or_else(|| io::Error::other("no socket"))?;
    let address = socket.local_addr()?;
    tokio::spawn(admin::serve(TcpListener::from_std(socket)?, Arc::clone(state)));
    tracing::info!("admin endpoint: listening on {address}");
    let Some(path) = &state.args.admin_address_path else { return Ok(()) };
    std::fs::write(path, address.to_string())
        .map_err(|source| RunError::AdminAddressPath { path: path.display().to_string(), source })
}
