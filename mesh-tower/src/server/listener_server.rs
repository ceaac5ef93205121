//! The compiled filter chains of a listener, which serve its connections.

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use mesh_core::{
    listener::{FilterChainIndex, OverlappingFilterChains},
    model::{FilterChain, HttpConnectionManager, Listener, NetworkFilter, TcpProxy as TcpConfig},
    telemetry::{Attributes, ResponseFlags, details},
};
use thiserror::Error;

use crate::{
    AcceptedConnection, AsyncReadWrite, ConnectionManager, Downstream, ListenerConfigError, Respond,
    cluster_client::ClusterClients,
    downstream::{ListenerFilters, ReadAhead, Secured, SecuredIo, ServerSocket, SocketError},
    drain::{Drain, DrainWatch, Phase},
    http_connection_manager::ListenerContext,
    network_filter::{self, InvalidFilters, NetworkFilters},
    server::ServeConnection,
    tcp_proxy::{ConnectionTelemetry, TcpProxy},
    telemetry::{AccessLogs, ListenerStats, OpenError},
    timer::now,
};

/// Serves the connections of one listener, each with the filter chain that matches it. `S` responds to the requests
/// that the routes of HTTP connection managers do not respond to.
pub struct ListenerServer<S> {
    filters: ListenerFilters,
    index: FilterChainIndex,
    /// In the order of [`Listener::all_filter_chains`].
    chains: Vec<Chain<S>>,
    stats: Arc<ListenerStats>,
    access_logs: Arc<AccessLogs>,
}

/// A listener that cannot be served as configured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilterChainError {
    /// Two filter chains match the same connections.
    #[error(transparent)]
    Overlap(#[from] OverlappingFilterChains),
    /// A filter chain does not end with the only filter that serves connections, such as an HTTP connection manager.
    #[error(
        "filter chain {0} must have one filter that serves connections, such as an HTTP connection manager, as its last"
    )]
    NotTerminated(Arc<str>),
    /// A filter chain has a TCP proxy, but the listener is one of a program's own server.
    #[error("filter chain {0} has a TCP proxy, but a program's own server serves only HTTP")]
    TcpProxy(Arc<str>),
    /// A filter chain asks a service about connections, but the listener is one of a program's own server, which has no
    /// connections to it.
    #[error("filter chain {0} asks a service about connections, but this server cannot connect to one")]
    ExtAuthz(Arc<str>),
    /// The listener of a [`ServerLayer`](super::ServerLayer) requires TLS, which only a server of the mesh can do.
    #[error("it requires TLS of all connections, but those of a layer are accepted by another server")]
    TlsOfLayer,
    /// The listener of a [`ServerLayer`](super::ServerLayer) has several filter chains for plain text or serves other traffic
    /// than HTTP.
    #[error("expected one filter chain, with an HTTP connection manager")]
    NotOneConnectionManager,
    /// The transport socket of a filter chain cannot be used.
    #[error("filter chain {name}: transport socket: {reason}")]
    TransportSocket {
        /// Name of the filter chain.
        name: Arc<str>,
        /// What is wrong with it.
        reason: String,
    },
    /// An HTTP connection manager is invalid.
    #[error(transparent)]
    Http(#[from] ListenerConfigError),
    /// An access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] OpenError),
}

impl FilterChainError {
    fn transport_socket(chain: &FilterChain, error: &SocketError) -> Self {
        Self::TransportSocket { name: Arc::clone(&chain.name), reason: error.to_string() }
    }
}

struct Chain<S> {
    transport_socket: ServerSocket,
    /// The filters before the terminal one.
    filters: NetworkFilters,
    terminal: Terminal<S>,
}

/// The filter that serves a chain's connections to their end.
enum Terminal<S> {
    Http(Arc<ConnectionManager<S>>),
    Tcp(TcpProxy),
    DirectResponse(Bytes),
    Echo,
}

/// Compiles the filter chains of a listener.
struct Compiler<'a> {
    listener: &'a Listener,
    context: &'a ListenerContext,
    access_logs: &'a Arc<AccessLogs>,
}

impl<S> ListenerServer<S> {
    /// Compiles `listener`; `service` makes the service of an HTTP connection manager.
    ///
    /// # Errors
    /// If the configuration cannot be served.
    pub fn new(
        listener: &Listener,
        context: &ListenerContext,
        mut service: impl FnMut(&HttpConnectionManager) -> S,
    ) -> Result<Self, FilterChainError> {
        let telemetry = &context.telemetry;
        let access_logs = Arc::new(AccessLogs::open(&listener.access_log, &telemetry.logs)?);
        let compiler = Compiler { listener, context, access_logs: &access_logs };
        let chains = listener.all_filter_chains().map(|chain| compiler.chain(chain, &mut service));
        Ok(Self {
            filters: ListenerFilters::new(listener, &telemetry.stats),
            index: FilterChainIndex::new(listener)?,
            chains: chains.collect::<Result<_, _>>()?,
            stats: telemetry.stats.listener(&listener.stat_prefix),
            access_logs,
        })
    }
}

