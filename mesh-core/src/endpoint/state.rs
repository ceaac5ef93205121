//! One endpoint of a cluster: what is configured about it and what is known from using it.
//!
//! An [`EndpointState`] is immutable configuration around a shared runtime. When an update changes the endpoint's weight
//! or health, a new `EndpointState` takes the old one's place and its counts, ejection and attachment live on; requests
//! under way keep the one they picked.

use std::{
    any::Any,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, OnceLock},
};

use super::{EndpointId, EndpointRuntime, EndpointStats};
use crate::model::{Endpoint, HealthStatus, Locality, Workload};

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

/// An endpoint of a cluster. Small, because each request looks at two or more, which no cache may hold; what every request
/// asks of the one it goes to comes first, beside the count of handles.
#[derive(Debug)]
#[repr(C)]
pub struct EndpointState {
    runtime: Arc<EndpointRuntime>,
    workload: Option<Arc<Workload>>,
    hostname: Option<Arc<str>>,
    attachment: Arc<Attachment>,
    placement: Arc<Placement>,
    load_balancing_weight: NonZeroU32,
    health_status: HealthStatus,
    address: SocketAddr,
}

impl EndpointState {
    /// At `address`, which is that of `config` once names are resolved.
    pub(super) fn new(address: SocketAddr, config: &Endpoint, placement: &Arc<Placement>) -> Self {
        Self {
            runtime: Arc::default(),
            attachment: Arc::default(),
            address,
            hostname: config.hostname.clone(),
            workload: config.workload.clone(),
            placement: Arc::clone(placement),
            load_balancing_weight: config.load_balancing_weight,
            health_status: config.health_status,
        }
    }

    /// The same endpoint under another configuration.
    pub(super) fn reconfigured(&self, config: &Endpoint, placement: &Arc<Placement>) -> Self {
        let (runtime, attachment) = (Arc::clone(&self.runtime), Arc::clone(&self.attachment));
        Self { runtime, attachment, ..Self::new(self.address, config, placement) }
    }

    /// The same endpoint without its attachment, for when the way to connect has changed.
    pub(super) fn detached(&self) -> Self {
        Self {
            runtime: Arc::clone(&self.runtime),
            attachment: Arc::default(),
            address: self.address,
            hostname: self.hostname.clone(),
            workload: self.workload.clone(),
            placement: Arc::clone(&self.placement),
            load_balancing_weight: self.load_balancing_weight,
            health_status: self.health_status,
        }
    }

    /// Whether the endpoint has this configuration; its address is known to be the same.
    pub(super) fn is_configured_as(&self, config: &Endpoint, placement: &Placement) -> bool {
        let Endpoint { address: _, hostname, load_balancing_weight, health_status, workload } = config;
        (&self.hostname, &self.workload) == (hostname, workload)
            && (self.load_balancing_weight, self.health_status) == (*load_balancing_weight, *health_status)
            && *self.placement == *placement
    }

    /// What connections may keep beyond the endpoint's configuration.
    #[must_use]
    pub fn runtime(&self) -> &Arc<EndpointRuntime> {
        &self.runtime
    }

    /// Its identity, for [`Avoid`](crate::balance::Avoid).
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.runtime.id()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Host name for automatic host rewriting.
    #[must_use]
    pub fn hostname(&self) -> Option<&Arc<str>> {
        self.hostname.as_ref()
    }

    /// Share among its peers.
    #[must_use]
    pub fn weight(&self) -> NonZeroU32 {
        self.load_balancing_weight
    }

    /// The workload behind it.
    #[must_use]
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        self.workload.as_ref()
    }

    /// Priority and locality.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Health as the control plane reported it.
    #[must_use]
    pub fn health_status(&self) -> HealthStatus {
        self.health_status
    }

    /// Whether outlier detection has ejected it.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.runtime.outlier.is_ejected()
    }

    /// Reported health and ejection together.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health_status {
            _ if self.is_ejected() => Health::Unhealthy,
            HealthStatus::Degraded => Health::Degraded,
            status if status.is_usable() => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Whether it is about to leave and does not count when the share of healthy endpoints is computed.
    #[must_use]
    pub fn is_excluded(&self) -> bool {
        self.health_status == HealthStatus::Draining
    }

    /// Its counts.
    #[must_use]
    pub fn stats(&self) -> &EndpointStats {
        self.runtime.stats()
    }

    /// Tries under way: what least request compares.
    #[must_use]
    pub fn active_requests(&self) -> u64 {
        self.runtime.active_requests()
    }

    /// Counts a try that begins; it is under way until the guard is dropped.
    pub fn start_request(self: Arc<Self>) -> ActiveRequest {
        self.runtime.begin_request();
        ActiveRequest(self)
    }

    /// What the data plane keeps here. It lives as long as the endpoint is a member under the same connection options of
    /// its cluster: transport socket, protocol, connect timeout, keep-alive.
    #[must_use]
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
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
        self.0.runtime.end_request();
    }
}
