//! Statistics of virtual clusters and of routes with a `stat_prefix`: Envoy's `vhost.<virtual host>.vcluster.<name>.` and
//! `vhost.<virtual host>.route.<stat_prefix>.`.
//!
//! Counters are looked up by name when routes are compiled, so a request only adds to them. They keep their values if the
//! next configuration has the same names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use http::StatusCode;

use crate::{
    retry::Decision,
    telemetry::{
        Counter,
        cluster_stats::{ResponseCodes, StatKind},
    },
};

/// A group of requests with statistics of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestScope {
    /// The virtual host.
    pub virtual_host: Arc<str>,
    /// The group of its requests.
    pub part: RequestPart,
}

/// A group of the requests of a virtual host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestPart {
    /// The requests of a virtual cluster.
    VirtualCluster(Arc<str>),
    /// The requests of the routes with this `stat_prefix`.
    Route(Arc<str>),
}

/// Counters of the requests of one scope, under Envoy's names. Requests that are not routed to a cluster do not count.
#[derive(Debug, Default)]
pub struct RequestStats {
    /// Tries sent on a connection.
    pub upstream_rq_total: Counter,
    /// Requests whose route timeout expired.
    pub upstream_rq_timeout: Counter,
    /// Retries.
    pub upstream_rq_retry: Counter,
    /// Requests that were not retried because no retries were left.
    pub upstream_rq_retry_limit_exceeded: Counter,
    /// Requests that were not retried because of `max_retries` or the retry budget.
    pub upstream_rq_retry_overflow: Counter,
    /// Requests that succeeded after a retry.
    pub upstream_rq_retry_success: Counter,
    responses: ResponseCodes,
}

/// The counters of a request. Default none.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestCounters<'e> {
    pub(super) virtual_cluster: Option<&'e RequestStats>,
    pub(super) route: Option<&'e RequestStats>,
}

/// The counters of all scopes that routes refer to.
#[derive(Debug, Default)]
pub struct RequestStatsRegistry(Mutex<Interned>);

#[derive(Debug, Default)]
struct Interned {
    by_scope: HashMap<RequestScope, Weak<RequestStats>>,
    /// Size at which unreferenced counters are removed. It doubles with the size, so the amortized cost is constant.
    sweep_at: usize,
}

impl RequestStats {
    fn for_each(&self, visit: &mut dyn FnMut(&str, StatKind, u64)) {
        for (name, counter) in [
            ("upstream_rq_total", &self.upstream_rq_total),
            ("upstream_rq_timeout", &self.upstream_rq_timeout),
            ("upstream_rq_retry", &self.upstream_rq_retry),
            ("upstream_rq_retry_limit_exceeded", &self.upstream_rq_retry_limit_exceeded),
            ("upstream_rq_retry_overflow", &self.upstream_rq_retry_overflow),
            ("upstream_rq_retry_success", &self.upstream_rq_retry_success),
        ] {
            visit(name, StatKind::Counter, counter.get());
        }
        self.responses.for_each(visit);
    }

    fn reset(&self) {
        for counter in [
            &self.upstream_rq_total,
            &self.upstream_rq_timeout,
            &self.upstream_rq_retry,
            &self.upstream_rq_retry_limit_exceeded,
            &self.upstream_rq_retry_overflow,
            &self.upstream_rq_retry_success,
        ] {
            counter.reset();
        }
        self.responses.reset();
    }
}

impl RequestCounters<'_> {
    /// A try was sent upstream.
    pub fn handle_try(self) {
        self.each(|stats| stats.upstream_rq_total.inc());
    }

    /// A response with `status` was sent downstream, from an endpoint or as a local reply.
    pub fn handle_response(self, status: StatusCode) {
        self.each(|stats| stats.responses.count(status));
    }

    /// The route timeout expired.
    pub fn handle_timeout(self) {
        self.each(|stats| stats.upstream_rq_timeout.inc());
    }

    /// A retry decision was made after `retries_made` retries.
    pub fn handle_decision(self, decision: Decision, retries_made: u32) {
        self.each(|stats| match decision {
            Decision::Retry { .. } => stats.upstream_rq_retry.inc(),
            Decision::LimitExceeded => stats.upstream_rq_retry_limit_exceeded.inc(),
            Decision::Overflow => stats.upstream_rq_retry_overflow.inc(),
            Decision::Done if retries_made > 0 => stats.upstream_rq_retry_success.inc(),
            Decision::Done => {}
        });
    }

    fn each(self, add: impl Fn(&RequestStats)) {
        // Most requests have none. The check is inlined in many places, the rest is not.
        if self.virtual_cluster.is_some() || self.route.is_some() {
            self.each_present(add);
        }
    }

    #[inline(never)]
    fn each_present(self, add: impl Fn(&RequestStats)) {
        self.virtual_cluster.into_iter().chain(self.route).for_each(add);
    }
}

