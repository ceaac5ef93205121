//! What a pick may depend on, besides the endpoints.

use crate::{endpoint::EndpointId, model::Metadata, rng::Rng};

/// What is known about the request that an endpoint is picked for.
#[derive(Debug)]
#[non_exhaustive]
pub struct PickContext<'a, R> {
    /// The source of randomness.
    pub rng: &'a mut R,
    /// Hash of the parts of the request that a route's `hash_policy` names; `None` = there are none. For policies that
    /// pick the same endpoint for the same hash.
    pub hash: Option<u64>,
    /// Endpoints that a retry should not go to again.
    pub avoid: Avoid<'a>,
    /// Metadata that the endpoint must have, of a route's `metadata_match`. For clusters that are divided into subsets by
    /// the metadata of their endpoints.
    pub metadata_match: Option<&'a Metadata>,
    /// How many endpoints were picked for this request and avoided. A policy that would pick the same endpoint again
    /// picks another for another number.
    pub(crate) attempt: u32,
}

impl<'a, R: Rng> PickContext<'a, R> {
    /// Of a request of which nothing is known.
    #[must_use]
    pub fn new(rng: &'a mut R) -> Self {
        Self { rng, hash: None, avoid: Avoid::NONE, metadata_match: None, attempt: 0 }
    }

    /// The same with this hash.
    #[must_use]
    pub fn with_hash(mut self, hash: Option<u64>) -> Self {
        self.hash = hash;
        self
    }

    /// The same for a retry that should go elsewhere.
    #[must_use]
    pub fn avoiding(mut self, avoid: Avoid<'a>) -> Self {
        self.avoid = avoid;
        self
    }

    /// Whether `picked` may be used. If not, another endpoint is to be picked.
    pub(crate) fn accept(&mut self, picked: EndpointId) -> bool {
        if self.attempt >= self.avoid.max_attempts || !self.avoid.endpoints.contains(&picked) {
            return true;
        }
        self.attempt += 1;
        false
    }
}

/// Endpoints that a retry should not go to again. Envoy `envoy.retry_host_predicates.previous_hosts`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Avoid<'a> {
    /// Endpoints of earlier tries.
    pub endpoints: &'a [EndpointId],
    /// How often another endpoint is picked in place of one of them; after that the last pick is used. Envoy
    /// `host_selection_retry_max_attempts`.
    pub max_attempts: u32,
}

impl Avoid<'_> {
    /// No endpoint is avoided.
    pub const NONE: Self = Self { endpoints: &[], max_attempts: 0 };
}
