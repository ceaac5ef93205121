//! The request extensions from which axum and tonic read the addresses of a connection, each behind a feature of its name.

use std::task::{Context, Poll};

use http::{Extensions, Request};
use mesh_tower::{Body, server::Connection};
use tower_service::Service;

/// Adds the extensions of axum and tonic to the requests of a service.
#[derive(Clone, Debug)]
pub(crate) struct WithConnectInfo<S>(pub(crate) S);

impl<S: Service<Request<Body>>> Service<Request<Body>> for WithConnectInfo<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        insert_addresses(request.extensions_mut());
        self.0.call(request)
    }
}

fn insert_addresses(extensions: &mut Extensions) {
    let Some(connection) = extensions.get::<Connection>() else { return };
    // Without an address nothing is inserted, as in these libraries for Unix sockets.
    let (Some(peer), local) = (connection.peer_address(), connection.local_address()) else { return };
    #[cfg(feature = "axum")]
    extensions.insert(axum::extract::ConnectInfo(peer));
    #[cfg(feature = "tonic")]
    extensions.insert(tonic::transport::server::TcpConnectInfo { local_addr: local, remote_addr: Some(peer) });
    #[cfg(not(feature = "tonic"))]
    let _ = local;
}
