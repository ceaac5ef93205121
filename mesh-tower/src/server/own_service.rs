//! A program's own server: serves a socket that the program has opened with the program's service, under the mesh's
//! configuration.
//!
//! The listener of a socket is looked up by its address, again whenever listeners change: new connections use the new
//! configuration, old ones drain. A socket without a listener is served with Envoy's defaults, so that a program can
//! serve before it is configured.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use mesh_core::{
    model::{
        Action, DirectResponse, Http2Keepalive, HttpConnectionManager, Listener, NetworkFilter, PathMatcher, Route,
        RouteConfiguration, RouteMatch, RouteSource, ServerHeader, TrafficDirection, VirtualHost,
    },
    resilience::timeout::Timeouts,
    store::{ListenerMap, Store},
    target,
};
use thiserror::Error;
use tower_service::Service;

use super::{Connection, FilterChainError, ListenerContext, ListenerServer, ServeConnection as _, accept::accept};
use crate::{
    Accept, Body, BoxError, ConnectionManager, RequestContext, Respond, Worker,
    call::{Call, ResponseSource},
    drain::{Drain, DrainTimes},
    telemetry::Telemetry,
    timeout::{Expired, Limits},
    upstream,
};

/// Serves the sockets of a program.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) store: Arc<Store>,
    telemetry: Telemetry,
    times: DrainTimes,
    address: Option<SocketAddr>,
    listener: Option<Arc<str>>,
    on_serving: Option<OnServing>,
    http2_keepalive: Option<Http2Keepalive>,
    worker: Option<Worker>,
}

/// Called when a server begins or ceases to serve.
#[derive(Clone)]
struct OnServing(Arc<dyn Fn(bool) + Send + Sync>);

impl fmt::Debug for OnServing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnServing")
    }
}

/// A listener cannot be served.
#[derive(Debug, Error)]
#[error("the listener of {address} cannot be served as configured")]
#[non_exhaustive]
pub struct ServeError {
    /// The listener's address.
    pub address: SocketAddr,
    /// The cause.
    pub source: FilterChainError,
}

