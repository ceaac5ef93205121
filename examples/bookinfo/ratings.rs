//! The ratings service: a plain HTTP server that knows nothing of the mesh and has no part of it linked in. The
//! sidecar in front of it is what makes it a member.

use axum::{Json, Router, extract::Path, routing::get};
use serde_json::{Value, json};

/// The whole service.
pub(crate) fn router() -> Router {
    Router::new().route("/ratings/{product_id}", get(ratings)).route("/health", get(async || "ratings is healthy\n"))
}

async fn ratings(Path(product_id): Path<u32>) -> Json<Value> {
    Json(json!({ "id": product_id, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } }))
}
