//! Random numbers of the data plane.

use mesh_core::rng::Rng;

/// The generator of this thread: no lock, no allocation. Seed it with `fastrand::seed` to repeat a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThreadRng;

impl Rng for ThreadRng {
    // Not inlined, to keep its callers small.
    #[inline(never)]
    fn next_u64(&mut self) -> u64 {
        fastrand::u64(..)
    }
}
