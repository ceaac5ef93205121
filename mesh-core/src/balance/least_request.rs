//! Least request (E51).
//!
//! With equal weights: the least busy of `choice_count` endpoints drawn at random, of equally busy ones the first drawn.
//!
//! With unequal weights Envoy runs earliest deadline first with the weight `weight / (active_requests + 1)^bias` taken at
//! each pick, which needs a queue behind a lock. Here an endpoint is drawn with a chance in proportion to that same
//! weight, so shares are Envoy's and only the strict order of the queue is lost. Up to [`CANDIDATES`] endpoints are all
//! weighed. Of more, as many consecutive slots of the static weighted schedule are, from a random position, each by
//! `1 / (active_requests + 1)^bias`: the same shares while load is even, and a close approximation otherwise, unless most
//! of the weight sits on few overloaded endpoints, which then fill most of the slots looked at.

use std::num::NonZeroU32;

use super::EndpointList;
use crate::rng::Rng;

/// Endpoints weighed against each other in one pick with unequal weights.
const CANDIDATES: usize = 8;

/// The endpoint for the next request.
pub(super) fn pick(list: &EndpointList, choice_count: NonZeroU32, bias_milli: u32, rng: &mut impl Rng) -> usize {
    if list.turns.schedule.is_some() { weighted(list, bias_milli, rng) } else { least_of(list, choice_count, rng) }
}

fn least_of(list: &EndpointList, choice_count: NonZeroU32, rng: &mut impl Rng) -> usize {
    let mut best = rng.index(list.candidates.len());
    let mut least = list.candidates[best].load();
    for _ in 1..choice_count.get() {
        let other = rng.index(list.candidates.len());
        let active = list.candidates[other].load();
        if active < least {
            (best, least) = (other, active);
        }
    }
    best
}

fn weighted(list: &EndpointList, bias_milli: u32, rng: &mut impl Rng) -> usize {
    let appeal_of = |index: usize| appeal(list.candidates[index].runtime.active_requests(), bias_milli);
    let count = list.candidates.len();
    if count <= CANDIDATES {
        let weigh = |index: usize| f64::from(list.candidates[index].endpoint.weight().get()) * appeal_of(index);
        let candidates = std::array::from_fn(|index| if index < count { (index, weigh(index)) } else { (0, 0.0) });
        return draw(&candidates, rng);
    }
    let slots = list.turns.slots();
    let mut slot = rng.index(slots);
    let candidates = std::array::from_fn(|_| {
        let index = list.turns.at(slot);
        slot = if slot + 1 == slots { 0 } else { slot + 1 };
        (index, appeal_of(index))
    });
    draw(&candidates, rng)
}

/// One of the candidates, with a chance in proportion to its weight.
fn draw(candidates: &[(usize, f64); CANDIDATES], rng: &mut impl Rng) -> usize {
    let mut drawn = rng.unit_interval() * candidates.iter().map(|(_, weight)| weight).sum::<f64>();
    for (index, weight) in candidates {
        drawn -= weight;
        if drawn < 0.0 {
            return *index;
        }
    }
    // Only rounding leads here.
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
