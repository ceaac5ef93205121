//! The context of a pick.

use crate::{endpoint::EndpointId, model::Metadata, rng::Rng};

/// The request that an endpoint is picked for.
#[derive(Debug)]
#[non_exhaustive]
pub struct PickContext<'a, R> {
    /// The source of random numbers.
    pub rng: &'a mut R,
    /// Hash of the parts of the request that a route's `hash_policy` selects, for policies that pick the same endpoint for
    /// the same hash. `None` if there is no hash policy.
    pub hash: Option<u64>,
    /// Endpoints that a retry should not go to again.
    pub avoid: Avoid<'a>,
    /// Metadata that the endpoint must have, from a route's `metadata_match`. For clusters with subsets of endpoints.
    pub metadata_match: Option<&'a Metadata>,
    /// Number of endpoints that were picked for this request and rejected. A deterministic policy uses it to pick another
    /// endpoint.
    pub(crate) attempt: u32,
}

impl<'a, R: Rng> PickContext<'a, R> {
    /// Creates a context without a hash, endpoints to avoid and metadata.
    #[must_use]
    pub fn new(rng: &'a mut R) -> Self {
        Self { rng, hash: None, avoid: Avoid::NONE, metadata_match: None, attempt: 0 }
    }

    /// Sets the hash.
    #[must_use]
    pub fn with_hash(mut self, hash: Option<u64>) -> Self {
        self.hash = hash;
        self
    }

    /// Sets the endpoints to avoid.
    #[must_use]
    pub fn avoiding(mut self, avoid: Avoid<'a>) -> Self {
        self.avoid = avoid;
        self
    }

    /// Whether `picked` is accepted. If not, another endpoint must be picked.
    pub(crate) fn accept(&mut self, picked: EndpointId) -> bool {
        if self.attempt >= self.avoid.max_attempts || !self.avoid.endpoints.contains(&picked) {
            return true;
        }
        self.attempt += 1;
        false
    }
}

/// Endpoints that a retry should avoid. Envoy `envoy.retry_host_predicates.previous_hosts`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Avoid<'a> {
    /// Endpoints of earlier tries.
    pub endpoints: &'a [EndpointId],
    /// How often another endpoint is picked instead of one of them; after that the last pick is used. Envoy
    /// `host_selection_retry_max_attempts`.
    pub max_attempts: u32,
}

impl Avoid<'_> {
    /// No endpoint is avoided.
    pub const NONE: Self = Self { endpoints: &[], max_attempts: 0 };
}
