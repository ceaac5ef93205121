//! Outlier detection: records the outcome of requests, and ends ejections when their time is over.
//!
//! [`OutlierLayer`] records requests that other layers send to endpoints. The functions here determine what counts as a
//! failure, for the pipeline and for the layer.

mod layer;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use http::Response;
use mesh_core::{
    cluster::{ClusterState, EndpointState},
    grpc,
    health::outlier::{Ejected, LocalOriginFailure, Outcome},
    retry::ResetReason,
};

pub use layer::OutlierLayer;

use crate::{pick::sweep, rng::ThreadRng};

/// The outcome of a response. A gRPC status is used if it is in the headers, not in trailers, as in Envoy.
pub(crate) fn outcome_of_response<B>(response: &Response<B>, is_grpc: bool) -> Outcome {
    let grpc_status = if is_grpc { grpc::status_of(response.headers()) } else { None };
    grpc_status.map_or_else(|| Outcome::Status(response.status()), Outcome::GrpcStatus)
}

/// The outcome of a try without a response; `None` if the endpoint is not responsible.
pub(crate) fn outcome_of_reset(reason: ResetReason) -> Option<Outcome> {
    let failure = match reason {
        ResetReason::Overflow | ResetReason::LocalReset => return None,
        ResetReason::ConnectionFailure | ResetReason::ConnectionTimeout => LocalOriginFailure::ConnectFailed,
        ResetReason::PerTryTimeout => LocalOriginFailure::Timeout,
        ResetReason::RemoteRefusedStreamReset
        | ResetReason::RemoteReset
        | ResetReason::ProtocolError
        | ResetReason::ConnectionTermination => LocalOriginFailure::Reset,
    };
    Some(Outcome::LocalOrigin(failure))
}

/// Records the outcome of a try that ended at `at`. The first ejection starts a task that unejects endpoints.
pub(crate) fn record(cluster: &Arc<ClusterState>, endpoint: &EndpointState, outcome: Outcome, at: Instant) {
    if let Some(ejected) = cluster.record(endpoint, outcome, at, &mut ThreadRng) {
        handle_ejection(cluster, &ejected);
    }
}

#[cold]
fn handle_ejection(cluster: &Arc<ClusterState>, ejected: &Ejected) {
    tracing::info!(
        cluster = %cluster.config().name,
        address = %ejected.address,
        detection = ?ejected.detection,
        ejection_time = ?ejected.ejection_time,
        "endpoint ejected"
    );
    if ejected.starts_sweeping {
        sweep(cluster);
    }
}
