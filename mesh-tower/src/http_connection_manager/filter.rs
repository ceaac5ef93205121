//! The HTTP filters of a listener, in configured order.

use std::sync::Arc;

use http::request::Parts;
use mesh_core::{
    cluster::ClusterState,
    filter::{
        FilterConfig, HttpFilter,
        fault::{self, Fault, FaultDecision},
    },
    local_reply::LocalReply,
    request::RequestHead,
    route::{ChosenCluster, RouteEntry},
    store::ClusterSlot,
    telemetry::{Gauge, ResponseFlags},
};

use super::listener::ListenerContext;
use crate::StreamInfo;

/// Runs the filters; the answer of the first that has one.
pub(super) async fn run(
    listener: &ListenerContext,
    parts: &Parts,
    route: &RouteEntry<Arc<ClusterSlot>>,
    info: &StreamInfo,
) -> Option<LocalReply> {
    for filter in &listener.config.http_filters {
        let random = info.state().random;
        let Some(injection) = decide_fault(filter, parts, route, random) else { continue };
        // Where the request would have gone counts, if it does not come that far.
        info.state().upstream_cluster = injection.cluster;
        let reply = inject(listener, injection.decision, injection.max_active, info).await;
        if reply.is_some() {
            return reply;
        }
    }
    None
}

/// What is to happen to a request.
struct Injection {
    decision: FaultDecision,
    /// How many faults may be active at once.
    max_active: u64,
    cluster: Option<Arc<ClusterState>>,
}

/// `None` if nothing is to happen to the request.
fn decide_fault(
    filter: &HttpFilter,
    parts: &Parts,
    route: &RouteEntry<Arc<ClusterSlot>>,
    random: u64,
) -> Option<Injection> {
    let is_idle = |fault: &Arc<Fault>| fault.delay.is_none() && fault.abort.is_none();
    let is_split = route.weighted_cluster(Some(0)).is_some();
    if !is_split && effective_fault(filter, route, None).is_none_or(is_idle) {
        return None;
    }
    let head = RequestHead::from_parts(parts);
    let choice = route.select_cluster(&head, random);
    let weighted = choice.as_ref().and_then(|choice| choice.weighted);
    let config = effective_fault(filter, route, weighted)?;
    if is_idle(config) {
        return None;
    }
    let (slot, name) = match choice.map(|choice| choice.cluster) {
        Some(ChosenCluster::Resolved(slot)) => (Some(slot), Some(slot.name().as_str())),
        Some(ChosenCluster::Named(name)) => (None, Some(name)),
        Some(ChosenCluster::Unnamed) | None => (None, None),
    };
    let decision = fault::decide(config, &head, name, [fastrand::u64(..), fastrand::u64(..)]);
    let max_active = config.max_active_faults.map_or(u64::MAX, |max| u64::from(max.get()));
    if decision == FaultDecision::default() {
        return None;
    }
    Some(Injection { decision, max_active, cluster: slot.and_then(|slot| slot.load()) })
}

/// The most specific configuration; `None` if the filter does not run.
fn effective_fault<'c>(
    filter: &'c HttpFilter,
    route: &'c RouteEntry<Arc<ClusterSlot>>,
    weighted: Option<usize>,
) -> Option<&'c Arc<Fault>> {
    let resolved = route.filter_override(weighted, &filter.name);
    let FilterConfig::Fault(of_filter) = &filter.config;
    filter.runs(resolved).then(|| resolved.and_then(|resolved| resolved.most_specific::<Fault>()).unwrap_or(of_filter))
}

async fn inject(
    listener: &ListenerContext,
    decision: FaultDecision,
    max_active: u64,
    info: &StreamInfo,
) -> Option<LocalReply> {
    let stats = &listener.stats;
    if stats.fault_active_faults.get() >= max_active {
        stats.fault_faults_overflow.inc();
        return None;
    }
    let _active = ActiveFault::new(&stats.fault_active_faults);
    if let Some(delay) = decision.delay {
        stats.fault_delays_injected.inc();
        info.state().response_flags.insert(ResponseFlags::DELAY_INJECTED);
        tokio::time::sleep(delay).await;
    }
    let abort = decision.abort?;
    stats.fault_aborts_injected.inc();
    Some(LocalReply::fault(abort))
}

/// A fault under way, counted until it ends or the client goes.
struct ActiveFault<'a>(&'a Gauge);

impl<'a> ActiveFault<'a> {
    fn new(active: &'a Gauge) -> Self {
        active.inc();
        Self(active)
    }
}

impl Drop for ActiveFault<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
