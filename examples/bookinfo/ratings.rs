//! The ratings service: a plain HTTP server that does not use the library. Its sidecar makes it a member of the mesh.

use axum::{Json, Router, extract::Path, routing::get};
use serde_json::{Value, json};

/// The service.
pub(crate) fn router() -> Router {
    Router::new().route("/ratings/{product_id}", get(ratings)).route("/health", get(async || "ratings is healthy\n"))
}

async fn ratings(Path(product_id): Path<u32>) -> Json<Value> {
    Json(json!({ "id": product_id, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } }))
}
