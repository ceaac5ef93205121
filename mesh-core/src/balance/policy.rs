//! Load-balancing policies.

use std::sync::{Arc, atomic::AtomicUsize};

use super::{
    candidate::Candidate, context::PickContext, least_request::LeastRequest, random::Random, round_robin::RoundRobin,
};
use crate::{model::LbPolicy, rng::Rng};

/// A policy, prepared for one list of endpoints.
#[derive(Debug)]
pub(super) enum Policy {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Random),
}

impl Policy {
    /// Prepares the configured policy for `candidates`. `cursor` is a position in the list, which outlives the picker.
    pub(super) fn new(config: LbPolicy, candidates: &[Candidate], cursor: Arc<AtomicUsize>) -> Self {
        match config {
            LbPolicy::RoundRobin => Self::RoundRobin(RoundRobin::new(candidates, cursor)),
            LbPolicy::LeastRequest { choice_count, active_request_bias_milli } => {
                Self::LeastRequest(LeastRequest::new(candidates, choice_count, active_request_bias_milli))
            }
            LbPolicy::Random => Self::Random(Random),
        }
    }

    /// Picks a candidate and returns its position. `candidates` are the ones that the policy was prepared for, and not
    /// empty.
    pub(super) fn pick(&self, candidates: &[Candidate], context: &mut PickContext<'_, impl Rng>) -> usize {
        match self {
            Self::RoundRobin(policy) => policy.pick(),
            Self::LeastRequest(policy) => policy.pick(candidates, context),
            Self::Random(policy) => policy.pick(candidates, context),
        }
    }
}