/// Stands for the address of a source without one, such as an in-memory pipe, which is served with the defaults.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Server {
    /// A server under the configuration in `store`.
    #[must_use]
    pub fn new(store: Arc<Store>, telemetry: Telemetry) -> Self {
        let (address, listener, on_serving, http2_keepalive, worker) = (None, None, None, None, None);
        Self { store, telemetry, times: DrainTimes::default(), address, listener, on_serving, http2_keepalive, worker }
    }

    /// How long connections may drain. Default [`DrainTimes::default`].
    #[must_use]
    pub fn with_drain_times(mut self, times: DrainTimes) -> Self {
        self.times = times;
        self
    }

    /// The address by which the listener's configuration is looked up. Default: that of the socket. A source without an
    /// address, such as a Unix socket, is served with the defaults.
    #[must_use]
    pub fn with_address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The name of the listener, which must exist: without it, connections are accepted and closed at once. gRFC A36. Default: it
    /// is looked up by the address, and a socket without a listener is served with Envoy's defaults.
    #[must_use]
    pub fn with_listener(mut self, name: Arc<str>) -> Self {
        self.listener = Some(name);
        self
    }

    /// Calls `on_serving` with true when the server begins to serve, and with false when it no longer does, because there is no
    /// configuration. gRFC A36, "serving mode".
    #[must_use]
    pub fn on_serving(mut self, on_serving: impl Fn(bool) + Send + Sync + 'static) -> Self {
        self.on_serving = Some(OnServing(Arc::new(on_serving)));
        self
    }

    /// The address by which the configuration of a source of connections is looked up, if there is one.
    #[must_use]
    pub fn address_of(&self, incoming: &impl Accept) -> Option<SocketAddr> {
        self.address.or_else(|| incoming.local_address())
    }

    /// Sets the HTTP/2 keepalive for listeners that do not configure one. Default none.
    #[must_use]
    pub fn with_http2_keepalive(mut self, keepalive: Http2Keepalive) -> Self {
        self.http2_keepalive = Some(keepalive);
        self
    }

    /// Sets the worker whose connections HTTP filters use for requests of their own, such as to a service that authorizes
    /// requests. Default none: a listener with such a filter is refused.
    #[must_use]
    pub fn with_worker(mut self, worker: Worker) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Serves the connections of `incoming`, such as a listening socket, with `service` until `incoming` ends or
    /// `shutdown` resolves. Then it drains: open connections finish their requests and close.
    ///
    /// # Errors
    /// If the listener's configuration cannot be served. A later configuration that cannot be served is logged, and the
    /// previous one stays in use.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket; open connections are served to their end.
    pub async fn serve<A, S, B>(
        self,
        incoming: A,
        service: S,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        A: Accept,
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let address = self.address_of(&incoming).unwrap_or(NO_ADDRESS);
        let service = OwnService(service);
        let mut listeners = self.store.watch_listeners();
        let first = self.listener(address).map(|listener| self.generation(listener, address, &service)).transpose()?;
        if first.is_some() {
            self.report(true);
        }
        let generation = Arc::new(ArcSwapOption::new(first));
        let accepting = Drain::new();
        let serving = Arc::clone(&generation);
        let accept = accept(incoming, accepting.watch(), move |accepted| match &*serving.load() {
            Some(generation) => Arc::clone(&generation.server).serve(accepted, &generation.connections),
            None => tracing::debug!("a connection is closed, because there is no configuration for its listener"),
        });
        tokio::pin!(accept, shutdown);
        loop {
            tokio::select! {
                () = &mut accept => break,
                () = &mut shutdown, if !accepting.is_draining() => accepting.begin(),
                () = listeners.changed() => self.update(&generation, address, &service),
            }
        }
        let last = generation.load_full();
        if let Some(last) = last {
            last.connections.run(self.times).await;
        }
        Ok(())
    }

    fn report(&self, is_serving: bool) {
        if let Some(OnServing(on_serving)) = &self.on_serving {
            on_serving(is_serving);
        }
    }

    /// The listener of the socket; `None` = it must exist, and does not.
    pub(super) fn listener(&self, address: SocketAddr) -> Option<Arc<Listener>> {
        let listeners = self.store.listeners();
        match &self.listener {
            None => Some(listener_of(&listeners, address)),
            Some(name) => listeners.get(&**name).map(|listener| named(listener, address)),
        }
    }

    fn update<S>(
        &self,
        current: &ArcSwapOption<Generation<OwnService<S>>>,
        address: SocketAddr,
        service: &OwnService<S>,
    ) where
        OwnService<S>: Respond + Clone,
    {
        let (listener, before) = (self.listener(address), current.load_full());
        if listener == before.as_ref().map(|before| Arc::clone(&before.listener)) {
            return;
        }
        match listener.map(|listener| self.generation(listener, address, service)).transpose() {
            Ok(new) => {
                let (is_serving, times) = (new.is_some(), self.times);
                let old = current.swap(new);
                if is_serving != old.is_some() {
                    self.report(is_serving);
                }
                if let Some(old) = old {
                    tokio::spawn(async move { old.connections.run(times).await });
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn StdError, "the configuration of a listener is rejected");
            }
        }
    }

    fn generation<S>(
        &self,
        listener: Arc<Listener>,
        address: SocketAddr,
        service: &S,
    ) -> Result<Arc<Generation<S>>, ServeError>
    where
        S: Respond + Clone,
    {
        refuse_tcp_proxies(&listener).map_err(|source| ServeError { address, source })?;
        let server = ListenerServer::new(&self.completed(&listener), &self.context(), |_| service.clone());
        let server = Arc::new(server.map_err(|source| ServeError { address, source })?);
        Ok(Arc::new(Generation { listener, server, connections: Drain::new() }))
    }

    /// `listener`, with this server's defaults for settings that it does not configure.
    fn completed<'a>(&self, listener: &'a Listener) -> Cow<'a, Listener> {
        let Some(keepalive) = self.http2_keepalive else { return Cow::Borrowed(listener) };
        Cow::Owned(listener.clone().map_http(|http| {
            let mut http = http.clone();
            http.connection_keepalive.get_or_insert(keepalive);
            http
        }))
    }

    /// The connection manager of `listener` for requests on another server's connections.
    pub(super) fn manager(
        &self,
        listener: &Listener,
        address: SocketAddr,
    ) -> Result<ConnectionManager<()>, ServeError> {
        let failed = |source| ServeError { address, source };
        // Whether a connection of another server is encrypted is not known here: it counts as plain text.
        let mut chains = listener.all_filter_chains().filter(|chain| chain.tls().is_none()).peekable();
        if chains.peek().is_none() {
            return Err(failed(FilterChainError::TlsOfLayer));
        }
        let http = match (chains.next(), chains.next()) {
            (Some(chain), None) => chain.http_connection_manager(),
            _ => None,
        };
        let http = http.ok_or_else(|| failed(FilterChainError::NotOneConnectionManager))?;
        let manager = ConnectionManager::new(listener, Arc::clone(http), &self.context(), ());
        manager.map_err(|error| failed(error.into()))
    }

    fn context(&self) -> ListenerContext {
        let Self { store, telemetry, worker, .. } = self;
        ListenerContext { store: Arc::clone(store), telemetry: telemetry.clone(), worker: worker.clone() }
    }
}

