//! Access control of connections.

use std::{sync::Arc, time::Duration};

use super::Rbac;

/// Access control of connections. Envoy `filters.network.rbac.v3.RBAC`.
///
/// The decision is made once, when the connection is established. Envoy makes it when the first bytes arrive, or with
/// `CONTINUOUS` again whenever bytes arrive. The facts that it depends on are the same then, so the decision is; and a
/// client that is denied gets no connection to an endpoint before. An update of the listener ends its connections.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkRbac {
    /// The policies. `rules_stat_prefix` and `track_per_rule_stats` are not used.
    pub policies: Arc<Rbac>,
    /// Prefix of the statistics, such as `tcp.`.
    pub stat_prefix: Arc<str>,
    /// How long a denied connection is kept open. Default 0.
    pub delay_deny: Duration,
}

impl NetworkRbac {
    /// Access control by policies, with statistics below a prefix.
    #[must_use]
    pub fn new(policies: impl Into<Arc<Rbac>>, stat_prefix: impl Into<Arc<str>>) -> Self {
        Self { policies: policies.into(), stat_prefix: stat_prefix.into(), delay_deny: Duration::ZERO }
    }
}
