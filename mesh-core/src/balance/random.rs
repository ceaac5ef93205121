//! Random: every endpoint has the same probability; weights are ignored, as in Envoy.

use super::{candidate::Candidate, context::PickContext};
use crate::rng::Rng;

#[derive(Debug)]
pub(super) struct Random;

impl Random {
    #[expect(clippy::unused_self, reason = "all policies have the same methods")]
    pub(super) fn pick(&self, candidates: &[Candidate], context: &mut PickContext<'_, impl Rng>) -> usize {
        context.rng.index(candidates.len())
    }
}