impl RequestStatsRegistry {
    const MIN_SWEEP_AT: usize = 64;

    /// The counters of `scope`. Returns the same counters as long as a reference to them exists.
    pub(super) fn intern(&self, scope: RequestScope) -> Arc<RequestStats> {
        let mut interned = self.lock();
        if let Some(stats) = interned.by_scope.get(&scope).and_then(Weak::upgrade) {
            return stats;
        }
        if interned.by_scope.len() >= interned.sweep_at {
            interned.by_scope.retain(|_, stats| stats.strong_count() > 0);
            interned.sweep_at = (interned.by_scope.len() * 2).max(Self::MIN_SWEEP_AT);
        }
        let stats = Arc::new(RequestStats::default());
        interned.by_scope.insert(scope, Arc::downgrade(&stats));
        stats
    }

    /// Calls `visit` with the scope, name, kind and value of each statistic.
    pub fn for_each(&self, visit: &mut dyn FnMut(&RequestScope, &str, StatKind, u64)) {
        for (scope, stats) in self.in_use() {
            stats.for_each(&mut |name, kind, value| visit(&scope, name, kind, value));
        }
    }

    /// Sets every counter to 0.
    pub fn reset_counters(&self) {
        self.in_use().iter().for_each(|(_, stats)| stats.reset());
    }

    fn in_use(&self) -> Vec<(RequestScope, Arc<RequestStats>)> {
        let interned = self.lock();
        let in_use = interned.by_scope.iter().filter_map(|(scope, stats)| Some((scope.clone(), stats.upgrade()?)));
        in_use.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Interned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    fn scope(name: &str) -> RequestScope {
        RequestScope { virtual_host: "vh".into(), part: RequestPart::VirtualCluster(name.into()) }
    }

    #[test]
    fn a_request_is_counted_in_each_of_its_scopes() {
        let registry = RequestStatsRegistry::default();
        let route = RequestScope { virtual_host: "vh".into(), part: RequestPart::Route("r".into()) };
        let (of_cluster, of_route) = (registry.intern(scope("vc")), registry.intern(route.clone()));
        let counters = RequestCounters { virtual_cluster: Some(&of_cluster), route: Some(&of_route) };
        counters.handle_try();
        counters.handle_decision(Decision::Done, 0);
        counters.handle_decision(Decision::Retry { after: Duration::ZERO }, 0);
        counters.handle_try();
        counters.handle_decision(Decision::Done, 1);
        counters.handle_response(StatusCode::CREATED);
        counters.handle_decision(Decision::LimitExceeded, 1);
        counters.handle_decision(Decision::Overflow, 0);
        counters.handle_timeout();
        counters.handle_response(StatusCode::GATEWAY_TIMEOUT);
        RequestCounters::default().handle_try();

        let seen = |wanted: &RequestScope| {
            let mut seen = BTreeMap::new();
            registry.for_each(&mut |scope, name, _, value| {
                if scope == wanted && value > 0 {
                    seen.insert(name.to_owned(), value);
                }
            });
            seen
        };
        let expected = [
            ("upstream_rq_201", 1),
            ("upstream_rq_2xx", 1),
            ("upstream_rq_504", 1),
            ("upstream_rq_5xx", 1),
            ("upstream_rq_completed", 2),
            ("upstream_rq_retry", 1),
            ("upstream_rq_retry_limit_exceeded", 1),
            ("upstream_rq_retry_overflow", 1),
            ("upstream_rq_retry_success", 1),
            ("upstream_rq_timeout", 1),
            ("upstream_rq_total", 2),
        ];
        let expected: BTreeMap<String, u64> = expected.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(seen(&scope("vc")), expected);
        assert_eq!(seen(&route), expected);
        registry.reset_counters();
        assert_eq!(seen(&route), BTreeMap::new());
    }

    #[test]
    fn counters_are_kept_as_long_as_they_are_referenced() {
        let registry = RequestStatsRegistry::default();
        let first = registry.intern(scope("a"));
        assert!(Arc::ptr_eq(&first, &registry.intern(scope("a"))));
        first.upstream_rq_total.inc();
        drop(first);
        assert_eq!(registry.intern(scope("a")).upstream_rq_total.get(), 0);
        for number in 0..10 * RequestStatsRegistry::MIN_SWEEP_AT {
            registry.intern(scope(&number.to_string()));
        }
        assert!(registry.lock().by_scope.len() <= 2 * RequestStatsRegistry::MIN_SWEEP_AT);
    }
}
