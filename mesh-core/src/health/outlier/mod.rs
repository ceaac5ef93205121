//! Outlier detection: endpoints that fail several times in a row get no traffic for a while.
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
//! of 10 % no endpoint of a cluster of fewer than ten is ever ejected unless `always_eject_one_host` is set.

mod detector;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, time::Duration};

pub(crate) use self::detector::{Context, Detector};
pub use crate::endpoint::{Detection, LocalOriginFailure, Outcome};

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
