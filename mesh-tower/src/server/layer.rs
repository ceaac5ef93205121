//! A program's own server as a tower layer, for services that axum, tonic, hyper or another server serves.
//!
//! Requests are processed as by [`Server::serve`]: normalization, faults, routes, headers, metrics, access log.
//! Everything that concerns connections (protocols, codec limits, idle timeouts, draining, connection statistics) is
//! left to the server that accepts them. The client's address is unknown unless [`ServerLayer::with_remote_address`] is
//! set.

use std::{
    any::Any,
    convert::Infallible,
    error::Error as StdError,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body as HttpBody;
use mesh_core::{listener::ConnectionFacts, model::Listener, store::Watch};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    FilterChainError, ServeError, Server,
    own_service::{OwnService, refusing_listener, unserved_listener},
};
use crate::{Body, BoxError, ConnectionManager, Downstream, ResponseBody, codec::ConnectionInfo, drain::Drain};

/// Wraps a service as [`Server::serve`] does, but leaves sockets to another server. Clones share their state.
#[derive(Clone)]
pub struct ServerLayer {
    inbound: Arc<Inbound>,
    remote_address: RemoteAddress,
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

/// Where to look for the client's address in the extensions of a request.
type RemoteAddress = fn(&Extensions) -> Option<SocketAddr>;

/// The listener of an address, which follows the configuration.
struct Inbound {
    server: Server,
    address: SocketAddr,
    current: ArcSwap<Current>,
    /// Never drained: connections belong to another server.
    connections: Drain,
}

struct Current {
    /// Watches all listeners; while they do not change, `listener` is up to date.
    listeners: Watch,
    listener: Arc<Listener>,
    manager: ConnectionManager<()>,
}

/// A service wrapped by a [`ServerLayer`]. It is always ready and never fails: an error of the inner service becomes a
/// response with status 500.
#[derive(Clone)]
pub struct ServerService<S> {
    layer: ServerLayer,
    inner: S,
}

impl Server {
    /// A layer for services that another server serves on `address`. The listener is looked up by this address;
    /// `0.0.0.0:PORT` and `[::]:PORT` stand for every address.
    ///
    /// # Errors
    /// If the listener's configuration cannot be served. A later configuration that cannot be served is logged, and the
    /// previous one stays in use; if it cannot because it requires TLS, all requests get 403.
    pub fn layer(self, address: SocketAddr) -> Result<ServerLayer, ServeError> {
        let listeners = self.store.watch_listeners();
        let listener = self.listener(address).unwrap_or_else(|| Arc::new(unserved_listener(address)));
        let manager = self.manager(&listener, address)?;
        let current = Current { listeners, listener, manager };
        let inbound =
            Inbound { server: self, address, current: ArcSwap::from_pointee(current), connections: Drain::new() };
        Ok(ServerLayer { inbound: Arc::new(inbound), remote_address: |_| None, _held: None })
    }
}

impl ServerLayer {
    /// Sets how to read the client's address from the extensions of a request. By default it is unknown. For axum:
    /// `|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0)`.
    #[must_use]
    pub fn with_remote_address(mut self, remote_address: fn(&Extensions) -> Option<SocketAddr>) -> Self {
        self.remote_address = remote_address;
        self
    }
}

impl ServerLayer {
    /// The same layer, which holds `held`, such as a subscription to its configuration, for as long as it exists.
    #[must_use]
    pub fn holding(mut self, held: Arc<dyn Any + Send + Sync>) -> Self {
        self._held = Some(held);
        self
    }
}

impl Inbound {
    /// The newest configuration that can be served.
    fn current(&self) -> Arc<Current> {
        let current = self.current.load_full();
        if !current.listeners.has_changed() {
            return current;
        }
        let listeners = self.server.store.watch_listeners();
        let listener = self.server.listener(self.address);
        let listener = listener.unwrap_or_else(|| Arc::new(unserved_listener(self.address)));
        let manager = if *listener == *current.listener {
            Ok(current.manager.with_service(()))
        } else {
            self.server.manager(&listener, self.address)
        };
        let manager = manager.or_else(|error| self.refusing(error));
        // A configuration that cannot be served is not tried again before the next change.
        let newer = match manager {
            Ok(manager) => Current { listeners, listener, manager },
            Err(error) => {
                tracing::warn!(error = &error as &dyn StdError, "the configuration of a listener is rejected");
                let (listener, manager) = (Arc::clone(&current.listener), current.manager.with_service(()));
                Current { listeners, listener, manager }
            }
        };
        let newer = Arc::new(newer);
        self.current.store(Arc::clone(&newer));
        newer
    }
}

impl Inbound {
    /// Refuses all requests if the configuration requires TLS: the previous one would let plain text pass that is forbidden now.
    fn refusing(&self, error: ServeError) -> Result<ConnectionManager<()>, ServeError> {
        if !matches!(error.source, FilterChainError::TlsOfLayer) {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn StdError, "a layer refuses all requests");
        self.server.manager(&refusing_listener(self.address), self.address)
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> ServerService<S> {
        ServerService { layer: self.clone(), inner }
    }
}

impl<S, B, R> Service<Request<R>> for ServerService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let inbound = &self.layer.inbound;
        let remote = (self.layer.remote_address)(request.extensions());
        let downstream = Downstream::new(ConnectionFacts::between(remote, Some(inbound.address)));
        let connection = ConnectionInfo::new(downstream, inbound.connections.clone());
        let manager = inbound.current().manager.with_service(OwnService(self.inner.clone()));
        let response = Arc::new(manager).handle(Arc::new(connection), request.map(Body::new), None);
        Box::pin(async { Ok(response.await) })
    }
}

