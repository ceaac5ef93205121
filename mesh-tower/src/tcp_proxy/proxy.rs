//! [`TcpProxy`].

use std::sync::Arc;

use mesh_core::{
    cluster::ClusterState,
    model::TcpProxy as Config,
    rng::Rng as _,
    store::{ClusterSlot, Store},
    telemetry::ResponseFlags,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use super::{
    record::{ConnectionTelemetry, Record},
    upstream::{UpstreamConnection, connect},
};
use crate::{
    Downstream, Worker,
    drain::{DrainWatch, Phase},
    pipe::{End, Meters, Pipe},
    rng::ThreadRng,
    telemetry::TcpStats,
};

/// Passes the bytes of connections to the endpoints of clusters.
#[derive(Debug)]
pub(crate) struct TcpProxy {
    config: Arc<Config>,
    /// The clusters and their weights.
    clusters: Vec<(Arc<ClusterSlot>, u64)>,
    worker: Worker,
    stats: Arc<TcpStats>,
    telemetry: ConnectionTelemetry,
}

/// Why a proxied connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// No endpoint has accepted a connection.
    NotConnected,
    /// Both ends have ended, or one of them has failed.
    Closed,
    /// Nothing moved for too long.
    Idle,
    /// It has reached `max_downstream_connection_duration`.
    TooOld,
    /// Draining has closed it.
    Drained,
}

impl TcpProxy {
    /// A proxy to the clusters of `store`, with upstream connections of `worker`.
    pub(crate) fn new(
        config: Arc<Config>,
        store: &Store,
        worker: Worker,
        stats: Arc<TcpStats>,
        telemetry: ConnectionTelemetry,
    ) -> Self {
        let clusters = config.clusters.iter();
        let clusters = clusters.map(|cluster| (store.cluster_slot(&cluster.name), cluster.weight.get().into()));
        Self { clusters: clusters.collect(), config, worker, stats, telemetry }
    }

    /// Records a connection that another filter has closed.
    pub(crate) fn record_closed(&self, downstream: &Downstream) {
        self.stats.downstream_cx_total.inc();
        drop(Record::new(&self.telemetry, downstream));
    }

    /// Serves one connection to its end.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection at once.
    pub(crate) async fn serve_connection<I>(&self, io: I, downstream: &Downstream, mut drain: DrainWatch)
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        self.stats.downstream_cx_total.inc();
        let mut record = Record::new(&self.telemetry, downstream);
        let too_old = self.too_old();
        let drained = drain.reached(Phase::Closed);
        let ended = tokio::select! {
            biased;
            () = too_old => Ended::TooOld,
            () = drained => Ended::Drained,
            ended = self.pass_on(io, &mut record) => ended,
        };
        match ended {
            Ended::NotConnected | Ended::Closed | Ended::Drained => {}
            Ended::Idle => self.stats.idle_timeout.inc(),
            Ended::TooOld => {
                self.stats.max_downstream_connection_duration.inc();
                record.flag(ResponseFlags::DURATION_TIMEOUT);
            }
        }
    }

    /// Resolves when a connection that begins now reaches its maximum duration.
    async fn too_old(&self) {
        match self.config.max_downstream_connection_duration {
            Some(limit) => sleep_until(Instant::now() + limit).await,
            None => std::future::pending().await,
        }
    }

    /// Connects to an endpoint and passes bytes until the connection ends.
    async fn pass_on<I>(&self, downstream: I, record: &mut Record<'_>) -> Ended
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let attempts = self.config.max_connect_attempts.get();
        let connected = connect(&self.worker, attempts, || self.choose_cluster(), record).await;
        let Ok(UpstreamConnection { stream, active: _active }) = connected else {
            return Ended::NotConnected;
        };
        let series = record.open();
        let stats = &*self.stats;
        let downstream_meters = Meters {
            received: &[&record.received, &series.received_bytes, &stats.downstream_cx_rx_bytes_total],
            sent: &[&record.sent, &series.sent_bytes, &stats.downstream_cx_tx_bytes_total],
        };
        let downstream = End { io: downstream, meters: downstream_meters };
        let upstream = End { io: stream, meters: Meters::default() };
        let pipe = Pipe::new();
        tokio::select! {
            biased;
            () = pipe.run(downstream, upstream) => Ended::Closed,
            () = pipe.idle(self.config.idle_timeout) => Ended::Idle,
        }
    }

    /// Picks a cluster by weight; `None` if it does not exist.
    fn choose_cluster(&self) -> Option<Arc<ClusterState>> {
        let total = self.clusters.iter().map(|(_, weight)| weight).sum();
        let mut point = ThreadRng.below(total);
        let chosen = self.clusters.iter().find(|(_, weight)| {
            let is_chosen = point < *weight;
            point = point.saturating_sub(*weight);
            is_chosen
        });
        let cluster = chosen.and_then(|(slot, _)| slot.load());
        let cluster = cluster.map(|cluster| cluster.choose(&mut ThreadRng).unwrap_or(cluster));
        if cluster.is_none() {
            self.stats.downstream_cx_no_route.inc();
        }
        cluster
    }
}
