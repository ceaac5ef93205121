//! [`ClusterState`]: its configuration, endpoints and picks.

mod outcomes;
mod permits;
mod stats;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;

use super::original_dst::CleanUp;
use super::{Attachment, ClusterStats, EndpointId, EndpointSet, EndpointState, aggregate::Aggregated};
use crate::{
    balance::{Availability, Cursors, NoHealthyEndpoint, PickContext},
    endpoint::Members,
    health::{connectivity::Connectivity, outlier::Detector},
    model::{Cluster, ClusterName, Discovery, DropOverload, FractionalPercent, LoadAssignment},
    resilience::breaker::CircuitBreaker,
    rng::Rng,
    slot::{SecretSlot, Slot},
};

/// A cluster at runtime.
#[derive(Debug)]
pub struct ClusterState {
    config: Arc<Cluster>,
    runtime: Arc<Runtime>,
    secrets: Box<[Arc<SecretSlot>]>,
    aggregated: Aggregated,
    attachment: Attachment,
}

/// Why a request is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// A share of the requests is dropped.
    Share,
    /// All requests are dropped.
    All,
}

/// State that outlives configuration updates.
#[derive(Debug)]
struct Runtime {
    stats: Arc<ClusterStats>,
    breaker: Arc<CircuitBreaker>,
    endpoints: ArcSwap<EndpointSet>,
    is_initialized: AtomicBool,
    is_sweeping_suspended: AtomicBool,
    /// Whether there are `drop_overloads`.
    is_dropping: AtomicBool,
    control: Mutex<Control>,
}

/// State that updates, ejections and sweeps change.
#[derive(Debug)]
struct Control {
    /// The newest configuration, by which endpoint sets are built.
    config: Arc<Cluster>,
    cursors: Cursors,
    detector: Detector,
    connectivity: Connectivity,
    clean_up: CleanUp,
}

impl Control {
    /// When the next sweep is due.
    fn next_sweep(&self) -> Option<Instant> {
        self.detector.next_sweep().into_iter().chain(self.connectivity.next()).min()
    }
}

impl ClusterState {
    /// Creates a cluster. The endpoints of a [`Discovery::Static`] cluster are taken from its configuration, others are set
    /// by [`ClusterState::set_endpoints`].
    #[must_use]
    pub fn new(config: Arc<Cluster>, now: Instant, rng: &mut impl Rng) -> Self {
        let mut control = Control {
            config: Arc::clone(&config),
            cursors: Cursors::default(),
            detector: Detector::new(now),
            connectivity: Connectivity::default(),
            clean_up: CleanUp::new(),
        };
        let members = match &config.discovery {
            Discovery::Static(assignment) => Members::empty().reconciled(assignment),
            _ => Members::empty(),
        };
        let stats = Arc::<ClusterStats>::default();
        if !members.endpoints().is_empty() {
            stats.membership_change.inc();
        }
        let is_dropping = !members.drop_overloads().is_empty();
        let endpoints = EndpointSet::new(Arc::new(members), &config, &mut control.cursors, rng);
        let runtime = Runtime {
            stats,
            breaker: Arc::default(),
            endpoints: ArcSwap::from_pointee(endpoints),
            is_initialized: AtomicBool::new(matches!(
                config.discovery,
                Discovery::Static(_) | Discovery::OriginalDst(_) | Discovery::Aggregate(_)
            )),
            is_sweeping_suspended: AtomicBool::new(compares(&config)),
            is_dropping: AtomicBool::new(is_dropping),
            control: Mutex::new(control),
        };
        Self::of_runtime(config, Arc::new(runtime))
    }

    fn of_runtime(config: Arc<Cluster>, runtime: Arc<Runtime>) -> Self {
        let (secrets, aggregated) = (Box::default(), Aggregated::default());
        Self { config, runtime, secrets, aggregated, attachment: Attachment::new() }
    }

