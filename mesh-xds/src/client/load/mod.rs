//! Load reports (LRS): how many requests the endpoints of each locality got, and how they ended.
//!
//! A control plane that balances load between localities asks for them. [`LoadReports`] computes them from the statistics in a
//! store, without I/O; [`report`] carries them over gRPC. Envoy `LoadReportingService`, gRFC A27.
//!
//! A report counts what happened since the one before. What an endpoint did after the last report before it was removed is
//! not reported, as in Envoy.

#[cfg(feature = "grpc")]
mod grpc;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use mesh_core::cluster::{ClusterState, EndpointId, EndpointState};
use mesh_core::model::{ClusterName, Discovery, Locality};
use mesh_core::store::Store;

#[cfg(feature = "grpc")]
pub use grpc::report;

use crate::proto::envoy::config::core::v3::Locality as ProtoLocality;
use crate::proto::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats, cluster_stats::DroppedRequests};
use crate::proto::envoy::service::load_stats::v3::LoadStatsResponse;

/// The shortest interval between reports, whatever the control plane asks for.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Which clusters a control plane may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// All. Envoy.
    All,
    /// Those with `lrs_server`. gRPC.
    WithLrsServer,
}

/// The state of load reports: which clusters are reported, and what the last report has counted.
#[derive(Debug)]
pub struct LoadReports {
    reported: Reported,
    asked: Option<Asked>,
    clusters: HashMap<ClusterName, Counted>,
    /// When the last report was made, or the first one was asked for.
    last: Instant,
}

/// What the control plane has asked for.
#[derive(Debug)]
enum Asked {
    All,
    Names(HashSet<String>),
}

/// What has been counted of a cluster.
#[derive(Debug)]
struct Counted {
    since: Instant,
    endpoints: HashMap<EndpointId, Ended>,
    dropped: HashMap<Arc<str>, u64>,
    overflows: u64,
}

/// Requests of an endpoint, from its start.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    issued: u64,
    succeeded: u64,
    failed: u64,
}

impl LoadReports {
    /// Nothing is reported until the control plane asks.
    #[must_use]
    pub fn new(reported: Reported, now: Instant) -> Self {
        Self { reported, asked: None, clusters: HashMap::new(), last: now }
    }

    /// Handles what the control plane asks for; returns the interval between reports. Clusters that were reported before are
    /// counted on, others from now.
    pub fn handle_response(&mut self, response: &LoadStatsResponse, store: &Store, now: Instant) -> Duration {
        let LoadStatsResponse { clusters, send_all_clusters, load_reporting_interval, report_endpoint_granularity: _ } =
            response;
        self.asked =
            Some(if *send_all_clusters { Asked::All } else { Asked::Names(clusters.iter().cloned().collect()) });
        self.last = now;
        let selected = self.selected(store);
        let names: HashSet<&ClusterName> = selected.iter().map(|cluster| &cluster.config().name).collect();
        self.clusters.retain(|name, _| names.contains(name));
        for cluster in &selected {
            let begin = || Counted::up_to_now(cluster, now);
            self.clusters.entry_ref(&cluster.config().name).or_insert_with(begin);
        }
        let interval = load_reporting_interval.and_then(|interval| Duration::try_from(interval).ok());
        interval.unwrap_or_default().max(MIN_INTERVAL)
    }

    /// The load since the last report. Clusters that are new since then are counted from their start.
    pub fn report(&mut self, store: &Store, now: Instant) -> Vec<ClusterStats> {
        let selected = self.selected(store);
        let since = std::mem::replace(&mut self.last, now);
        let mut counted = HashMap::with_capacity(selected.len());
        let mut reports = Vec::with_capacity(selected.len());
        for cluster in &selected {
            let name = &cluster.config().name;
            let before = self.clusters.remove(name).unwrap_or_else(|| Counted::nothing(since));
            let (report, after) = before.advance(cluster, now);
            reports.push(report);
            counted.insert(name.clone(), after);
        }
        self.clusters = counted;
        reports
    }

