//! The connection manager of a listener: serves connections.

use std::{fmt, net::SocketAddr, sync::Arc};

use hyper::service::service_fn;
use mesh_core::{
    model::{HttpConnectionManager, Listener},
    store::Store,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    Respond,
    listener::{ListenerConfigError, ListenerContext},
};
use crate::{
    drain::Drain,
    server::{Connection, ConnectionInfo, ServeConnection},
    telemetry::Telemetry,
};

/// Serves the connections of one listener; `S` is asked for what the listener's routes do not answer themselves.
pub struct ConnectionManager<S> {
    pub(super) listener: Arc<ListenerContext>,
    pub(super) service: S,
}

impl<S> ConnectionManager<S> {
    /// What serves the connections of `listener` that are `http`'s, whose routes and clusters are those of `store`.
    ///
    /// # Errors
    /// If routes given in the listener cannot be compiled, or an access log cannot be opened.
    pub fn new(
        listener: &Listener,
        http: Arc<HttpConnectionManager>,
        store: &Store,
        telemetry: &Telemetry,
        service: S,
    ) -> Result<Self, ListenerConfigError> {
        Ok(Self { listener: Arc::new(ListenerContext::new(listener, http, store, telemetry)?), service })
    }

    /// The same with another service.
    pub(crate) fn with_service<T>(&self, service: T) -> ConnectionManager<T> {
        ConnectionManager { listener: Arc::clone(&self.listener), service }
    }
}

impl<S: Respond> ConnectionManager<S> {
    /// Serves one connection to its end, as a member of `drain`'s group.
    ///
    /// # Cancel safety
    /// Dropping the future cuts the connection.
    pub async fn serve_connection<I>(self: Arc<Self>, io: I, remote: SocketAddr, local: SocketAddr, drain: Drain)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let watch = drain.watch();
        let info = Arc::new(ConnectionInfo::new(Some(remote), local, drain));
        let listener = Arc::clone(&self.listener);
        let _counted = listener.listener_stats.connection();
        let connection = Connection {
            io,
            info: Arc::clone(&info),
            stats: Arc::clone(&listener.stats),
            lifetime: listener.lifetime(),
            head_limit: listener.head_limit.clone(),
            drain: watch,
        };
        let service = service_fn(|request| Arc::clone(&self).handle(Arc::clone(&info), request));
        if let Some(unserved) = connection.serve(&listener.codecs, service).await {
            self.record_unserved(info, unserved);
        }
    }
}

impl<S: Respond> ServeConnection for ConnectionManager<S> {
    fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, drain: &Drain) {
        let Ok(local) = stream.local_addr() else { return };
        // Without it small answers wait for acknowledgements; a socket that cannot have it still works.
        let _ = stream.set_nodelay(true);
        tokio::spawn(self.serve_connection(stream, peer, local, drain.clone()));
    }
}

impl<S> fmt::Debug for ConnectionManager<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionManager").field("config", &self.listener.config).finish_non_exhaustive()
    }
}
