//! Passive health checking: tells a cluster how its endpoints did, and ends ejections when their time is over.

use std::sync::Arc;

use mesh_core::{
    cluster::{ClusterState, EndpointState},
    health::outlier::Outcome,
};

use crate::{rng::ThreadRng, timer::now};

/// Records how a try ended. The first ejection begins a task that lets ejected endpoints back in.
pub(crate) fn record(cluster: &Arc<ClusterState>, endpoint: &EndpointState, outcome: Outcome) {
    let Some(ejected) = cluster.record(endpoint, outcome, now(), &mut ThreadRng) else { return };
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
