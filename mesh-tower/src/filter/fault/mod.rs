//! Fault injection: holds requests for a while and fails them, as [`mesh_core::filter::fault`] decides. Envoy
//! `envoy.filters.http.fault`.

use std::sync::Arc;

use mesh_core::{
    filter::fault::{Fault, FaultDecision, decide},
    local_reply::LocalReply,
    request::RequestHead,
    rng::Rng as _,
    telemetry::{Counter, Gauge, ResponseFlags},
};

use super::{FilterFactory, FilterReply, FilterRequest, FilterStatus, HttpFilter, most_specific};
use crate::{rng::ThreadRng, timer};

/// Injects faults.
#[derive(Debug)]
pub(crate) struct FaultFilter {
    config: Arc<Fault>,
    stats: FaultStats,
}

/// Envoy `http.<stat_prefix>.fault.`.
#[derive(Debug)]
struct FaultStats {
    delays_injected: Arc<Counter>,
    aborts_injected: Arc<Counter>,
    faults_overflow: Arc<Counter>,
    active_faults: Arc<Gauge>,
}

/// An active fault, counted until it ends or the request is dropped.
struct ActiveFault<'a>(&'a Gauge);

impl Drop for ActiveFault<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl HttpFilter for FaultFilter {
    type Config = Fault;
    type State = ();

    fn new(config: &Arc<Fault>, factory: &FilterFactory<'_>) -> Self {
        let stats = FaultStats {
            delays_injected: factory.stats.counter("fault.delays_injected"),
            aborts_injected: factory.stats.counter("fault.aborts_injected"),
            faults_overflow: factory.stats.counter("fault.faults_overflow"),
            active_faults: factory.stats.gauge("fault.active_faults"),
        };
        Self { config: Arc::clone(config), stats }
    }

    fn on_request<'a>(&'a self, (): &'a mut (), request: FilterRequest<'a>) -> FilterStatus<'a> {
        let config = most_specific(request.resolved(), &self.config);
        if config.delay.is_none() && config.abort.is_none() {
            return FilterStatus::Continue;
        }
        let cluster = request.cluster_name().map(|name| name.as_str());
        let draws = [ThreadRng.next_u64(), ThreadRng.next_u64()];
        let decision = decide(config, &RequestHead::from_parts(request.head()), cluster, draws);
        if decision == FaultDecision::default() {
            return FilterStatus::Continue;
        }
        let max_active = config.max_active_faults.map_or(u64::MAX, |max| u64::from(max.get()));
        if !self.stats.active_faults.try_inc(max_active) {
            self.stats.faults_overflow.inc();
            return FilterStatus::Continue;
        }
        let active = ActiveFault(&self.stats.active_faults);
        let FaultDecision { delay, abort } = decision;
        let fail = move || {
            let abort = abort?;
            self.stats.aborts_injected.inc();
            Some(FilterReply::from(LocalReply::fault(abort)))
        };
        let Some(delay) = delay else {
            return fail().map_or(FilterStatus::Continue, FilterStatus::Reply);
        };
        self.stats.delays_injected.inc();
        request.info().state().response_flags.insert(ResponseFlags::DELAY_INJECTED);
        FilterStatus::Wait(Box::pin(async move {
            let _active = active;
            timer::sleep(delay).await;
            fail()
        }))
    }
}

#[cfg(test)]
mod tests;