    /// The same cluster with another configuration. Endpoint states, circuit-breaker counts, ejections and statistics are
    /// kept. Attachments of endpoints are kept if the options of connections are the same.
    #[must_use]
    pub fn reconfigured(&self, config: Arc<Cluster>, now: Instant, rng: &mut impl Rng) -> Self {
        let mut control = self.control();
        let mut members = Arc::clone(self.runtime.endpoints.load().members());
        if !connects_alike(&control.config, &config) {
            members = Arc::new(members.detached());
        }
        if let Discovery::Static(assignment) = &config.discovery {
            members = Arc::new(members.reconciled(assignment));
        }
        control.config = Arc::clone(&config);
        control.detector.reconfigure(config.outlier_detection.as_ref(), &self.runtime.stats, now);
        if compares(&config) && control.detector.next_sweep().is_none() {
            self.runtime.is_sweeping_suspended.store(true, Ordering::Relaxed);
        }
        if !config.proxyless {
            control.connectivity.clear();
        }
        self.publish(&mut control, members, rng);
        drop(control);
        Self::of_runtime(config, Arc::clone(&self.runtime))
    }

    /// Sets the secrets of its transport sockets.
    #[must_use]
    pub fn with_secrets(self, secrets: Box<[Arc<SecretSlot>]>) -> Self {
        Self { secrets, ..self }
    }

    /// Sets the clusters that take its requests.
    #[must_use]
    pub fn with_aggregated(self, clusters: Box<[Arc<Slot<ClusterName, Self>>]>) -> Self {
        Self { aggregated: Aggregated(clusters), ..self }
    }

    /// Whether other clusters take its requests: [`Discovery::Aggregate`].
    #[must_use]
    pub fn is_aggregate(&self) -> bool {
        !self.aggregated.0.is_empty()
    }

    /// Picks the cluster that takes a request; `None` if this is not an aggregate, or none of its clusters exists.
    pub fn choose(&self, rng: &mut impl Rng) -> Option<Arc<Self>> {
        self.aggregated.choose(rng)
    }

    /// The percentage of load that its endpoints can take.
    pub(super) fn availability(&self, depth: usize) -> Availability {
        if self.is_aggregate() {
            return self.aggregated.availability(depth);
        }
        self.runtime.endpoints.load().availability()
    }

    /// Whether any endpoint is known, healthy or not.
    pub(super) fn has_endpoints(&self) -> bool {
        !self.runtime.endpoints.load().endpoints().is_empty()
    }

    /// The clusters that take its requests.
    pub(super) fn aggregated(&self) -> &Aggregated {
        &self.aggregated
    }

    /// The secrets that its transport sockets refer to.
    #[must_use]
    pub fn secrets(&self) -> &[Arc<SecretSlot>] {
        &self.secrets
    }

    /// What a data plane stores with this configuration of the cluster, such as its TLS sessions.
    #[must_use]
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<Cluster> {
        &self.config
    }

    /// The statistics. They may outlive the cluster.
    #[must_use]
    pub fn stats(&self) -> &Arc<ClusterStats> {
        &self.runtime.stats
    }

