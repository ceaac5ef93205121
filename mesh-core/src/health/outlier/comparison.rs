//! Comparing endpoints at the end of an interval: by success rate and by the share of failures. Envoy "Success Rate" and "Failure
//! Percentage", gRFC A50.
//!
//! The requests of an interval are the differences of counters that every endpoint has anyway, so a request costs nothing more.
//! Failures without a response count as failures, also if `split_external_local_origin_errors` is set.

use std::{collections::HashMap, sync::Arc};

use crate::{
    endpoint::{Detection, EndpointId, EndpointState},
    model::OutlierDetection,
};

/// The counters at the beginning of the interval, if one has begun.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    seen: Option<HashMap<EndpointId, Counts>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    success: u64,
    error: u64,
}

impl Counts {
    fn of(endpoint: &EndpointState) -> Self {
        let stats = endpoint.stats();
        Self { success: stats.rq_success.get(), error: stats.rq_error.get() }
    }

    fn since(self, begin: Self) -> Self {
        Self { success: self.success.saturating_sub(begin.success), error: self.error.saturating_sub(begin.error) }
    }

    fn total(self) -> u64 {
        self.success + self.error
    }

    /// The success rate in percent.
    fn success_rate(self) -> f64 {
        100.0 * self.success as f64 / self.total() as f64
    }
}

impl Comparison {
    /// Begins an interval.
    pub(super) fn begin(&mut self, members: &[Arc<EndpointState>]) {
        self.seen = Some(members.iter().map(|endpoint| (endpoint.id(), Counts::of(endpoint))).collect());
    }

    /// Ends an interval and begins the next. Returns the endpoints that stand out, by their position, and whether there were
    /// requests.
    pub(super) fn end(
        &mut self,
        members: &[Arc<EndpointState>],
        config: &OutlierDetection,
    ) -> (Vec<(usize, Detection)>, bool) {
        let Some(seen) = self.seen.take() else {
            self.begin(members);
            return (Vec::new(), true);
        };
        let before = |endpoint: &Arc<EndpointState>| seen.get(&endpoint.id()).copied().unwrap_or_default();
        let counts: Vec<Counts> = members.iter().map(|endpoint| Counts::of(endpoint).since(before(endpoint))).collect();
        self.begin(members);
        let mut detections = by_success_rate(&counts, config);
        detections.extend(by_failure_percentage(&counts, config));
        (detections, counts.iter().any(|counts| counts.total() > 0))
    }
}

/// Endpoints with at least `request_volume` requests, if there are enough of them.
fn busy(counts: &[Counts], request_volume: u32, minimum_hosts: u32) -> Vec<(usize, f64)> {
    let volume = u64::from(request_volume).max(1);
    let rates = counts.iter().enumerate().filter(|(_, counts)| counts.total() >= volume);
    let rates: Vec<_> = rates.map(|(index, counts)| (index, counts.success_rate())).collect();
    if rates.is_empty() || rates.len() < minimum_hosts as usize { Vec::new() } else { rates }
}

fn by_success_rate(counts: &[Counts], config: &OutlierDetection) -> Vec<(usize, Detection)> {
    let config = &config.success_rate;
    if config.enforcing.get() == 0 {
        return Vec::new();
    }
    let rates = busy(counts, config.request_volume, config.minimum_hosts);
    let number = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / number;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / number;
    let threshold = mean - variance.sqrt() * f64::from(config.stdev_factor) / 1000.0;
    let low = rates.into_iter().filter(|(_, rate)| *rate < threshold);
    low.map(|(index, _)| (index, Detection::SuccessRate)).collect()
}

fn by_failure_percentage(counts: &[Counts], config: &OutlierDetection) -> Vec<(usize, Detection)> {
    let config = &config.failure_percentage;
    if config.enforcing.get() == 0 {
        return Vec::new();
    }
    let rates = busy(counts, config.request_volume, config.minimum_hosts);
    let high = rates.into_iter().filter(|(_, rate)| 100.0 - rate >= f64::from(config.threshold.get()));
    high.map(|(index, _)| (index, Detection::FailurePercentage)).collect()
}
