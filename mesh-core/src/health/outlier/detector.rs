//! Ejections of a cluster's endpoints.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::comparison::Comparison;
use crate::{
    endpoint::{Detection, EndpointId, EndpointRuntime, EndpointState},
    model::{OutlierDetection, Percent},
    rng::Rng,
    telemetry::cluster_stats::ClusterStats,
};

/// The cluster and the time of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) config: &'a OutlierDetection,
    /// Members of the cluster, healthy or not.
    pub(crate) hosts: usize,
    pub(crate) stats: &'a ClusterStats,
    pub(crate) now: Instant,
}

impl Context<'_> {
    fn may_eject_one_more(&self) -> bool {
        let ejected = self.stats.ejections_active.get();
        let allowed = u64::from(self.config.max_ejection_percent.get()) * self.hosts as u64;
        100 * (ejected + 1) <= allowed || (self.config.always_eject_one_host && ejected == 0)
    }
}

/// The result of [`Detector::eject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejection {
    pub(crate) time: Duration,
    pub(crate) starts_sweeping: bool,
}

/// Decides about the ejections of one cluster.
#[derive(Debug)]
pub(crate) struct Detector {
    /// Origin of the grid of sweeps.
    epoch: Instant,
    next_sweep: Option<Instant>,
    /// Endpoints that are ejected, or whose multiplier has not fallen to 0 since.
    offenders: HashMap<EndpointId, Offender>,
    comparison: Comparison,
    /// Whether there were requests in the last interval, if endpoints are compared.
    has_traffic: bool,
}

#[derive(Debug)]
struct Offender {
    runtime: Arc<EndpointRuntime>,
    ejected_at: Instant,
    multiplier: u32,
    jitter: Duration,
}

impl Offender {
    fn ejection_time(&self, config: &OutlierDetection) -> Duration {
        let longest = config.max_ejection_time.max(config.base_ejection_time);
        config.base_ejection_time.saturating_mul(self.multiplier).min(longest) + self.jitter
    }
}

impl Detector {
    pub(crate) fn new(now: Instant) -> Self {
        let (offenders, comparison) = (HashMap::new(), Comparison::default());
        Self { epoch: now, next_sweep: None, offenders, comparison, has_traffic: false }
    }

    /// Begins an interval at whose end the endpoints `members` are compared, if `config` says so and there has been no traffic.
    pub(crate) fn begin_interval(&mut self, config: &OutlierDetection, members: &[Arc<EndpointState>], now: Instant) {
        if config.compares() && !self.has_traffic {
            self.comparison.begin(members);
            self.has_traffic = true;
            if self.next_sweep.is_none() {
                self.schedule(config, now);
            }
        }
    }

    /// Compares the endpoints `members` at the end of an interval, and ejects those that stand out. Returns whether any was.
    pub(crate) fn compare(&mut self, members: &[Arc<EndpointState>], context: Context<'_>, rng: &mut impl Rng) -> bool {
        let (detections, has_traffic) = self.comparison.end(members, context.config);
        self.has_traffic = has_traffic;
        let mut any_ejected = false;
        for (endpoint, detection) in detections {
            any_ejected |= self.eject(members[endpoint].runtime(), detection, context, rng).is_some();
        }
        self.schedule(context.config, context.now);
        any_ejected
    }

    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Applies another configuration. Without outlier detection, all endpoints are unejected. Otherwise sweeps are scheduled
    /// from `now` on.
    pub(crate) fn reconfigure(&mut self, config: Option<&OutlierDetection>, stats: &ClusterStats, now: Instant) {
        self.epoch = now;
        if !config.is_some_and(OutlierDetection::compares) {
            self.comparison = Comparison::default();
            self.has_traffic = false;
        }
        match config {
            Some(config) => self.schedule(config, now),
            None => self.uneject_all(stats),
        }
    }

    /// Ejects an endpoint for `detection`, if the enforcing percentage and the maximum percentage of ejected endpoints allow
    /// it.
    pub(crate) fn eject(
        &mut self,
        runtime: &Arc<EndpointRuntime>,
        detection: Detection,
        context: Context<'_>,
        rng: &mut impl Rng,
    ) -> Option<Ejection> {
        let Context { config, stats, now, .. } = context;
        let monitor = &runtime.outlier;
        if monitor.is_ejected() || monitor.is_retired() {
            return None;
        }
        count_detected(detection, stats);
        // The threshold can be reached again even if this detection does not eject.
        monitor.start_over(detection);
        if !context.may_eject_one_more() {
            stats.ejections_overflow.inc();
            return None;
        }
        if rng.below(100) >= u64::from(enforcing(detection, config).get()) {
            return None;
        }
        count_enforced(detection, stats);
        stats.ejections_active.inc();
        monitor.eject();
        let jitter = jitter(config.max_ejection_time_jitter, rng);
        let runtime = Arc::clone(runtime);
        let offender =
            self.offenders.entry(runtime.id()).or_insert(Offender { runtime, ejected_at: now, multiplier: 0, jitter });
        offender.ejected_at = now;
        offender.jitter = jitter;
        // Above the maximum ejection time, a higher multiplier would only take longer to decrease.
        let longest = config.max_ejection_time.max(config.base_ejection_time);
        if config.base_ejection_time.saturating_mul(offender.multiplier) < longest + config.base_ejection_time {
            offender.multiplier = offender.multiplier.saturating_add(1);
        }
        let time = offender.ejection_time(config);
        let starts_sweeping = self.next_sweep.is_none();
        self.schedule(config, now);
        Some(Ejection { time, starts_sweeping })
    }

