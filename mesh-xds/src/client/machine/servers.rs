//! Which of several control planes a client uses. gRFC A71.
//!
//! The first is preferred. If a control plane fails before it has responded, and resources are missing, the next one is tried at once.
//! While another than the first is used, those before it are probed; the first that responds is used again.

use std::time::{Duration, Instant};

use mesh_core::resilience::connection_back_off;
use mesh_core::rng::Rng;

/// Pause before the first probe.
const FIRST_PROBE: Duration = Duration::from_secs(1);

/// The control planes, in order of preference.
#[derive(Debug)]
pub(super) struct Servers {
    number: usize,
    /// The one in use, or the next to try.
    current: usize,
    /// The one of the last stream.
    last: usize,
    has_responded: bool,
    /// When the preferred ones are probed.
    probe_at: Option<Instant>,
    /// Probes without a response since the stream was opened.
    failed_probes: u32,
}

impl Servers {
    pub(super) fn new(number: usize) -> Self {
        Self { number, current: 0, last: 0, has_responded: false, probe_at: None, failed_probes: 0 }
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Handles that a stream is open. Returns whether the last one was to another control plane.
    pub(super) fn handle_up(&mut self, now: Instant) -> bool {
        self.failed_probes = 0;
        self.probe_at = (self.current > 0).then(|| now + FIRST_PROBE);
        std::mem::replace(&mut self.last, self.current) != self.current
    }

    pub(super) fn handle_response(&mut self) {
        self.has_responded = true;
    }

    /// Handles that the stream has ended or could not be opened. Returns whether another control plane is tried at once.
    pub(super) fn handle_down(&mut self, are_resources_missing: bool) -> bool {
        let has_responded = std::mem::take(&mut self.has_responded);
        let goes_on = !has_responded && are_resources_missing && self.current + 1 < self.number;
        self.current = if goes_on { self.current + 1 } else { 0 };
        self.probe_at = None;
        goes_on
    }

    /// Whether the preferred control planes are to be probed now; then [`Servers::handle_probe`] must follow.
    pub(super) fn begin_probe(&mut self, now: Instant) -> bool {
        let is_due = self.probe_at.is_some_and(|at| at <= now);
        if is_due {
            self.probe_at = None;
        }
        is_due
    }

    /// Handles which preferred control plane has responded, if any. Returns whether it is to be used.
    pub(super) fn handle_probe(&mut self, responded: Option<usize>, now: Instant, rng: &mut impl Rng) -> bool {
        if self.current == 0 {
            return false;
        }
        if let Some(server) = responded.filter(|server| *server < self.current) {
            (self.current, self.has_responded, self.probe_at) = (server, false, None);
            return true;
        }
        self.failed_probes = self.failed_probes.saturating_add(1);
        self.probe_at = Some(now + connection_back_off(self.failed_probes, rng));
        false
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.probe_at
    }
}
