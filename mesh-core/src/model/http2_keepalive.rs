//! Keepalive of HTTP/2 connections. Envoy `core.v3.KeepaliveSettings`.

use std::time::Duration;

use super::FractionalPercent;
use crate::rng::Rng;

/// PINGs that check whether the peer of an HTTP/2 connection still responds. If no PONG arrives within the timeout, the
/// connection is closed and its requests fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http2Keepalive {
    /// Time between PINGs, with or without active requests; `None` = no periodic PINGs.
    pub interval: Option<Duration>,
    /// Maximum time to wait for a PONG.
    pub timeout: Duration,
    /// Maximum random time that is added to `interval`, as a share of it, so that the PINGs of many connections are spread.
    /// Default 15 %.
    pub interval_jitter: FractionalPercent,
    /// If a connection has had no request for this time, a PING is sent before the next request; `None` = none, the default.
    /// Without effect for servers, as in Envoy.
    pub connection_idle_interval: Option<Duration>,
}

impl Http2Keepalive {
    /// Envoy's default of [`Http2Keepalive::interval_jitter`], in parts per million.
    const DEFAULT_JITTER: u32 = 150_000;

    /// Creates a keepalive that sends a PING every `interval` and waits `timeout` for the PONG.
    #[must_use]
    pub fn new(interval: Duration, timeout: Duration) -> Self {
        Self { interval: Some(interval), ..Self::with_timeout(timeout) }
    }

    /// Creates a keepalive that waits `timeout` for each PONG. No PINGs are sent unless another field is set.
    #[must_use]
    pub fn with_timeout(timeout: Duration) -> Self {
        let interval_jitter = FractionalPercent::from_parts_per_million(Self::DEFAULT_JITTER);
        Self { interval: None, timeout, interval_jitter, connection_idle_interval: None }
    }

    /// The time until the next PING: `interval` with its jitter.
    #[must_use]
    pub fn next_interval(&self, rng: &mut impl Rng) -> Option<Duration> {
        let interval = self.interval?;
        let milliseconds = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let jitter = self.interval_jitter.of(milliseconds);
        Some(interval.saturating_add(Duration::from_millis(rng.below(jitter.saturating_add(1)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    #[test]
    fn the_jitter_is_a_share_of_the_interval() {
        let mut rng = SplitMix64::new(8);
        let second = Duration::from_secs(1);
        let mut keepalive = Http2Keepalive::new(second, second);
        let intervals: Vec<_> = (0..1_000).filter_map(|_| keepalive.next_interval(&mut rng)).collect();
        assert_eq!(intervals.iter().min(), Some(&second));
        assert_eq!(intervals.iter().max(), Some(&Duration::from_millis(1_150)));
        keepalive.interval_jitter = FractionalPercent::ZERO;
        assert_eq!(keepalive.next_interval(&mut rng), Some(second));
        assert_eq!(Http2Keepalive::with_timeout(second).next_interval(&mut rng), None);
    }
}
