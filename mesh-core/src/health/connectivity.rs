//! Endpoints that cannot be connected to, for clusters that are used as gRPC's clients do.
//!
//! ```text
//!               a connection cannot be made
//!   reachable ──────────────────────────────► avoided
//!      ▲  ▲                                      │
//!      │  └──── a request has succeeded ─────────┤
//!      └─────── the pause is over ───────────────┘
//! ```
//!
//! An avoided endpoint counts as unhealthy, so that other endpoints and priorities take its load. gRPC calls this
//! `TRANSIENT_FAILURE`, and reconnects in the background after the pause of its connection back-off; here the next request does, and
//! goes elsewhere if it cannot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{
    endpoint::{EndpointId, EndpointRuntime},
    resilience::connection_back_off,
    rng::Rng,
};

/// The endpoints of a cluster to which connections have failed.
#[derive(Debug, Default)]
pub(crate) struct Connectivity {
    failing: HashMap<EndpointId, Failing>,
}

#[derive(Debug)]
struct Failing {
    runtime: Arc<EndpointRuntime>,
    failures: u32,
    /// The length of the last pause.
    pause: Duration,
    /// When the pause is over; then, when the failures are forgotten.
    until: Instant,
}

impl Connectivity {
    /// When [`Connectivity::handle_timeout`] has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.failing.values().map(|failing| failing.until).min()
    }

    /// Handles that a connection could not be made. Returns whether the endpoint was not avoided before.
    pub(crate) fn handle_failure(&mut self, runtime: &Arc<EndpointRuntime>, now: Instant, rng: &mut impl Rng) -> bool {
        if runtime.is_avoided() || runtime.outlier.is_retired() {
            return false;
        }
        let failing = self.failing.entry(runtime.id()).or_insert_with(|| Failing {
            runtime: Arc::clone(runtime),
            failures: 0,
            pause: Duration::ZERO,
            until: now,
        });
        failing.pause = connection_back_off(failing.failures, rng);
        failing.failures = failing.failures.saturating_add(1);
        failing.until = now + failing.pause;
        runtime.set_avoided(true);
        true
    }

    /// Handles that an avoided endpoint was reached.
    pub(crate) fn handle_success(&mut self, runtime: &EndpointRuntime) {
        self.failing.remove(&runtime.id());
        runtime.set_avoided(false);
    }

    /// Ends pauses. Returns whether any endpoint is no longer avoided.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        let mut any_ended = false;
        self.failing.retain(|_, failing| {
            if failing.until > now {
                return true;
            }
            if !failing.runtime.is_avoided() {
                return false;
            }
            failing.runtime.set_avoided(false);
            any_ended = true;
            // The next failure soon afterwards makes a longer pause.
            failing.until = now + failing.pause;
            true
        });
        any_ended
    }

    /// Removes an endpoint that is no longer a member.
    pub(crate) fn retire(&mut self, runtime: &EndpointRuntime) {
        self.failing.remove(&runtime.id());
    }

    /// Forgets all failures. Returns whether any endpoint was avoided.
    pub(crate) fn clear(&mut self) -> bool {
        let all = std::mem::take(&mut self.failing);
        let avoided: Vec<_> = all.into_values().filter(|failing| failing.runtime.is_avoided()).collect();
        avoided.iter().for_each(|failing| failing.runtime.set_avoided(false));
        !avoided.is_empty()
    }
}