    /// The current endpoints.
    #[must_use]
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.runtime.endpoints.load_full()
    }

    /// Whether the endpoints are known: those of a cluster with [`Discovery::Static`] or [`Discovery::OriginalDst`] always are,
    /// those of others once they have been set for the first time.
    #[must_use]
    pub fn is_initialized(&self) -> bool {
        self.runtime.is_initialized.load(Ordering::Acquire)
    }

    /// Replaces the endpoints. The states of endpoints with the same address are kept.
    pub fn set_endpoints(&self, assignment: &LoadAssignment, rng: &mut impl Rng) {
        let mut control = self.control();
        let current = Arc::clone(self.runtime.endpoints.load().members());
        let members = current.reconciled(assignment);
        self.runtime.stats.update_success.inc();
        if members.endpoints().is_empty() {
            self.runtime.stats.update_empty.inc();
        }
        if members.is_same(&current) {
            self.runtime.stats.update_no_rebuild.inc();
        } else {
            self.publish(&mut control, Arc::new(members), rng);
        }
        self.runtime.is_initialized.store(true, Ordering::Release);
    }

    /// Whether a request is dropped by `drop_overloads` before an endpoint is picked. It is counted under its category.
    pub fn drop_request(&self, rng: &mut impl Rng) -> Option<Dropped> {
        if !self.runtime.is_dropping.load(Ordering::Relaxed) {
            return None;
        }
        let endpoints = self.runtime.endpoints.load();
        let mut drops = endpoints.members().drop_overloads().iter();
        let DropOverload { category, drop_percentage } =
            drops.find(|drop| drop.drop_percentage.hits(rng.next_u64()))?;
        self.runtime.stats.count_dropped_request(category);
        Some(if *drop_percentage == FractionalPercent::ALWAYS { Dropped::All } else { Dropped::Share })
    }

    /// Picks the endpoint of a try.
    ///
    /// # Errors
    /// If no endpoint is available.
    pub fn pick<R: Rng>(&self, mut context: PickContext<'_, R>) -> Result<Arc<EndpointState>, NoHealthyEndpoint> {
        let endpoints = self.runtime.endpoints.load();
        loop {
            let picked = endpoints.picker().pick(&mut context);
            if picked.in_panic {
                self.runtime.stats.lb_healthy_panic.inc();
            }
            let Some(endpoint) = picked.endpoint else {
                self.runtime.stats.upstream_cx_none_healthy.inc();
                return Err(NoHealthyEndpoint);
            };
            if context.accept(endpoint.id()) {
                return Ok(Arc::clone(endpoint));
            }
        }
    }

    /// The endpoint at `destination` of a cluster with [`Discovery::OriginalDst`].
    ///
    /// # Errors
    /// If there is no destination, because the connection was not redirected, or if there are too many endpoints in use.
    pub fn pick_original(
        &self,
        destination: Option<SocketAddr>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Result<Arc<EndpointState>, NoHealthyEndpoint> {
        let found = destination.and_then(|destination| {
            let known = self.runtime.endpoints.load().destinations().find(destination).cloned();
            known.or_else(|| self.add_original(destination, now, rng))
        });
        found.ok_or_else(|| {
            self.runtime.stats.upstream_cx_none_healthy.inc();
            NoHealthyEndpoint
        })
    }

    fn add_original(&self, destination: SocketAddr, now: Instant, rng: &mut impl Rng) -> Option<Arc<EndpointState>> {
        let mut control = self.control();
        let current = self.runtime.endpoints.load_full();
        // Another thread may have added it.
        if let Some(endpoint) = current.destinations().find(destination) {
            return Some(Arc::clone(endpoint));
        }
        let Control { clean_up, config, .. } = &mut *control;
        let is_due = clean_up.is_due(config, now);
        let assignment = current.destinations().with(destination, is_due)?;
        let members = Arc::new(current.members().reconciled(&assignment));
        self.publish(&mut control, members, rng);
        let endpoints = self.runtime.endpoints.load();
        if is_due {
            endpoints.destinations().begin_period();
        }
        endpoints.destinations().find(destination).cloned()
    }

    /// Whether an endpoint other than `tried` can be picked.
    #[must_use]
    pub fn has_endpoint_besides(&self, tried: &[EndpointId]) -> bool {
        self.runtime.endpoints.load().picker().has_endpoint_besides(tried)
    }

    /// Publishes an endpoint set of `members`.
    fn publish(&self, control: &mut Control, members: Arc<Members>, rng: &mut impl Rng) {
        let current = self.runtime.endpoints.load();
        if !Arc::ptr_eq(current.members(), &members) {
            self.runtime.stats.membership_change.inc();
            let staying: HashSet<EndpointId> = members.endpoints().iter().map(|endpoint| endpoint.id()).collect();
            let leaving = current.endpoints().iter().filter(|endpoint| !staying.contains(&endpoint.id()));
            leaving.for_each(|endpoint| {
                control.detector.retire(endpoint.runtime(), &self.runtime.stats);
                control.connectivity.retire(endpoint.runtime());
            });
        }
        let endpoints = EndpointSet::new(members, &control.config, &mut control.cursors, rng);
        let is_dropping = !endpoints.members().drop_overloads().is_empty();
        self.runtime.endpoints.store(Arc::new(endpoints));
        self.runtime.is_dropping.store(is_dropping, Ordering::Relaxed);
    }

    /// Poisoning is ignored, because endpoint sets are published as a whole, so a panic cannot leave an incomplete one.
    fn control(&self) -> MutexGuard<'_, Control> {
        self.runtime.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether endpoints are compared at intervals.
fn compares(config: &Cluster) -> bool {
    config.outlier_detection.is_some_and(|config| config.compares())
}

/// Whether connections of `one` can be used by `other`.
fn connects_alike(one: &Cluster, other: &Cluster) -> bool {
    one.transport_socket == other.transport_socket
        && one.transport_socket_matches == other.transport_socket_matches
        && one.http_protocol_options == other.http_protocol_options
        && one.tcp_keepalive == other.tcp_keepalive
        && one.source_address == other.source_address
        && one.connect_timeout == other.connect_timeout
}
