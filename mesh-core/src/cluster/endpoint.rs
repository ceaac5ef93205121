//! One endpoint of a cluster: what is configured about it and what is known from using it.
//!
//! An [`EndpointState`] is immutable configuration around a shared runtime. When an update changes the endpoint's weight
//! or health, a new `EndpointState` takes the old one's place and its counts, ejection and attachment live on; requests
//! under way keep the one they picked.

use std::{
    any::Any,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    health::outlier::Monitor,
    model::{Endpoint, HealthStatus, Locality, Workload},
    telemetry::{Counter, Gauge},
};

/// Identifies an endpoint for as long as it is a member of its cluster; unique in the process, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

impl EndpointId {
    /// The only state of this crate outside of values; no decision depends on the numbers.
    fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Where in its cluster an endpoint stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// 0 is used first.
    pub priority: u32,
    /// Where it is.
    pub locality: Locality,
}

/// Whether an endpoint gets traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Gets traffic.
    Healthy,
    /// Gets what the healthy ones cannot take.
    Degraded,
    /// Gets none, except in panic: reported so by the control plane, or ejected.
    Unhealthy,
}

/// Something a data plane keeps with an endpoint, such as its connection pool.
pub type Attachment = OnceLock<Arc<dyn Any + Send + Sync>>;

/// An endpoint of a cluster.
#[derive(Debug)]
pub struct EndpointState {
    address: SocketAddr,
    config: Endpoint,
    placement: Placement,
    attachment: Arc<Attachment>,
    stats: Arc<EndpointStats>,
    runtime: Arc<EndpointRuntime>,
}

/// What outlives changes of an endpoint's configuration.
#[derive(Debug)]
pub(crate) struct EndpointRuntime {
    id: EndpointId,
    pub(crate) outlier: Monitor,
}

/// Counts of one endpoint, as in Envoy's `/clusters`.
#[derive(Debug, Default)]
pub struct EndpointStats {
    /// Connections open.
    pub cx_active: Gauge,
    /// Connections attempted.
    pub cx_total: Counter,
    /// Connections that could not be made.
    pub cx_connect_fail: Counter,
    /// Tries under way.
    pub rq_active: Gauge,
    /// Tries.
    pub rq_total: Counter,
    /// Tries answered with less than 500.
    pub rq_success: Counter,
    /// Tries answered with 500 or more, or not at all.
    pub rq_error: Counter,
    /// Tries that timed out.
    pub rq_timeout: Counter,
}

impl EndpointState {
    pub(super) fn new(address: SocketAddr, config: Endpoint, placement: Placement) -> Self {
        let runtime = EndpointRuntime { id: EndpointId::unique(), outlier: Monitor::default() };
        let (attachment, stats) = (Arc::default(), Arc::default());
        Self { address, config, placement, attachment, stats, runtime: Arc::new(runtime) }
    }

    /// The same endpoint under another configuration.
    pub(super) fn reconfigured(&self, config: Endpoint, placement: Placement) -> Self {
        Self {
            address: self.address,
            config,
            placement,
            attachment: Arc::clone(&self.attachment),
            stats: Arc::clone(&self.stats),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// The same endpoint without its attachment, for when the way to connect has changed.
    pub(super) fn detached(&self) -> Self {
        Self { attachment: Arc::default(), ..self.reconfigured(self.config.clone(), self.placement.clone()) }
    }

    pub(super) fn is_configured_as(&self, config: &Endpoint, placement: &Placement) -> bool {
        self.config == *config && self.placement == *placement
    }

    pub(crate) fn runtime(&self) -> &Arc<EndpointRuntime> {
        &self.runtime
    }

    /// Its identity, for [`Avoid`](crate::balance::Avoid).
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.runtime.id
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Host name for automatic host rewriting.
    #[must_use]
    pub fn hostname(&self) -> Option<&Arc<str>> {
        self.config.hostname.as_ref()
    }

    /// Share among its peers.
    #[must_use]
    pub fn weight(&self) -> NonZeroU32 {
        self.config.load_balancing_weight
    }

    /// The workload behind it.
    #[must_use]
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        self.config.workload.as_ref()
    }

    /// Priority and locality.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Health as the control plane reported it.
    #[must_use]
    pub fn health_status(&self) -> HealthStatus {
        self.config.health_status
    }

    /// Whether outlier detection has ejected it.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.runtime.outlier.is_ejected()
    }

    /// Reported health and ejection together.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.config.health_status {
            _ if self.is_ejected() => Health::Unhealthy,
            HealthStatus::Degraded => Health::Degraded,
            status if status.is_usable() => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Whether it is about to leave and does not count when the share of healthy endpoints is computed.
    #[must_use]
    pub fn is_excluded(&self) -> bool {
        self.config.health_status == HealthStatus::Draining
    }

    /// Its counts.
    #[must_use]
    pub fn stats(&self) -> &Arc<EndpointStats> {
        &self.stats
    }

    /// Tries under way: what least request compares.
    #[must_use]
    pub fn active_requests(&self) -> u64 {
        self.stats.rq_active.get()
    }

    /// Counts a try that begins; it is under way until the guard is dropped.
    pub fn start_request(self: Arc<Self>) -> ActiveRequest {
        self.begin_request();
        ActiveRequest(self)
    }

    pub(super) fn begin_request(&self) {
        self.stats.rq_total.inc();
        self.stats.rq_active.inc();
    }

    pub(super) fn end_request(&self) {
        self.stats.rq_active.dec();
    }

    /// What the data plane keeps here. It lives as long as the endpoint is a member under the same connection options of
    /// its cluster: protocol, connect timeout, keep-alive.
    #[must_use]
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }
}

impl EndpointRuntime {
    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }
}

/// A try under way at an endpoint.
#[derive(Debug)]
#[must_use = "dropping it ends the try"]
pub struct ActiveRequest(Arc<EndpointState>);

impl ActiveRequest {
    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.0
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.end_request();
    }
}
