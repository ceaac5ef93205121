//! Picks an endpoint of a cluster, and sweeps clusters to end ejections when their ejection time has passed.
//!
//! A task sweeps the cluster. It is spawned in the runtime of the request that caused the first ejection, or of the first pick if
//! endpoints are compared. If that runtime shuts down, the next pick spawns a task in its own runtime.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::HeaderMap;
use mesh_core::{
    balance::{Avoid, NoHealthyEndpoint, PickContext},
    cluster::{ClusterState, EndpointState},
    model::Discovery,
};

use crate::{rng::ThreadRng, timer::now};

/// Picks an endpoint for a request that no connection brought.
pub(crate) fn pick(cluster: &Arc<ClusterState>, avoid: Avoid<'_>) -> Result<Arc<EndpointState>, NoHealthyEndpoint> {
    pick_for(cluster, avoid, None, || None)
}

/// Picks an endpoint for a request with these `headers`, or for a connection. `original_destination` is where the client's connection
/// was made to before it was redirected to this process.
pub(crate) fn pick_for(
    cluster: &Arc<ClusterState>,
    avoid: Avoid<'_>,
    headers: Option<&HeaderMap>,
    original_destination: impl FnOnce() -> Option<SocketAddr>,
) -> Result<Arc<EndpointState>, NoHealthyEndpoint> {
    if let Discovery::OriginalDst(options) = &cluster.config().discovery {
        let destination = options.destination(original_destination(), headers);
        return cluster.pick_original(destination, now(), &mut ThreadRng);
    }
    if cluster.resume_sweeping() {
        sweep(cluster);
    }
    cluster.pick(PickContext::new(&mut ThreadRng).avoiding(avoid))
}

/// Starts a task that sweeps a cluster until no sweep is scheduled.
pub(crate) fn sweep(cluster: &Arc<ClusterState>) {
    tokio::spawn(Sweeper(Arc::clone(cluster)).run());
}

/// How often clusters are swept in which a request may make the next sweep due earlier.
const PROXYLESS_INTERVAL: Duration = Duration::from_millis(500);

struct Sweeper(Arc<ClusterState>);

impl Sweeper {
    async fn run(self) {
        self.0.begin_sweeping(now());
        while let Some(due) = self.0.poll_timeout() {
            let due = if self.0.config().proxyless { due.min(now() + PROXYLESS_INTERVAL) } else { due };
            tokio::time::sleep_until(due.into()).await;
            self.0.handle_timeout(now(), &mut ThreadRng);
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.suspend_sweeping();
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::{
        health::outlier::Outcome,
        model::{Cluster, Discovery, Endpoint, EndpointAddress, OutlierDetection, Percent},
    };
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::outlier::record;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn an_ejection_ends_after_its_runtime_has_shut_down() {
        let (first, second) = (runtime(), runtime());
        let mut outlier_detection = OutlierDetection::default();
        outlier_detection.max_ejection_percent = Percent::HUNDRED;
        let address = EndpointAddress::Socket(([192, 0, 2, 1], 80).into());
        let mut config = Cluster::new("one", Discovery::Static(vec![Endpoint::new(address)].into()));
        config.outlier_detection = Some(outlier_detection);
        let cluster = {
            let _entered = first.enter();
            Arc::new(ClusterState::new(Arc::new(config), now(), &mut ThreadRng))
        };
        let endpoint = Arc::clone(&cluster.endpoints().endpoints()[0]);
        first.block_on(async {
            for _ in 0..5 {
                record(&cluster, &endpoint, Outcome::Status(http::StatusCode::BAD_GATEWAY), now());
            }
        });
        assert!(endpoint.is_ejected());
        drop(first);
        second.block_on(async {
            drop(pick(&cluster, Avoid::NONE));
            tokio::time::sleep(Duration::from_secs(3600)).await;
        });
        assert!(!endpoint.is_ejected());
    }
}