impl fmt::Debug for ServerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLayer").field("address", &self.inbound.address).finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for ServerService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerService").field(&self.layer).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};
    use std::future::pending;

    use http::HeaderMap;
    use http_body_util::{BodyExt as _, Empty, Full};
    use mesh_core::{
        model::{Action, PathMatcher, RouteSource},
        store::Store,
        target,
    };
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{StreamInfo, server::own_service::default_listener, telemetry::Telemetry};

    /// Adds a listener that routes only paths that begin with `prefix`.
    fn listen(store: &Store, address: SocketAddr, prefix: &str) {
        let mut listener = default_listener(address);
        listener.name = format!("{}{address}", target::INBOUND_LISTENER_PREFIX).into();
        let listener = listener.map_http(|http| {
            let mut http = http.clone();
            let RouteSource::Inline(routes) = &mut http.routes else { unreachable!("the default has them inline") };
            let route = &mut Arc::make_mut(routes).virtual_hosts[0].routes[0];
            assert_eq!(route.action, Action::NonForwarding);
            route.matches.path = PathMatcher::Prefix(prefix.into());
            http
        });
        store.set_listener(Arc::new(listener));
    }

    async fn get<S, B>(service: S, path: &str) -> (StatusCode, String)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
        B: HttpBody<Error: fmt::Debug>,
    {
        let mut request = Request::get(path).header("host", "a").body(Full::default()).unwrap();
        request.extensions_mut().insert(SocketAddr::from(([10, 0, 0, 1], 7)));
        let response = service.oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = response.status();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// The `grpc-status` of a call with a `grpc-timeout` of 200 ms, and whether it is in the trailers.
    async fn end_of_call(
        service: impl FnOnce() -> Body + Clone + Send + Sync + 'static,
        has_begun: bool,
    ) -> (String, bool) {
        let service = service_fn(move |_: Request<Body>| {
            let service = service.clone();
            async move {
                if !has_begun {
                    pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(service()))
            }
        });
        let server = Server::new(Arc::default(), Telemetry::default());
        let service = server.layer("127.0.0.1:9083".parse().unwrap()).unwrap().layer(service);
        let request = Request::post("/a.A/B").header("host", "a").header("content-type", "application/grpc");
        let request = request.header("grpc-timeout", "200m").body(Full::<Bytes>::default()).unwrap();
        let answer = tokio::time::timeout(std::time::Duration::from_millis(201), async {
            let response = service.oneshot(request).await.unwrap_or_else(|never| match never {});
            let status = response.headers().get("grpc-status").cloned();
            let collected = response.into_body().collect().await.unwrap();
            let trailer = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
            let is_trailer = trailer.is_some();
            (status.or(trailer).unwrap().to_str().unwrap().to_owned(), is_trailer)
        });
        answer.await.expect("the call ends in time")
    }

    #[tokio::test(start_paused = true)]
    async fn a_grpc_call_ends_when_its_timeout_expires() {
        assert_eq!(end_of_call(Body::empty, false).await, ("4".to_owned(), false));
        let endless =
            || Body::new(Empty::<Bytes>::new().with_trailers(pending::<Option<Result<HeaderMap, Infallible>>>()));
        assert_eq!(end_of_call(endless, true).await, ("4".to_owned(), true));
    }

    #[tokio::test]
    async fn requests_of_another_server_are_routed_and_counted() {
        let (store, telemetry) = (Arc::new(Store::new()), Telemetry::default());
        let server = || Server::new(Arc::clone(&store), telemetry.clone());
        let address = "127.0.0.1:9083".parse().unwrap();
        let service = service_fn(async |request: Request<Body>| match request.uri().path() {
            "/broken" => Err("no"),
            path => {
                let info = request.extensions().get::<StreamInfo>().unwrap();
                let remote = info.state().downstream_direct_remote_address;
                let id = request.headers().get("x-request-id").map_or(0, HeaderValue::len);
                Ok(Response::new(format!("{path} {id} {remote:?}")))
            }
        });
        let plain = server().layer(address).unwrap();
        let layer = plain.clone().with_remote_address(|extensions| extensions.get().copied());
        assert_eq!(get(plain.layer(service), "/a").await, (StatusCode::OK, "/a 36 None".to_owned()));
        let service = layer.layer(service);
        assert_eq!(get(service.clone(), "/a").await, (StatusCode::OK, "/a 36 Some(10.0.0.1:7)".to_owned()));
        assert_eq!(get(service.clone(), "/broken").await.0, StatusCode::INTERNAL_SERVER_ERROR);

        listen(&store, address, "/b");
        assert_eq!(get(service.clone(), "/a").await.0, StatusCode::NOT_FOUND, "changes are followed");
        assert_eq!(get(service.clone(), "/b").await.0, StatusCode::OK);
        store.remove_listener(&format!("{}{address}", target::INBOUND_LISTENER_PREFIX));
        assert_eq!(get(service, "/a").await.0, StatusCode::OK);

        let metrics = telemetry.istio.prometheus_text();
        let counted = |code: &str, count: &str| {
            let is_it = |line: &&str| line.starts_with("istio_requests_total{") && line.contains(code);
            metrics.lines().filter(is_it).any(|line| line.ends_with(count))
        };
        assert!(counted("response_code=\"200\"", " 4") && counted("response_code=\"404\"", " 1"), "{metrics}");
        assert!(metrics.contains("reporter=\"destination\""), "{metrics}");
    }
}