/// Refuses TCP proxies, although there may be a worker: the connections are the program's.
fn refuse_tcp_proxies(listener: &Listener) -> Result<(), FilterChainError> {
    let is_tcp = |filter: &NetworkFilter| matches!(filter, NetworkFilter::TcpProxy(_));
    match listener.all_filter_chains().find(|chain| chain.filters.iter().any(is_tcp)) {
        Some(chain) => Err(FilterChainError::TcpProxy(Arc::clone(&chain.name))),
        None => Ok(()),
    }
}

/// One version of the listener, and its connections.
struct Generation<S> {
    listener: Arc<Listener>,
    server: Arc<ListenerServer<S>>,
    connections: Drain,
}

/// Envoy's default of `HttpConnectionManager.server_name`.
const ENVOY: &str = "envoy";

/// The listener of a socket on `address`.
pub(super) fn listener_of(listeners: &ListenerMap, address: SocketAddr) -> Arc<Listener> {
    match target::inbound_listener(listeners, address) {
        Some(listener) => named(listener, address),
        None => Arc::new(default_listener(address)),
    }
}

/// `listener`, with names where there are none. Control planes omit `stat_prefix` and `server_name` for gRPC servers, which use
/// neither.
fn named(listener: &Arc<Listener>, address: SocketAddr) -> Arc<Listener> {
    if listener.http_connection_managers().any(|http| http.stat_prefix.is_empty()) {
        return Arc::new(Listener::clone(listener).map_http(|http| named_by_address(http.clone(), address)));
    }
    Arc::clone(listener)
}

fn named_by_address(mut http: HttpConnectionManager, address: SocketAddr) -> HttpConnectionManager {
    if http.stat_prefix.is_empty() {
        http.stat_prefix = address.to_string().into();
        if http.server_name == ENVOY && http.server_header_transformation == ServerHeader::Overwrite {
            http.server_header_transformation = ServerHeader::PassThrough;
        }
    }
    http
}

/// A listener that passes every request to the service.
pub(super) fn default_listener(address: SocketAddr) -> Listener {
    listener_with(address, Action::NonForwarding)
}

/// A listener that refuses every request.
pub(super) fn refusing_listener(address: SocketAddr) -> Listener {
    listener_with(address, DirectResponse::new(StatusCode::FORBIDDEN, "plain text is forbidden here").into())
}

/// A listener for a layer whose listener does not exist: it refuses every request.
pub(super) fn unserved_listener(address: SocketAddr) -> Listener {
    let reply = DirectResponse::new(StatusCode::SERVICE_UNAVAILABLE, "no configuration for this server");
    listener_with(address, reply.into())
}

fn listener_with(address: SocketAddr, action: Action) -> Listener {
    let everything = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), action);
    let routes = RouteConfiguration::new("inbound", vec![VirtualHost::new("inbound", vec![everything])]);
    let name: Arc<str> = address.to_string().into();
    let mut http = HttpConnectionManager::new(&name, RouteSource::Inline(Arc::new(routes)));
    // As in Istio's listeners: streams have no idle timeout.
    http.stream_idle_timeout = None;
    http.server_header_transformation = ServerHeader::PassThrough;
    Listener::http(&name, address, http).with_traffic_direction(TrafficDirection::Inbound)
}

/// The program's service. Its errors become responses with status 500.
#[derive(Clone)]
pub(super) struct OwnService<S>(pub(super) S);

impl<S, B> Respond for OwnService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    const IS_PROGRAM: bool = true;

    async fn respond(&self, call: &mut Call, request: RequestContext<'_>) {
        let RequestContext { listener, info, matched } = request;
        let most = listener.config.max_stream_duration;
        let timeouts = Timeouts::of_program(matched.route.action(), &call.head.headers, most);
        let mut limits = Limits::new(info, &timeouts);
        let Some(mut sent) = request.take_request(call) else { return };
        sent.extensions_mut().insert(Connection::new(info, &listener.name));
        let mut service = self.0.clone();
        let mut answering = pin!(async move {
            // A service that is not ready delays its own request, not the connection. Errors are converted before the next
            // await, so that `S::Error` need not be `Send`.
            let ready = poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into);
            match ready {
                Ok(()) => service.call(sent).await.map_err(Into::into),
                Err(error) => Err(error),
            }
        });
        match limits.bound(None, info, |cx| answering.as_mut().poll(cx)).await {
            Ok(answer) => {
                info.state().response_source = Some(ResponseSource::Upstream);
                let response = answer.map_or_else(|error| failed(&error), |response| response.map(Body::new));
                call.respond(upstream::limited(response, info, limits));
            }
            Err(expired) => {
                call.reply(info, expired.reply());
                if expired == Expired::MaxStreamDuration {
                    info.state().response_source = Some(ResponseSource::MaxStreamDuration);
                }
            }
        }
    }
}

