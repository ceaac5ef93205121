//! [`FaultLayer`].

use std::sync::Arc;

use http::request::Parts;
use mesh_core::{
    filter::{
        Filter as _,
        fault::{self, Fault, FaultDecision},
    },
    request::RequestHead,
    rng::Rng,
};
use tower_layer::Layer;

use super::{
    FaultInjection,
    active::{ActiveFault, ActiveFaults},
};
use crate::{rng::ThreadRng, route::RouteMatched, timer::Timers};

/// Injects faults; see the [module](super).
#[derive(Clone, Debug)]
pub struct FaultLayer {
    fault: Arc<Fault>,
    active: ActiveFaults,
    pub(super) timers: Timers,
}

impl FaultLayer {
    /// Injects `fault`. Services made by one layer share `max_active_faults`.
    #[must_use]
    pub fn new(fault: impl Into<Arc<Fault>>) -> Self {
        Self { fault: fault.into(), active: ActiveFaults::default(), timers: Timers::default() }
    }

    /// Injects what routes say.
    #[must_use]
    pub fn of_route() -> Self {
        Self::new(Fault::default())
    }

    /// What happens to a request; nothing in most cases.
    pub(super) fn decide(&self, parts: &Parts) -> Option<(FaultDecision, ActiveFault)> {
        let matched = RouteMatched::of(&parts.extensions);
        let resolved = matched.and_then(|matched| matched.entry().filter_override(matched.weighted(), Fault::NAME));
        if resolved.is_some_and(|resolved| resolved.disabled) {
            return None;
        }
        let of_route = resolved.and_then(|resolved| resolved.most_specific::<Fault>());
        let fault = of_route.unwrap_or(&self.fault);
        let cluster = matched.and_then(RouteMatched::cluster_name).map(|name| name.as_str());
        let draws = [ThreadRng.next_u64(), ThreadRng.next_u64()];
        let decision = fault::decide(fault, &RequestHead::from_parts(parts), cluster, draws);
        if decision == FaultDecision::default() {
            return None;
        }
        Some((decision, self.active.start(fault.max_active_faults)?))
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = FaultInjection<S>;

    fn layer(&self, inner: S) -> FaultInjection<S> {
        FaultInjection { inner, layer: self.clone() }
    }
}
