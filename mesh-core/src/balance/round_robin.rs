//! Round robin: endpoints of equal weight in turn, others by earliest deadline first.

use std::sync::{Arc, atomic::AtomicUsize};

use super::{candidate::Candidate, turns::Turns};

#[derive(Debug)]
pub(super) struct RoundRobin {
    turns: Turns,
}

impl RoundRobin {
    pub(super) fn new(candidates: &[Candidate], cursor: Arc<AtomicUsize>) -> Self {
        Self { turns: Turns::new(candidates.iter().map(|candidate| u64::from(candidate.weight())), cursor) }
    }

    pub(super) fn pick(&self) -> usize {
        self.turns.next()
    }
}
