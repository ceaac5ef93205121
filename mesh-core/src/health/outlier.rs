//! Outlier detection: endpoints that fail several times in a row get no traffic for a while (E31 to E36).
//!
//! ```text
//!            record: threshold reached, enforced, below max_ejection_percent
//!   healthy ────────────────────────────────────────────────────────────────► ejected
//!      ▲  multiplier − 1 per sweep                                multiplier + 1 │
//!      └─────────────────────────────────────────────────────────────────────────┘
//!            sweep: min(base_ejection_time × multiplier, max_ejection_time) + jitter is over
//! ```
//!
//! Counting is lock-free and happens on every answer; only a failure that reaches a threshold gets to the cluster's
//! detector, which decides. Sweeps run on a fixed grid of `interval`, and only while an endpoint is ejected or
//! its multiplier has to fall, so a mesh of 10,000 well-behaved clusters arms no timer.
//!
//! `max_ejection_percent` is Envoy's rule: an ejection must leave the share at or below the maximum, so with the default
//! of 10 % no endpoint of a cluster of fewer than ten is ever ejected unless `always_eject_one_host` is set (E34).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;

use crate::{
    cluster::{ClusterStats, EndpointId, EndpointRuntime, EndpointStats, Gauge},
    model::{OutlierDetection, Percent},
    policy::grpc,
    rng::Rng,
};

/// How a try at an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An HTTP answer that is not gRPC.
    Status(StatusCode),
    /// A gRPC answer: the number in `grpc-status`.
    GrpcStatus(u32),
    /// No answer.
    LocalOrigin(LocalOriginFailure),
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalOriginFailure {
    /// The connection could not be made.
    ConnectFailed,
    /// The route timeout or the per-try timeout ended first.
    Timeout,
    /// The connection or stream was reset.
    Reset,
}

impl Outcome {
    /// The HTTP status that stands for it.
    fn status_code(self) -> u16 {
        match self {
            Self::Status(status) => status.as_u16(),
            Self::GrpcStatus(status) => grpc::http_of_status(status),
            Self::LocalOrigin(LocalOriginFailure::Timeout) => 504,
            Self::LocalOrigin(LocalOriginFailure::ConnectFailed | LocalOriginFailure::Reset) => 503,
        }
    }

    pub(crate) fn count(self, stats: &EndpointStats) {
        match self.status_code() {
            500.. => stats.rq_error.inc(),
            _ => stats.rq_success.inc(),
        }
        if self == Self::LocalOrigin(LocalOriginFailure::Timeout) {
            stats.rq_timeout.inc();
        }
    }
}

/// Which failures in a row led to an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// `consecutive_5xx`.
    Consecutive5xx,
    /// `consecutive_gateway_failure`.
    ConsecutiveGatewayFailure,
    /// `consecutive_local_origin_failure`.
    ConsecutiveLocalOriginFailure,
}

impl Detection {
    fn enforcing(self, config: &OutlierDetection) -> Percent {
        match self {
            Self::Consecutive5xx => config.enforcing_consecutive_5xx,
            Self::ConsecutiveGatewayFailure => config.enforcing_consecutive_gateway_failure,
            Self::ConsecutiveLocalOriginFailure => config.enforcing_consecutive_local_origin_failure,
        }
    }

    fn count_detected(self, stats: &ClusterStats) {
        match self {
            Self::Consecutive5xx => stats.ejections_detected_consecutive_5xx.inc(),
            Self::ConsecutiveGatewayFailure => stats.ejections_detected_consecutive_gateway_failure.inc(),
            Self::ConsecutiveLocalOriginFailure => stats.ejections_detected_consecutive_local_origin_failure.inc(),
        }
    }

    fn count_enforced(self, stats: &ClusterStats) {
        stats.ejections_enforced_total.inc();
        match self {
            Self::Consecutive5xx => stats.ejections_enforced_consecutive_5xx.inc(),
            Self::ConsecutiveGatewayFailure => stats.ejections_enforced_consecutive_gateway_failure.inc(),
            Self::ConsecutiveLocalOriginFailure => stats.ejections_enforced_consecutive_local_origin_failure.inc(),
        }
    }
}

/// An endpoint was ejected: for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// Which one.
    pub address: SocketAddr,
    /// Why.
    pub detection: Detection,
    /// For how long, up to the next sweep.
    pub ejection_time: Duration,
    /// No sweep was due before: from now on somebody has to sweep until none is due.
    pub starts_sweeping: bool,
}

/// In which cluster, and when, something is decided.
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

/// What [`Detector::eject`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejection {
    pub(crate) time: Duration,
    pub(crate) starts_sweeping: bool,
}

/// What is counted per endpoint.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    ejected: AtomicBool,
}

impl Monitor {
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Counts an outcome and says which thresholds it reached, in the order in which they are acted upon.
    pub(crate) fn record(&self, outcome: Outcome, config: &OutlierDetection) -> [Option<Detection>; 2] {
        if let (true, Outcome::LocalOrigin(_)) = (config.split_external_local_origin_errors, outcome) {
            let reached = reaches(&self.consecutive_local_origin_failure, config.consecutive_local_origin_failure);
            return [reached.then_some(Detection::ConsecutiveLocalOriginFailure), None];
        }
        reset(&self.consecutive_local_origin_failure);
        let code = outcome.status_code();
        if !(500..=599).contains(&code) {
            reset(&self.consecutive_5xx);
            reset(&self.consecutive_gateway_failure);
            return [None, None];
        }
        let gateway_failure = if (502..=504).contains(&code) {
            reaches(&self.consecutive_gateway_failure, config.consecutive_gateway_failure)
        } else {
            reset(&self.consecutive_gateway_failure);
            false
        };
        let consecutive_5xx = reaches(&self.consecutive_5xx, config.consecutive_5xx);
        [
            gateway_failure.then_some(Detection::ConsecutiveGatewayFailure),
            consecutive_5xx.then_some(Detection::Consecutive5xx),
        ]
    }

