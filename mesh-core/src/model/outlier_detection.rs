//! Passive health checking. Envoy `cluster.v3.OutlierDetection`.

use std::time::Duration;

use super::Percent;

/// Passive health checking by the outcome of requests. Envoy `cluster.v3.OutlierDetection`. A count of 0 disables its
/// detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlierDetection {
    /// Consecutive 5xx responses before an endpoint is ejected; connect failures count. Default 5.
    pub consecutive_5xx: u32,
    /// Probability that an endpoint detected by `consecutive_5xx` is ejected. Default 100.
    pub enforcing_consecutive_5xx: Percent,
    /// Consecutive responses with 502, 503 or 504 before an endpoint is ejected. Default 5.
    pub consecutive_gateway_failure: u32,
    /// Probability that an endpoint detected by `consecutive_gateway_failure` is ejected. Default 0.
    pub enforcing_consecutive_gateway_failure: Percent,
    /// Count locally originated failures (connect, timeout, reset) separately from responses. Default false.
    pub split_external_local_origin_errors: bool,
    /// Consecutive locally originated failures before an endpoint is ejected, if they are counted separately. Default 5.
    pub consecutive_local_origin_failure: u32,
    /// Probability that an endpoint detected by `consecutive_local_origin_failure` is ejected. Default 100.
    pub enforcing_consecutive_local_origin_failure: Percent,
    /// Time between the sweeps that uneject endpoints. Default 10 s.
    pub interval: Duration,
    /// An endpoint stays ejected for this time multiplied by the number of its ejections. Default 30 s.
    pub base_ejection_time: Duration,
    /// Upper bound of the ejection time; `base_ejection_time` if that is longer. Default 300 s.
    pub max_ejection_time: Duration,
    /// Upper bound of the random time added to each ejection. Default 0.
    pub max_ejection_time_jitter: Duration,
    /// Percentage of endpoints that may be ejected at the same time. Default 10, so of fewer than 10 endpoints none is.
    pub max_ejection_percent: Percent,
    /// Allow one ejection regardless of `max_ejection_percent`. Default false.
    pub always_eject_one_host: bool,
    /// Ejection of endpoints that succeed less often than the others, at the end of each interval.
    pub success_rate: SuccessRate,
    /// Ejection of endpoints that fail too often, at the end of each interval.
    pub failure_percentage: FailurePercentage,
}

/// Ejection of endpoints whose success rate is far below the average. Envoy `OutlierDetection.success_rate_*`, gRFC A50.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuccessRate {
    /// Probability that a detected endpoint is ejected; 0 disables the detector. Default 0, in Envoy's messages 100.
    pub enforcing: Percent,
    /// Endpoints with enough requests that are needed to compare. Default 5.
    pub minimum_hosts: u32,
    /// Requests in an interval from which on an endpoint counts. Default 100.
    pub request_volume: u32,
    /// How many standard deviations below the average are too low, in thousandths. Default 1900.
    pub stdev_factor: u32,
}

/// Ejection of endpoints by the share of failures. Envoy `OutlierDetection.failure_percentage_*`, gRFC A50.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailurePercentage {
    /// Probability that a detected endpoint is ejected; 0 disables the detector. Default 0.
    pub enforcing: Percent,
    /// The percentage of failures that is too high. Default 85.
    pub threshold: Percent,
    /// Endpoints with enough requests that are needed. Default 5.
    pub minimum_hosts: u32,
    /// Requests in an interval from which on an endpoint counts. Default 50.
    pub request_volume: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { enforcing: Percent::ZERO, minimum_hosts: 5, request_volume: 100, stdev_factor: 1900 }
    }
}

impl Default for FailurePercentage {
    fn default() -> Self {
        let threshold = Percent::new(85).unwrap_or(Percent::HUNDRED);
        Self { enforcing: Percent::ZERO, threshold, minimum_hosts: 5, request_volume: 50 }
    }
}

impl OutlierDetection {
    /// Whether endpoints are compared at the end of each interval.
    #[must_use]
    pub fn compares(&self) -> bool {
        self.success_rate.enforcing > Percent::ZERO || self.failure_percentage.enforcing > Percent::ZERO
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            enforcing_consecutive_5xx: Percent::HUNDRED,
            consecutive_gateway_failure: 5,
            enforcing_consecutive_gateway_failure: Percent::ZERO,
            split_external_local_origin_errors: false,
            consecutive_local_origin_failure: 5,
            enforcing_consecutive_local_origin_failure: Percent::HUNDRED,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: Percent::new(10).unwrap_or(Percent::ZERO),
            always_eject_one_host: false,
            success_rate: SuccessRate::default(),
            failure_percentage: FailurePercentage::default(),
        }
    }
}
