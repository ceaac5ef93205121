//! What the outcomes of tries do to endpoints: outlier detection, and endpoints that are avoided because they cannot be connected to.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{ClusterState, compares};
use crate::{
    cluster::EndpointState,
    health::outlier::{Context, Detection, Ejected, LocalOriginFailure, Outcome},
    rng::Rng,
};

impl ClusterState {
    /// Records the outcome of a try in the endpoint's statistics and for outlier detection.
    ///
    /// If the result has [`Ejected::starts_sweeping`], the caller must arrange that [`ClusterState::handle_timeout`] is
    /// called at the time of [`ClusterState::poll_timeout`], repeatedly until that is `None`. Any `ClusterState` of the
    /// cluster can be used, including one that has been replaced.
    pub fn record(
        &self,
        endpoint: &EndpointState,
        outcome: Outcome,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<Ejected> {
        outcome.count(endpoint.stats());
        if self.config.proxyless {
            self.note_connectivity(endpoint, outcome, now, rng);
        }
        let config = self.config.outlier_detection.as_ref()?;
        match endpoint.runtime().outlier.record(outcome, config) {
            [None, None] => None,
            detections => self.eject(endpoint, detections.into_iter().flatten(), now, rng),
        }
    }

    /// Avoids an endpoint to which no connection can be made, and no longer avoids one that was reached.
    fn note_connectivity(&self, endpoint: &EndpointState, outcome: Outcome, now: Instant, rng: &mut impl Rng) {
        let is_failure = outcome == Outcome::LocalOrigin(LocalOriginFailure::ConnectFailed);
        let is_success = !matches!(outcome, Outcome::LocalOrigin(_));
        let runtime = endpoint.runtime();
        if is_success && !runtime.is_avoided() || !is_success && !is_failure {
            return;
        }
        let mut control = self.control();
        if is_success {
            control.connectivity.handle_success(runtime);
        } else {
            let is_sweeping = control.next_sweep().is_some();
            if !control.connectivity.handle_failure(runtime, now, rng) {
                return;
            }
            if !is_sweeping {
                self.runtime.is_sweeping_suspended.store(true, Ordering::Relaxed);
            }
        }
        let members = Arc::clone(self.runtime.endpoints.load().members());
        self.publish(&mut control, members, rng);
    }

    /// Ejects an endpoint for any of `detections`, if the detector allows it.
    #[cold]
    fn eject(
        &self,
        endpoint: &EndpointState,
        detections: impl Iterator<Item = Detection>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<Ejected> {
        let runtime = endpoint.runtime();
        let mut ejected = None;
        for detection in detections {
            let mut control = self.control();
            let Some(config) = control.config.outlier_detection else { continue };
            let members = Arc::clone(self.runtime.endpoints.load().members());
            let hosts = members.endpoints().len();
            let context = Context { config: &config, hosts, stats: &self.runtime.stats, now };
            let is_sweeping = control.next_sweep().is_some();
            if let Some(ejection) = control.detector.eject(runtime, detection, context, rng) {
                let starts_sweeping = ejection.starts_sweeping && !is_sweeping;
                self.publish(&mut control, members, rng);
                ejected = Some(Ejected {
                    address: endpoint.address().clone(),
                    detection,
                    ejection_time: ejection.time,
                    starts_sweeping,
                });
                if starts_sweeping {
                    self.runtime.is_sweeping_suspended.store(false, Ordering::Relaxed);
                }
            }
        }
        ejected
    }

    /// The time at which [`ClusterState::handle_timeout`] must be called; `None` = not before the next ejection. For clusters with
    /// [`Cluster::proxyless`](crate::model::Cluster::proxyless), a request may make it earlier.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.control().next_sweep()
    }

    /// Begins an interval at whose end endpoints are compared, if they are. Must be called when sweeping starts.
    pub fn begin_sweeping(&self, now: Instant) {
        let mut control = self.control();
        let Some(config) = control.config.outlier_detection else { return };
        let members = Arc::clone(self.runtime.endpoints.load().members());
        control.detector.begin_interval(&config, members.endpoints(), now);
    }

    /// Unejects endpoints whose ejection time is over, and compares endpoints, if a sweep is due.
    pub fn handle_timeout(&self, now: Instant, rng: &mut impl Rng) {
        let mut control = self.control();
        let members = Arc::clone(self.runtime.endpoints.load().members());
        let mut has_changed = control.connectivity.handle_timeout(now);
        if let Some(config) = control.config.outlier_detection
            && control.detector.next_sweep().is_some_and(|due| due <= now)
        {
            has_changed |= control.detector.sweep(&config, &self.runtime.stats, now);
            if config.compares() {
                let hosts = members.endpoints().len();
                let context = Context { config: &config, hosts, stats: &self.runtime.stats, now };
                has_changed |= control.detector.compare(members.endpoints(), context, rng);
            }
        }
        if has_changed {
            self.publish(&mut control, members, rng);
        }
    }

    /// Records that [`ClusterState::handle_timeout`] is no longer called. If a sweep is scheduled, the next call of
    /// [`ClusterState::resume_sweeping`] returns true.
    pub fn suspend_sweeping(&self) {
        if self.poll_timeout().is_some() || compares(&self.control().config) {
            self.runtime.is_sweeping_suspended.store(true, Ordering::Relaxed);
        }
    }

    /// Whether sweeping was suspended. If so, the caller must start sweeping as after [`Ejected::starts_sweeping`].
    #[must_use]
    pub fn resume_sweeping(&self) -> bool {
        let suspended = &self.runtime.is_sweeping_suspended;
        suspended.load(Ordering::Relaxed) && suspended.swap(false, Ordering::Relaxed)
    }
}