impl Compiler<'_> {
    fn chain<S>(
        &self,
        chain: &FilterChain,
        service: &mut impl FnMut(&HttpConnectionManager) -> S,
    ) -> Result<Chain<S>, FilterChainError> {
        let not_terminated = || FilterChainError::NotTerminated(Arc::clone(&chain.name));
        let (last, before) = chain.filters.split_last().ok_or_else(not_terminated)?;
        let clients = self.context.clients();
        let clients = clients.as_ref().map(|clients| clients as &dyn ClusterClients);
        let filters =
            NetworkFilters::new(before, &self.context.telemetry, clients).map_err(|invalid| match invalid {
                InvalidFilters::NotTerminated => not_terminated(),
                InvalidFilters::NoClients => FilterChainError::ExtAuthz(Arc::clone(&chain.name)),
            })?;
        let terminal = match last {
            NetworkFilter::HttpConnectionManager(http) => self.http(http, service(http))?,
            NetworkFilter::TcpProxy(proxy) => self.tcp(chain, proxy)?,
            NetworkFilter::DirectResponse(response) => Terminal::DirectResponse(response.clone()),
            NetworkFilter::Echo => Terminal::Echo,
            NetworkFilter::Rbac(_) | NetworkFilter::ExtAuthz(_) => return Err(not_terminated()),
        };
        let stats = || self.context.telemetry.stats.listener(&self.listener.stat_prefix).tls();
        let transport_socket = ServerSocket::new(chain, &self.context.store, stats)
            .map_err(|error| FilterChainError::transport_socket(chain, &error))?;
        Ok(Chain { transport_socket, filters, terminal })
    }

    fn http<S>(&self, http: &Arc<HttpConnectionManager>, service: S) -> Result<Terminal<S>, FilterChainError> {
        let manager = ConnectionManager::new(self.listener, Arc::clone(http), self.context, service)?;
        Ok(Terminal::Http(Arc::new(manager)))
    }

    fn tcp<S>(&self, chain: &FilterChain, proxy: &Arc<TcpConfig>) -> Result<Terminal<S>, FilterChainError> {
        let ListenerContext { store, telemetry, worker } = self.context;
        let no_upstream = || FilterChainError::TcpProxy(Arc::clone(&chain.name));
        let worker = worker.as_ref().ok_or_else(no_upstream)?;
        let logs = Arc::new(AccessLogs::open(&proxy.access_log, &telemetry.logs)?);
        let logs = [logs, Arc::clone(self.access_logs)];
        let recorded = ConnectionTelemetry::new(self.listener.traffic_direction, telemetry, logs);
        let stats = telemetry.stats.tcp(&proxy.stat_prefix);
        Ok(Terminal::Tcp(TcpProxy::new(Arc::clone(proxy), store, worker.clone(), stats, recorded)))
    }
}

impl<S: Respond> ListenerServer<S> {
    /// Serves one connection to its end. It belongs to the group of connections that `drain` ends.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection at once.
    pub fn serve_connection<I: AsyncReadWrite>(
        self: Arc<Self>,
        accepted: AcceptedConnection<I>,
        drain: Drain,
    ) -> impl Future<Output = ()> + Send {
        // A future has room for its arguments until it ends. What is needed only at its beginning is therefore in boxes here and
        // in what this calls: most connections are idle.
        let accepted = Box::new(accepted);
        async move {
            let mut watch = drain.watch();
            let log = ConnectionLog::begin(&self.access_logs);
            let Some(mut begun) = Box::pin(self.begin(accepted, drain, &log)).await else { return };
            let _counted = self.stats.connection();
            if !begun.chain.filters.is_empty() && !Box::pin(begun.pass_filters(&mut watch)).await {
                return log.closed_by_filter(&begun);
            }
            match &begun.chain.terminal {
                Terminal::Http(manager) => {
                    let logged = log.is_active().then(|| Box::new(begun.downstream.clone()));
                    begun.serve_http(manager, watch).await;
                    if let Some(downstream) = logged {
                        log.ended(&downstream);
                    }
                }
                // The TCP proxy writes to the listener's access log itself, with the attributes of the upstream.
                Terminal::Tcp(proxy) => {
                    let Begun { io, downstream, .. } = *begun;
                    Box::pin(proxy.serve_connection(io, &downstream, watch)).await;
                }
                Terminal::DirectResponse(response) => {
                    let Begun { io, downstream, .. } = *begun;
                    Box::pin(network_filter::direct_response(io, response.clone(), watch)).await;
                    log.ended(&downstream);
                }
                Terminal::Echo => {
                    let Begun { io, downstream, .. } = *begun;
                    Box::pin(network_filter::echo(io, watch)).await;
                    log.ended(&downstream);
                }
            }
        }
    }

