//! Passive health checking: reports to a cluster how its endpoints did, and ends ejections when their time is over.
//!
//! [`OutlierLayer`] does so for requests that other layers bring to endpoints. The functions here decide what counts as a
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

use crate::{rng::ThreadRng, timer::now};

/// What a response means. A gRPC status counts if it is in the headers; in trailers it comes too late, as for Envoy.
pub(crate) fn outcome_of_response<B>(response: &Response<B>, is_grpc: bool) -> Outcome {
    let grpc_status = if is_grpc { grpc::status_of(response.headers()) } else { None };
    grpc_status.map_or_else(|| Outcome::Status(response.status()), Outcome::GrpcStatus)
}

/// What a try without a response means; `None` if the endpoint has no part in it.
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

/// Records how a try ended at `at`. The first ejection begins a task that lets ejected endpoints back in.
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
        tokio::spawn(sweep(Arc::clone(cluster)));
    }
}

/// Sweeps a cluster until no endpoint is ejected and none has to be remembered for it.
async fn sweep(cluster: Arc<ClusterState>) {
    while let Some(due) = cluster.poll_timeout() {
        tokio::time::sleep_until(due.into()).await;
        cluster.handle_timeout(now(), &mut ThreadRng);
    }
}
