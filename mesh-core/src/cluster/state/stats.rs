//! The statistics that are properties of the endpoints and circuit breakers.

use super::ClusterState;
use crate::{cluster::StatKind, model::RoutingPriority, resilience::breaker::Resource};

impl ClusterState {
    /// Calls `visit` with the name without `cluster.<name>.`, the kind and the value of each statistic.
    pub fn for_each_stat(&self, visit: &mut dyn FnMut(&str, StatKind, u64)) {
        self.runtime.stats.for_each(visit);
        let mut gauge = |name: &str, value: u64| visit(name, StatKind::Gauge, value);
        let endpoints = self.runtime.endpoints.load();
        gauge("membership_total", endpoints.endpoints().len() as u64);
        gauge("membership_healthy", endpoints.healthy() as u64);
        gauge("membership_degraded", endpoints.degraded() as u64);
        gauge("membership_excluded", endpoints.excluded() as u64);
        let active = |resource| {
            [RoutingPriority::Default, RoutingPriority::High]
                .map(|priority| u64::from(self.runtime.breaker.in_use(priority, resource)))
                .iter()
                .sum()
        };
        gauge("upstream_cx_active", active(Resource::Connections));
        gauge("upstream_rq_active", active(Resource::Requests));
        gauge("upstream_rq_pending_active", active(Resource::PendingRequests));
        self.for_each_breaker_stat(&mut gauge);
    }

    fn for_each_breaker_stat(&self, gauge: &mut dyn FnMut(&str, u64)) {
        for (label, priority) in [("default", RoutingPriority::Default), ("high", RoutingPriority::High)] {
            let thresholds = self.thresholds(priority);
            for (open, remaining, resource) in [
                ("cx_open", "remaining_cx", Resource::Connections),
                ("rq_pending_open", "remaining_pending", Resource::PendingRequests),
                ("rq_open", "remaining_rq", Resource::Requests),
                ("rq_retry_open", "remaining_retries", Resource::Retries),
            ] {
                let used = self.runtime.breaker.in_use(priority, resource);
                let limit = self.runtime.breaker.limit(priority, resource, thresholds);
                // Envoy updates the gauge when a permit is acquired or released, which never happens with a limit of 0.
                gauge(&format!("circuit_breakers.{label}.{open}"), u64::from(used > 0 && used >= limit));
                if thresholds.track_remaining {
                    let left = limit.saturating_sub(used);
                    gauge(&format!("circuit_breakers.{label}.{remaining}"), u64::from(left));
                }
            }
        }
    }
}
