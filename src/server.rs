//! Serving a service.

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use mesh_core::model::Http2Keepalive;
use mesh_tower::{Accept, Body, BoxError, drain::DrainTimes, server::ServerLayer};
use tower_service::Service;

use crate::{Error, Mesh};

/// A server of one of this program's services, made by [`Mesh::server`].
///
/// The listener of the configuration is looked up by the address of the socket. Requests are normalized, counted,
/// delayed or aborted, and routed as in a sidecar, but in process.
#[must_use]
pub struct Server {
    inner: mesh_tower::server::Server,
    drain_times: DrainTimes,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The configuration is followed while the mesh is in use.
    mesh: Mesh,
}

impl Server {
    pub(crate) fn new(inner: mesh_tower::server::Server, mesh: Mesh) -> Self {
        let shutdown = Box::pin(std::future::pending());
        Self { inner, drain_times: DrainTimes::default(), shutdown, mesh }
    }

    /// Shuts down when `signal` resolves: accepts no more connections, finishes the requests in flight and closes the
    /// connections. Default never.
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Box::pin(signal);
        self
    }

    /// How long requests in flight may take after the shutdown; then their connections are closed. Default 600 s.
    pub fn with_drain_time(mut self, drain_time: Duration) -> Self {
        self.drain_times.drain_time = drain_time;
        self
    }

    /// The address by which the listener of the configuration is looked up. Default: that of the socket. Connections
    /// without an address, such as those of a Unix socket, are served with the defaults.
    pub fn with_address(mut self, address: SocketAddr) -> Self {
        self.inner = self.inner.with_address(address);
        self
    }

    /// Calls `on_serving` with true when the server begins to serve, and with false when it ceases to. With the control planes of
    /// `MeshBuilder::xds` and a template for the names of servers in the bootstrap, a server serves while there is a listener for
    /// its socket; otherwise it closes all connections (gRFC A36). In all other cases it serves at once and always.
    ///
    /// `on_serving` should return quickly.
    pub fn on_serving(mut self, on_serving: impl Fn(bool) + Send + Sync + 'static) -> Self {
        self.inner = self.inner.on_serving(on_serving);
        self
    }

    /// Sends a PING on each HTTP/2 connection every `interval`, and closes the connection if no PONG arrives within `timeout`.
    /// Applies to listeners without a keepalive of their own (Envoy `http2_protocol_options.connection_keepalive`). Default
    /// none.
    pub fn with_http2_keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.inner = self.inner.with_http2_keepalive(Http2Keepalive::new(interval, timeout));
        self
    }

    /// Serves the requests of `incoming` with `service`: an axum `Router`, tonic `Routes`, or any other tower service. An
    /// error of the service is logged and becomes a response with status 500.
    ///
    /// Connections come from a `TcpListener`, a `UnixListener`, or anything else that yields byte streams: see [`Accept`].
    ///
    /// Each request has a [`Connection`](crate::Connection) in its extensions, with the local and the peer address. With the
    /// feature `axum` handlers can extract `ConnectInfo<SocketAddr>`, and with the feature `tonic` a request has its
    /// `remote_addr()`, as with the servers of these libraries. A handler may upgrade its connection, such as for a websocket.
    ///
    /// A gRPC call ends with `DEADLINE_EXCEEDED` when its `grpc-timeout` expires. The timeouts of the listener's routes
    /// (`timeout`, `max_stream_duration`) apply, as in a sidecar.
    ///
    /// ```no_run
    /// use axum::{Router, routing::get};
    /// use mesh::Mesh;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let mesh = Mesh::builder().config_dir("mesh").service("reviews").build().await?;
    /// let app = Router::new().route("/reviews/{id}", get(async || "five stars"));
    /// let socket = tokio::net::UnixListener::bind("/run/reviews.sock")?;
    /// // A Unix socket has no address, so the address of the listener is given.
    /// mesh.server("reviews")?.with_address(([127, 0, 0, 1], 9083).into()).serve(socket, app).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the configuration of the socket's listener cannot be served.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket; connections that are open are served to their end.
    pub async fn serve<A, S, B>(self, incoming: A, service: S) -> Result<(), Error>
    where
        A: Accept,
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut server = self.inner.with_drain_times(self.drain_times);
        let named = server.address_of(&incoming).and_then(|address| self.mesh.server_listener(address));
        let (name, _subscription) = named.unzip();
        if let Some(name) = name {
            server = server.with_listener(name);
        }
        #[cfg(any(feature = "axum", feature = "tonic"))]
        let service = crate::connect_info::WithConnectInfo(service);
        Ok(server.serve(incoming, service, self.shutdown).await?)
    }

    /// A `tower::Layer` that does the same for a service that another server serves on `address`: `axum::serve`, tonic's
    /// `Server`, hyper. That server manages the connections: protocols, limits, idle timeouts and draining.
    ///
    /// ```no_run
    /// use std::net::SocketAddr;
    ///
    /// use axum::{Router, extract::ConnectInfo, routing::get};
    /// use mesh::Mesh;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let mesh = Mesh::builder().config_dir("mesh").service("reviews").build().await?;
    /// let socket = tokio::net::TcpListener::bind("127.0.0.1:9083").await?;
    /// let layer = mesh.server("reviews")?.layer(socket.local_addr()?)?;
    /// // axum puts the client's address into the extensions of requests.
    /// let layer = layer.with_remote_address(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0));
    /// let app = Router::new().route("/reviews/{id}", get(async || "five stars")).layer(layer);
    /// axum::serve(socket, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the configuration of the address's listener cannot be served.
    pub fn layer(self, address: SocketAddr) -> Result<ServerLayer, Error> {
        let named = self.mesh.server_listener(address);
        let Some((name, subscription)) = named else { return Ok(self.inner.layer(address)?) };
        Ok(self.inner.with_listener(name).layer(address)?.holding(Arc::new((subscription, self.mesh))))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("drain_times", &self.drain_times).finish_non_exhaustive()
    }
}
