//! The admin endpoint of this process: that of `mesh-admin`, with commands that control a proxy.
//!
//! It runs on the main thread, so it does not delay workers.

mod commands;
mod process;

use std::{net::SocketAddr, sync::Arc};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mesh_admin::Admin;
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service as _;

use crate::state::State;

/// Serves the admin endpoint until the process ends.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) {
    let admin = Admin::new(state, commands::all());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve_connection(stream, peer, admin.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint cannot accept connections");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, admin: Admin<State>) {
    let service = service_fn(|request: Request<Incoming>| admin.clone().call(request));
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, %peer, "admin connection ended");
    }
}

#[cfg(test)]
mod tests;