    fn counter(&self, detection: Detection) -> &AtomicU32 {
        match detection {
            Detection::Consecutive5xx => &self.consecutive_5xx,
            Detection::ConsecutiveGatewayFailure => &self.consecutive_gateway_failure,
            Detection::ConsecutiveLocalOriginFailure => &self.consecutive_local_origin_failure,
        }
    }

    fn uneject(&self) {
        // Counters start over, so that an endpoint that was close to another threshold is not ejected by one failure.
        reset(&self.consecutive_5xx);
        reset(&self.consecutive_gateway_failure);
        reset(&self.consecutive_local_origin_failure);
        self.ejected.store(false, Ordering::Relaxed);
    }
}

/// Counts one more and says whether that is exactly the threshold: of many threads one sees it.
fn reaches(counter: &AtomicU32, threshold: u32) -> bool {
    counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1) == threshold
}

/// Most answers are successes after successes; a load keeps the counter's cache line shared between workers.
fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

/// Decides about the ejections of one cluster.
#[derive(Debug)]
pub(crate) struct Detector {
    /// Origin of the grid of sweeps.
    epoch: Instant,
    next_sweep: Option<Instant>,
    /// Endpoints that are ejected, or whose multiplier has not fallen to 0 since.
    offenders: HashMap<EndpointId, Offender>,
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
        Self { epoch: now, next_sweep: None, offenders: HashMap::new() }
    }

    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Without outlier detection nothing stays ejected; with another interval the grid of sweeps begins anew.
    pub(crate) fn reconfigure(&mut self, config: Option<&OutlierDetection>, stats: &ClusterStats, now: Instant) {
        self.epoch = now;
        match config {
            Some(config) => self.schedule(config, now),
            None => self.forget_unless(|_| false, &stats.ejections_active),
        }
    }

    /// Ejects an endpoint for `detection` if chance and the share of ejected endpoints allow it, and says for how long.
    pub(crate) fn eject(
        &mut self,
        runtime: &Arc<EndpointRuntime>,
        detection: Detection,
        context: Context<'_>,
        rng: &mut impl Rng,
    ) -> Option<Ejection> {
        let Context { config, stats, now, .. } = context;
        let monitor = &runtime.outlier;
        if monitor.is_ejected() {
            return None;
        }
        detection.count_detected(stats);
        // Another run of failures must be able to get here even if this one does not eject.
        reset(monitor.counter(detection));
        if !context.may_eject_one_more() {
            stats.ejections_overflow.inc();
            return None;
        }
        if rng.below(100) >= u64::from(detection.enforcing(config).get()) {
            return None;
        }
        detection.count_enforced(stats);
        stats.ejections_active.inc();
        monitor.ejected.store(true, Ordering::Relaxed);
        let jitter = jitter(config.max_ejection_time_jitter, rng);
        let runtime = Arc::clone(runtime);
        let offender =
            self.offenders.entry(runtime.id()).or_insert(Offender { runtime, ejected_at: now, multiplier: 0, jitter });
        offender.ejected_at = now;
        offender.jitter = jitter;
        // Beyond the longest ejection the multiplier would only delay its own decay.
        let longest = config.max_ejection_time.max(config.base_ejection_time);
        if config.base_ejection_time.saturating_mul(offender.multiplier) < longest + config.base_ejection_time {
            offender.multiplier = offender.multiplier.saturating_add(1);
        }
        let time = offender.ejection_time(config);
        let starts_sweeping = self.next_sweep.is_none();
        self.schedule(config, now);
        Some(Ejection { time, starts_sweeping })
    }

    /// Ends ejections whose time is over and lets the multipliers of the others fall. Says whether any ended.
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

    /// Forgets endpoints that are no longer members, ejected or not.
    pub(crate) fn forget_unless(&mut self, mut stays: impl FnMut(EndpointId) -> bool, ejections_active: &Gauge) {
        self.offenders.retain(|id, offender| {
            let stays = stays(*id);
            if !stays && offender.runtime.outlier.is_ejected() {
                offender.runtime.outlier.uneject();
                ejections_active.dec();
            }
            stays
        });
        if self.offenders.is_empty() {
            self.next_sweep = None;
        }
    }

    /// The first point of the grid after `now`, if there is anything to sweep.
    fn schedule(&mut self, config: &OutlierDetection, now: Instant) {
        let interval = config.interval.max(Duration::from_millis(1));
        let intervals = now.saturating_duration_since(self.epoch).as_nanos() / interval.as_nanos() + 1;
        let offset = u32::try_from(intervals).map_or(interval, |intervals| interval.saturating_mul(intervals));
        self.next_sweep = (!self.offenders.is_empty()).then(|| self.epoch + offset);
    }
}

fn jitter(max: Duration, rng: &mut impl Rng) -> Duration {
    let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.below(max.saturating_add(1)))
}