impl<S> fmt::Debug for OwnService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnService").finish_non_exhaustive()
    }
}

fn failed(error: &BoxError) -> Response<Body> {
    tracing::warn!(error = &**error as &dyn StdError, "the service has failed");
    let mut response = Response::new(Body::from("internal server error"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        sync::oneshot,
    };
    use tower::service_fn;

    use super::*;
    use crate::telemetry::Stat;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        format!("{} | {}", answer.lines().next().unwrap(), answer.rsplit("\r\n\r\n").next().unwrap())
    }

    fn named(name: &str, address: SocketAddr) -> Arc<Listener> {
        let mut listener = default_listener(address);
        listener.name = format!("{}{address}", target::INBOUND_LISTENER_PREFIX).into();
        listener = listener.map_http(|http| {
            let mut http = http.clone();
            http.stat_prefix = "".into();
            let RouteSource::Inline(routes) = &mut http.routes else { unreachable!("the default has them inline") };
            let routes = Arc::make_mut(routes);
            routes.virtual_hosts[0].routes[0].matches.path = PathMatcher::Prefix(format!("/{name}").into());
            http
        });
        Arc::new(listener)
    }

    #[tokio::test]
    async fn the_listener_of_the_sockets_address_applies_and_may_change() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let store = Arc::new(Store::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let service = service_fn(async |request: Request<Body>| match request.uri().path() {
            "/broken" => Err("no"),
            path => Ok(Response::builder().header("server", "own").body(path.to_owned()).unwrap()),
        });
        let telemetry = Telemetry::default();
        let server = Server::new(Arc::clone(&store), telemetry.clone());
        let serving = tokio::spawn(server.serve(socket, service, async { drop(stopped.await) }));

        assert_eq!(get(address, "/before").await, "HTTP/1.1 200 OK | /before");
        assert_eq!(get(address, "/broken").await, "HTTP/1.1 500 Internal Server Error | internal server error");
        store.set_listener(named("after", address));
        while get(address, "/before").await != "HTTP/1.1 404 Not Found | " {
            tokio::task::yield_now().await;
        }
        assert_eq!(get(address, "/after").await, "HTTP/1.1 200 OK | /after");

        let answer = exchange(address, "GET /after HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(answer.contains("server: own\r\n"), "the program may write its own `server` header: {answer}");

        let stats = Stat::collect([&*telemetry.stats as _]);
        let requests = stats.iter().find(|stat| stat.name == format!("http.{address}.downstream_rq_total"));
        assert_eq!(requests.map(|stat| stat.is_used()), Some(true), "statistics are named by the address");
        assert!(stats.iter().all(|stat| !stat.name.starts_with("http..")));

        drop(stop);
        serving.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    /// Sends `request` on a new connection; returns everything that is received until it ends.
    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_to_a_client_without_pong_is_closed() {
        let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(2));
        let (connect, incoming) = tokio::sync::mpsc::channel(1);
        let server = Server::new(Arc::default(), Telemetry::default());
        let server = server.with_http2_keepalive(Http2Keepalive::new(interval, timeout));
        let service = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
        tokio::spawn(server.serve(incoming, service, std::future::pending()));
        let (mut client, io) = tokio::io::duplex(64 * 1024);
        connect.send(io).await.unwrap();
        // The connection preface and an empty SETTINGS frame.
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let start = tokio::time::Instant::now();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        let open = start.elapsed();
        assert!((interval..interval.mul_f64(1.15) + 2 * timeout).contains(&open), "{open:?}");
    }

    #[tokio::test]
    async fn a_program_may_upgrade_its_connections_and_end_them() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let service = service_fn(async |mut request: Request<Body>| {
            let response = Response::builder();
            if request.uri().path() == "/bye" {
                return response.header("connection", "close").body(String::new());
            }
            let protocol = request.headers()["upgrade"].clone();
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                let mut line = [0; 4];
                io.read_exact(&mut line).await.unwrap();
                io.write_all(&line).await.unwrap();
            });
            response.status(101).header("connection", "upgrade").header("upgrade", protocol).body(String::new())
        });
        let server = Server::new(Arc::default(), Telemetry::default());
        tokio::spawn(server.serve(socket, service, std::future::pending()));

        let request = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nping";
        let answer = exchange(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nping"), "{answer}");
        let answer = exchange(address, "GET /bye HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