    fn selected(&self, store: &Store) -> Vec<Arc<ClusterState>> {
        let mut clusters = store.clusters();
        clusters.retain(|cluster| {
            let config = cluster.config();
            let is_asked = match &self.asked {
                None => false,
                Some(Asked::All) => true,
                Some(Asked::Names(names)) => names.contains(config.name.as_str()),
            };
            is_asked && (self.reported == Reported::All || config.load_reporting)
        });
        clusters
    }
}

impl Ended {
    fn of(endpoint: &EndpointState) -> Self {
        let stats = endpoint.stats();
        Self { issued: stats.rq_total(), succeeded: stats.rq_success.get(), failed: stats.rq_error.get() }
    }

    /// What happened after `before`. Counters may have been reset.
    fn since(self, before: Self) -> Self {
        Self {
            issued: self.issued.saturating_sub(before.issued),
            succeeded: self.succeeded.saturating_sub(before.succeeded),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

impl Counted {
    fn nothing(since: Instant) -> Self {
        Self { since, endpoints: HashMap::new(), dropped: HashMap::new(), overflows: 0 }
    }

    fn up_to_now(cluster: &ClusterState, now: Instant) -> Self {
        let stats = cluster.stats();
        let endpoints = cluster.endpoints();
        Self {
            since: now,
            endpoints: endpoints.endpoints().iter().map(|endpoint| (endpoint.id(), Ended::of(endpoint))).collect(),
            dropped: stats.dropped_requests().into_iter().collect(),
            overflows: stats.upstream_rq_pending_overflow.get() + stats.upstream_rq_active_overflow.get(),
        }
    }

    /// What happened since, and what has been counted then.
    fn advance(&self, cluster: &ClusterState, now: Instant) -> (ClusterStats, Self) {
        let after = Self::up_to_now(cluster, now);
        let mut localities = BTreeMap::<_, UpstreamLocalityStats>::new();
        let endpoints = cluster.endpoints();
        for endpoint in endpoints.endpoints() {
            let placement = endpoint.placement();
            let Locality { region, zone, sub_zone } = &placement.locality;
            let before = self.endpoints.get(&endpoint.id()).copied().unwrap_or_default();
            let Ended { issued, succeeded, failed } = Ended::of(endpoint).since(before);
            let sum = localities.entry((placement.priority, region, zone, sub_zone)).or_insert_with(|| {
                let locality = ProtoLocality {
                    region: region.to_string(),
                    zone: zone.to_string(),
                    sub_zone: sub_zone.to_string(),
                };
                UpstreamLocalityStats {
                    locality: Some(locality),
                    priority: placement.priority,
                    ..UpstreamLocalityStats::default()
                }
            });
            sum.total_issued_requests += issued;
            sum.total_successful_requests += succeeded;
            sum.total_error_requests += failed;
            sum.total_requests_in_progress += endpoint.stats().rq_active();
        }
        let is_used = |sum: &UpstreamLocalityStats| {
            sum.total_issued_requests + sum.total_successful_requests + sum.total_error_requests > 0
                || sum.total_requests_in_progress > 0
        };
        let since = |(category, count): (&Arc<str>, &u64)| DroppedRequests {
            category: category.to_string(),
            dropped_count: count.saturating_sub(self.dropped.get(category).copied().unwrap_or_default()),
        };
        let dropped: Vec<_> = after.dropped.iter().map(since).filter(|drop| drop.dropped_count > 0).collect();
        let overflows = after.overflows.saturating_sub(self.overflows);
        let report = ClusterStats {
            cluster_name: cluster.config().name.to_string(),
            cluster_service_name: match &cluster.config().discovery {
                Discovery::Eds { service_name } => service_name.to_string(),
                _ => String::new(),
            },
            upstream_locality_stats: localities.into_values().filter(is_used).collect(),
            total_dropped_requests: dropped.iter().map(|drop| drop.dropped_count).sum::<u64>() + overflows,
            dropped_requests: dropped,
            load_report_interval: now.saturating_duration_since(self.since).try_into().ok(),
        };
        (report, after)
    }
}
