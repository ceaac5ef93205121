//! Readiness and metrics.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use mesh_core::causes::with_causes;
use mesh_xds::status::ConfigStatus;
use tokio::net::TcpListener;

use crate::server::ControlPlane;

/// Serves until the future is dropped.
pub(super) async fn serve(listener: TcpListener, control_plane: ControlPlane) {
    if let Err(error) = axum::serve(listener, router(control_plane)).await {
        tracing::error!("HTTP: {}", with_causes(&error));
    }
}

fn router(control_plane: ControlPlane) -> Router {
    let metrics = move || async move { text(metrics(&control_plane)) };
    // The ports are bound after the first configuration has been read, so who gets a response gets resources.
    Router::new().route("/ready", get(|| async { "" })).route("/metrics", get(metrics))
}

fn metrics(control_plane: &ControlPlane) -> String {
    let source = Some(control_plane.status().clone());
    ConfigStatus { source, ..ConfigStatus::default() }.prometheus_text()
}

fn text(text: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"))], text)
}
