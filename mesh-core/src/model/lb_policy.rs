//! How an endpoint of a cluster is selected. Envoy `Cluster.LbPolicy` and `load_balancing_policies`.

use std::num::NonZeroU32;

/// How an endpoint is selected. Envoy `Cluster.LbPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LbPolicy {
    /// Endpoints in turn; unequal weights by earliest deadline first.
    #[default]
    RoundRobin,
    /// The endpoint with the fewest active requests among `choice_count` random ones. With unequal weights, endpoints are
    /// selected in proportion to `weight / (active_requests + 1)^active_request_bias`.
    LeastRequest {
        /// Number of endpoints compared, at least 2, default 2.
        choice_count: NonZeroU32,
        /// Envoy `active_request_bias` in thousandths, default 1000 (1.0); used with unequal weights only.
        active_request_bias_milli: u32,
    },
    /// An endpoint at random.
    Random,
}

impl LbPolicy {
    /// Least request with Envoy's defaults: two choices, bias 1.0.
    #[must_use]
    pub const fn least_request() -> Self {
        Self::LeastRequest { choice_count: NonZeroU32::MIN.saturating_add(1), active_request_bias_milli: 1000 }
    }
}