    /// Inspects a connection and finds out how it is served; `None` = it is not.
    async fn begin<I: AsyncReadWrite>(
        &self,
        accepted: Box<AcceptedConnection<I>>,
        drain: Drain,
        log: &ConnectionLog<'_>,
    ) -> Option<Box<Begun<'_, I, S>>> {
        let mut facts = accepted.facts();
        let mut io = ReadAhead::new(accepted.io);
        let is_inspected = tokio::select! {
            biased;
            is_inspected = self.filters.inspect(&mut io, &mut facts) => is_inspected,
            // A connection that is not served yet has no request in flight.
            () = drain.reached(Phase::Closing) => false,
        };
        if !is_inspected {
            return None;
        }
        let found = self.index.find(&facts).map(|position| &self.chains[position]);
        let mut downstream = Downstream::new(facts);
        let Some(chain) = found else {
            self.stats.no_filter_chain_match.inc();
            log.unmatched(&downstream);
            return None;
        };
        let secured = tokio::select! {
            biased;
            secured = chain.transport_socket.secure(io) => secured,
            () = drain.reached(Phase::Closing) => return None,
        };
        let Secured { io, tls } =
            secured.inspect_err(|error| tracing::debug!(%error, "the handshake of a connection failed")).ok()?;
        downstream.tls = tls;
        Some(Box::new(Begun { io, downstream, chain }))
    }
}

/// A connection that is about to be served.
struct Begun<'a, I, S> {
    io: SecuredIo<I>,
    downstream: Downstream,
    chain: &'a Chain<S>,
}

impl<I, S> Begun<'_, I, S> {
    /// Passes the connection to the filters before the terminal one; `false` if one of them closes it.
    async fn pass_filters(&mut self, drain: &mut DrainWatch) -> bool {
        tokio::select! {
            biased;
            is_passed = self.chain.filters.on_connection(&mut self.downstream) => is_passed,
            () = drain.reached(Phase::Closing) => false,
        }
    }
}

impl<I: AsyncReadWrite, S: Respond> Begun<'_, I, S> {
    #[expect(clippy::boxed_local, reason = "the box ends here, and not with the future of the connection")]
    fn serve_http(
        self: Box<Self>,
        manager: &Arc<ConnectionManager<S>>,
        watch: DrainWatch,
    ) -> impl Future<Output = ()> + Send + use<I, S> {
        Arc::clone(manager).serve_connection(self.io, self.downstream, watch)
    }
}

impl<S: Respond> ServeConnection for ListenerServer<S> {
    fn serve<I: AsyncReadWrite>(self: Arc<Self>, accepted: AcceptedConnection<I>, drain: &Drain) {
        tokio::spawn(self.serve_connection(accepted, drain.clone()));
    }
}

/// Logs one connection in the listener's own access logs.
struct ConnectionLog<'a> {
    logs: &'a AccessLogs,
    /// `None` if nothing is logged.
    start: Option<(Instant, SystemTime)>,
}

impl<'a> ConnectionLog<'a> {
    fn begin(logs: &'a AccessLogs) -> Self {
        Self { logs, start: (!logs.is_empty()).then(|| (now(), SystemTime::now())) }
    }

    /// Whether connections are logged.
    fn is_active(&self) -> bool {
        self.start.is_some()
    }

    /// No filter chain has matched.
    fn unmatched(&self, downstream: &Downstream) {
        let flags = ResponseFlags::NO_ROUTE_FOUND;
        self.write(downstream, flags, Some(details::FILTER_CHAIN_NOT_FOUND));
    }

    /// A filter has closed the connection before it was served.
    fn closed_by_filter<I, S>(&self, begun: &Begun<'_, I, S>) {
        match &begun.chain.terminal {
            // It writes to both its own and the listener's logs.
            Terminal::Tcp(proxy) => proxy.record_closed(&begun.downstream),
            Terminal::Http(_) | Terminal::DirectResponse(_) | Terminal::Echo => self.ended(&begun.downstream),
        }
    }

    fn ended(&self, downstream: &Downstream) {
        let (flags, details) = downstream.closed.unzip();
        self.write(downstream, flags.unwrap_or(ResponseFlags::NONE), details);
    }

    fn write(&self, downstream: &Downstream, response_flags: ResponseFlags, response_code_details: Option<&str>) {
        let Some((start, start_time)) = self.start else { return };
        let duration = now().saturating_duration_since(start);
        self.logs.write(&Attributes {
            start_time: Some(start_time),
            emit_time: Some(start_time + duration),
            duration: Some(duration),
            response_flags,
            response_code_details,
            ..downstream.attributes()
        });
    }
}

impl<S> fmt::Debug for ListenerServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerServer").field("filter_chains", &self.chains.len()).finish_non_exhaustive()
    }
}