    /// Ends ejections whose time is over, and decrements the multipliers of endpoints that are not ejected. Returns whether
    /// any ejection has ended.
    pub(crate) fn sweep(&mut self, config: &OutlierDetection, stats: &ClusterStats, now: Instant) -> bool {
        if self.next_sweep.is_none_or(|due| now < due) {
            return false;
        }
        let mut any_ended = false;
        self.offenders.retain(|_, offender| {
            if !offender.runtime.outlier.is_ejected() {
                offender.multiplier = offender.multiplier.saturating_sub(1);
                return offender.multiplier > 0;
            }
            if offender.ejection_time(config) <= now.saturating_duration_since(offender.ejected_at) {
                offender.runtime.outlier.uneject();
                stats.ejections_active.dec();
                any_ended = true;
            }
            true
        });
        self.schedule(config, now);
        any_ended
    }

    /// Removes an endpoint that is no longer a member. Its active requests cannot eject it any more.
    pub(crate) fn retire(&mut self, runtime: &EndpointRuntime, stats: &ClusterStats) {
        runtime.outlier.retire();
        if self.offenders.remove(&runtime.id()).is_some_and(|offender| offender.runtime.outlier.is_ejected()) {
            stats.ejections_active.dec();
        }
        if self.offenders.is_empty() && !self.has_traffic {
            self.next_sweep = None;
        }
    }

    fn uneject_all(&mut self, stats: &ClusterStats) {
        for (_, offender) in self.offenders.drain() {
            if offender.runtime.outlier.is_ejected() {
                offender.runtime.outlier.uneject();
                stats.ejections_active.dec();
            }
        }
        self.next_sweep = None;
    }

    /// Schedules the next sweep at the first multiple of the interval after `now`, if there is anything to sweep.
    fn schedule(&mut self, config: &OutlierDetection, now: Instant) {
        let interval = config.interval.max(Duration::from_millis(1));
        let intervals = now.saturating_duration_since(self.epoch).as_nanos() / interval.as_nanos() + 1;
        let offset = u32::try_from(intervals).map_or(interval, |intervals| interval.saturating_mul(intervals));
        let is_needed = !self.offenders.is_empty() || (config.compares() && self.has_traffic);
        self.next_sweep = is_needed.then(|| self.epoch + offset);
    }
}

fn enforcing(detection: Detection, config: &OutlierDetection) -> Percent {
    match detection {
        Detection::Consecutive5xx => config.enforcing_consecutive_5xx,
        Detection::ConsecutiveGatewayFailure => config.enforcing_consecutive_gateway_failure,
        Detection::ConsecutiveLocalOriginFailure => config.enforcing_consecutive_local_origin_failure,
        Detection::SuccessRate => config.success_rate.enforcing,
        Detection::FailurePercentage => config.failure_percentage.enforcing,
    }
}

fn count_detected(detection: Detection, stats: &ClusterStats) {
    match detection {
        Detection::Consecutive5xx => stats.ejections_detected_consecutive_5xx.inc(),
        Detection::ConsecutiveGatewayFailure => stats.ejections_detected_consecutive_gateway_failure.inc(),
        Detection::ConsecutiveLocalOriginFailure => stats.ejections_detected_consecutive_local_origin_failure.inc(),
        Detection::SuccessRate => stats.ejections_detected_success_rate.inc(),
        Detection::FailurePercentage => stats.ejections_detected_failure_percentage.inc(),
    }
}

fn count_enforced(detection: Detection, stats: &ClusterStats) {
    stats.ejections_enforced_total.inc();
    match detection {
        Detection::Consecutive5xx => stats.ejections_enforced_consecutive_5xx.inc(),
        Detection::ConsecutiveGatewayFailure => stats.ejections_enforced_consecutive_gateway_failure.inc(),
        Detection::ConsecutiveLocalOriginFailure => stats.ejections_enforced_consecutive_local_origin_failure.inc(),
        Detection::SuccessRate => stats.ejections_enforced_success_rate.inc(),
        Detection::FailurePercentage => stats.ejections_enforced_failure_percentage.inc(),
    }
}

fn jitter(max: Duration, rng: &mut impl Rng) -> Duration {
    let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.below(max.saturating_add(1)))
}
