//! Readiness and metrics for anyone, and what operators look at for clients of the same machine.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mesh_core::causes::with_causes;
use mesh_xds::resource::ResourceType;
use mesh_xds::status::ConfigStatus;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::debug;
use super::load_reports::Loads;
use crate::server::ControlPlane;

/// What the responses are made of.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) control_plane: ControlPlane,
    pub(super) loads: Arc<Loads>,
}

/// The client that is asked about.
#[derive(Debug, Deserialize)]
struct Proxy {
    /// Its id, or the part of it that names the workload, such as `reviews-1.default`.
    #[serde(rename = "proxyID")]
    id: Option<String>,
}

/// Serves until the future is dropped.
pub(super) async fn serve(listener: TcpListener, shown: Shown) {
    let service = router(shown).into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).await {
        tracing::error!("HTTP: {}", with_causes(&error));
    }
}

fn router(shown: Shown) -> Router {
    let debug = Router::new()
        .route(
            "/debug/syncz",
            get(|State(shown): State<Shown>| async move { Json(debug::syncz(&shown.control_plane)) }),
        )
        .route("/debug/config_dump", get(config_dump))
        .route(
            "/debug/endpointz",
            get(|State(shown): State<Shown>| async move { Json(debug::endpointz(&shown.control_plane)) }),
        )
        .route("/debug/loads", get(|State(shown): State<Shown>| async move { Json(shown.loads.to_json()) }))
        .layer(axum::middleware::from_fn(only_this_machine));
    // The ports are bound after the first configuration has been read, so who gets a response gets resources.
    let open = Router::new().route("/ready", get(|| async { "" })).route("/metrics", get(metrics));
    open.merge(debug).with_state(shown)
}

/// The configuration of a mesh is not for everybody. istiod, too, asks clients from elsewhere for more.
async fn only_this_machine(ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    if from.ip().to_canonical().is_loopback() {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "only for clients of this machine\n").into_response()
    }
}

async fn config_dump(State(shown): State<Shown>, Query(proxy): Query<Proxy>) -> Response {
    let Some(id) = proxy.id else {
        return (StatusCode::BAD_REQUEST, "proxyID is missing: /debug/config_dump?proxyID=NAME.NAMESPACE\n")
            .into_response();
    };
    match debug::config_dump(&shown.control_plane, &id) {
        Some(dump) => Json(dump).into_response(),
        None => (StatusCode::NOT_FOUND, "no client of this name is connected\n").into_response(),
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let source = Some(shown.control_plane.status().clone());
    let mut text = ConfigStatus { source, ..ConfigStatus::default() }.prometheus_text();
    write(&shown.control_plane, &mut text);
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"))], text).into_response()
}

/// The metrics of istiod that there is something for.
fn write(control_plane: &ControlPlane, text: &mut String) {
    let (mesh, connections) = (control_plane.mesh(), control_plane.connections());
    let version = env!("CARGO_PKG_VERSION");
    let gauges = [
        (format!("pilot_info{{version=\"{version}\"}}"), 1),
        (format!("pilot_xds{{version=\"{version}\"}}"), connections.len()),
        ("pilot_services".to_owned(), mesh.registry.services().len()),
        ("pilot_virt_services".to_owned(), mesh.config.virtual_services.len()),
    ];
    for (metric, value) in gauges {
        let name = metric.split('{').next().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {name} gauge\n{metric} {value}");
    }
    text.push_str("# TYPE pilot_xds_pushes counter\n");
    for kind in ResourceType::ALL {
        let _ = writeln!(text, "pilot_xds_pushes{{type=\"{}\"}} {}", kind.service(), connections.pushes(kind));
    }
}
