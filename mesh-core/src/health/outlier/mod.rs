//! Outlier detection: endpoints with consecutive failures, or with many more than others, are ejected for a while. Envoy "Outlier
//! detection".
//!
//! ```text
//!            record: threshold reached, enforced, below max_ejection_percent
//!   healthy ────────────────────────────────────────────────────────────────► ejected
//!      ▲  multiplier − 1 per sweep                                multiplier + 1 │
//!      └─────────────────────────────────────────────────────────────────────────┘
//!            sweep: min(base_ejection_time × multiplier, max_ejection_time) + jitter is over
//! ```
//!
//! Every outcome is counted without a lock. A failure that reaches a threshold is passed to the cluster's detector, which
//! decides. Sweeps run at multiples of `interval`, and only while an endpoint is ejected or its multiplier is above 0, so
//! clusters without failures need no timer. If endpoints are compared with each other, they are at every multiple of `interval` in which
//! there were requests.
//!
//! `max_ejection_percent` follows Envoy's rule: the percentage after an ejection must not exceed the maximum. With the
//! default of 10 %, no endpoint of a cluster with fewer than ten is ejected unless `always_eject_one_host` is set.

mod comparison;
mod detector;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use self::detector::{Context, Detector};
pub use crate::endpoint::{Detection, LocalOriginFailure, Outcome};
use crate::model::NetworkAddress;

/// An ejection, for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// Address of the endpoint.
    pub address: NetworkAddress,
    /// The failures that led to the ejection.
    pub detection: Detection,
    /// Ejection time. The ejection ends at the first sweep after it.
    pub ejection_time: Duration,
    /// No sweep was scheduled before. The caller must sweep until none is scheduled any more.
    pub starts_sweeping: bool,
}
