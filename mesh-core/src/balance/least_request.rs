//! Least request.
//!
//! With equal weights, the endpoint with the fewest active requests among `choice_count` random ones is picked.
//!
//! With unequal weights, Envoy runs earliest deadline first with the weight `weight / (active_requests + 1)^bias`, which
//! needs a queue behind a lock. Here, an endpoint is picked at random with a probability proportional to that weight. The
//! shares are Envoy's, but the order is random. With up to [`CANDIDATES`] endpoints, all are weighed. With more, this
//! number of consecutive slots of the weighted schedule is weighed by `1 / (active_requests + 1)^bias`, from a random
//! position. The shares are then exact under even load and close otherwise, unless most of the weight belongs to a few
//! overloaded endpoints, which then have most of the slots.

use std::num::NonZeroU32;

use super::{candidate::Candidate, context::PickContext, schedule::Schedule};
use crate::rng::Rng;

/// Number of endpoints that a pick with unequal weights compares.
const CANDIDATES: usize = 8;

#[derive(Debug)]
pub(super) struct LeastRequest {
    choice_count: NonZeroU32,
    active_request_bias_milli: u32,
    /// `None` = all weights are equal.
    schedule: Option<Schedule>,
}

impl LeastRequest {
    pub(super) fn new(candidates: &[Candidate], choice_count: NonZeroU32, active_request_bias_milli: u32) -> Self {
        let weights = candidates.iter().map(|candidate| u64::from(candidate.weight()));
        Self { choice_count, active_request_bias_milli, schedule: Schedule::new(weights) }
    }

    pub(super) fn pick(&self, candidates: &[Candidate], context: &mut PickContext<'_, impl Rng>) -> usize {
        match &self.schedule {
            None => self.least_of(candidates, context.rng),
            Some(schedule) => self.weighted(candidates, schedule, context.rng),
        }
    }

    fn least_of(&self, candidates: &[Candidate], rng: &mut impl Rng) -> usize {
        let mut best = rng.index(candidates.len());
        let mut least = candidates[best].active_requests();
        for _ in 1..self.choice_count.get() {
            let other = rng.index(candidates.len());
            let active = candidates[other].active_requests();
            if active < least {
                (best, least) = (other, active);
            }
        }
        best
    }

    fn weighted(&self, candidates: &[Candidate], schedule: &Schedule, rng: &mut impl Rng) -> usize {
        let appeal_of = |index: usize| appeal(candidates[index].active_requests(), self.active_request_bias_milli);
        let count = candidates.len();
        if count <= CANDIDATES {
            let weigh = |index: usize| f64::from(candidates[index].weight()) * appeal_of(index);
            let weighed = std::array::from_fn(|index| if index < count { (index, weigh(index)) } else { (0, 0.0) });
            return draw(&weighed, rng);
        }
        let slots = schedule.len();
        let mut slot = rng.index(slots);
        let weighed = std::array::from_fn(|_| {
            let index = schedule.at(slot);
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
            (index, appeal_of(index))
        });
        draw(&weighed, rng)
    }
}

/// A random candidate, with a probability proportional to its weight.
fn draw(candidates: &[(usize, f64); CANDIDATES], rng: &mut impl Rng) -> usize {
    let mut drawn = rng.unit_interval() * candidates.iter().map(|(_, weight)| weight).sum::<f64>();
    for (index, weight) in candidates {
        drawn -= weight;
        if drawn < 0.0 {
            return *index;
        }
    }
    // Reached by rounding errors only.
    candidates[0].0
}

/// `1 / (active + 1)^bias`.
fn appeal(active: u64, bias_milli: u32) -> f64 {
    let load = (active + 1) as f64;
    match bias_milli {
        0 => 1.0,
        1000 => load.recip(),
        _ => load.powf(-f64::from(bias_milli) / 1000.0),
    }
}
