//! Least request (E51).
//!
//! With equal weights: the least busy of `choice_count` endpoints drawn at random, of equally busy ones the first drawn.
//!
//! With unequal weights Envoy runs earliest deadline first with the weight `weight / (active_requests + 1)^bias` taken at
//! each pick, which needs a queue behind a lock. Here a few consecutive slots of the static weighted schedule are drawn
//! from a random position, and one of them wins with a chance in proportion to `1 / (active_requests + 1)^bias`. Shares
//! have the same meaning: idle endpoints are used by weight, load shifts them by the same factor, and a bias of 0 ignores
//! load. What is lost is the strict order of the queue.

use std::num::NonZeroU32;

use super::EndpointList;
use crate::rng::Rng;

/// Slots of the schedule that compete with unequal weights. More follow the load more exactly and cost more.
const WEIGHTED_CANDIDATES: usize = 4;

/// The endpoint for the next request.
pub(super) fn pick(list: &EndpointList, choice_count: NonZeroU32, bias_milli: u32, rng: &mut impl Rng) -> usize {
    if list.turns.schedule.is_some() { weighted(list, bias_milli, rng) } else { least_of(list, choice_count, rng) }
}

fn least_of(list: &EndpointList, choice_count: NonZeroU32, rng: &mut impl Rng) -> usize {
    let mut best = rng.index(list.endpoints.len());
    let mut least = list.endpoints[best].active_requests();
    for _ in 1..choice_count.get() {
        let other = rng.index(list.endpoints.len());
        let active = list.endpoints[other].active_requests();
        if active < least {
            (best, least) = (other, active);
        }
    }
    best
}

fn weighted(list: &EndpointList, bias_milli: u32, rng: &mut impl Rng) -> usize {
    let start = rng.index(list.turns.slots());
    let candidates: [(usize, f64); WEIGHTED_CANDIDATES] = std::array::from_fn(|offset| {
        let index = list.turns.at(start + offset);
        (index, appeal(list.endpoints[index].active_requests(), bias_milli))
    });
    let mut drawn = rng.unit_interval() * candidates.iter().map(|(_, appeal)| appeal).sum::<f64>();
    for (index, appeal) in candidates {
        drawn -= appeal;
        if drawn < 0.0 {
            return index;
        }
    }
    candidates[WEIGHTED_CANDIDATES - 1].0
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
