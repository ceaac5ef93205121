//! An endpoint of a cluster: immutable configuration and shared runtime state.
//!
//! When an update changes the endpoint's weight or health, a new [`EndpointState`] with the same runtime replaces the old
//! one, so that statistics, ejection and attachment are kept. Active requests keep the one they picked.

use std::{
    any::Any,
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, OnceLock},
};

use super::{EndpointId, EndpointRuntime, EndpointStats};
use crate::model::{Cluster, Endpoint, HealthStatus, Locality, NetworkAddress, UpstreamTransportSocket, Workload};

/// The priority and locality of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Priority; 0 is the highest.
    pub priority: u32,
    /// Locality.
    pub locality: Locality,
}

/// Health of an endpoint, from the control plane's report and outlier detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Receives traffic.
    Healthy,
    /// Receives traffic that healthy endpoints cannot take.
    Degraded,
    /// Reported as unhealthy, ejected, or avoided because connections to it fail. Receives traffic in panic only.
    Unhealthy,
}

/// Data that a data plane stores with an endpoint, such as a connection pool.
pub type Attachment = OnceLock<Arc<dyn Any + Send + Sync>>;

/// An endpoint of a cluster. It is small, because each request reads two or more, which may not be in a CPU cache. The
/// fields that every request reads come first, next to the reference count.
#[derive(Debug)]
#[repr(C)]
pub struct EndpointState {
    runtime: Arc<EndpointRuntime>,
    workload: Option<Arc<Workload>>,
    hostname: Option<Arc<str>>,
    transport_socket_match: Option<Arc<BTreeMap<Box<str>, Box<str>>>>,
    attachment: Arc<Attachment>,
    placement: Arc<Placement>,
    load_balancing_weight: NonZeroU32,
    health_status: HealthStatus,
    address: NetworkAddress,
}

impl EndpointState {
    /// Creates an endpoint. `address` is the resolved address of `config`.
    pub(super) fn new(address: NetworkAddress, config: &Endpoint, placement: &Arc<Placement>) -> Self {
        Self {
            runtime: Arc::default(),
            attachment: Arc::default(),
            address,
            hostname: config.hostname.clone(),
            transport_socket_match: config.transport_socket_match.clone(),
            workload: config.workload.clone(),
            placement: Arc::clone(placement),
            load_balancing_weight: config.load_balancing_weight,
            health_status: config.health_status,
        }
    }

    /// The same endpoint with another configuration.
    pub(super) fn reconfigured(&self, config: &Endpoint, placement: &Arc<Placement>) -> Self {
        let (runtime, attachment) = (Arc::clone(&self.runtime), Arc::clone(&self.attachment));
        Self { runtime, attachment, ..Self::new(self.address.clone(), config, placement) }
    }

    /// The same endpoint without its attachment.
    pub(super) fn detached(&self) -> Self {
        Self {
            runtime: Arc::clone(&self.runtime),
            attachment: Arc::default(),
            address: self.address.clone(),
            hostname: self.hostname.clone(),
            transport_socket_match: self.transport_socket_match.clone(),
            workload: self.workload.clone(),
            placement: Arc::clone(&self.placement),
            load_balancing_weight: self.load_balancing_weight,
            health_status: self.health_status,
        }
    }

    /// Whether the endpoint has this configuration. The address is not compared.
    pub(super) fn is_configured_as(&self, config: &Endpoint, placement: &Placement) -> bool {
        let Endpoint { address: _, hostname, load_balancing_weight, health_status, workload, transport_socket_match } =
            config;
        (&self.hostname, &self.workload) == (hostname, workload)
            && self.transport_socket_match == *transport_socket_match
            && (self.load_balancing_weight, self.health_status) == (*load_balancing_weight, *health_status)
            && *self.placement == *placement
    }

    /// The runtime state, which outlives the configuration.
    #[must_use]
    pub fn runtime(&self) -> &Arc<EndpointRuntime> {
        &self.runtime
    }

    /// The ID, for [`Avoid`](crate::balance::Avoid).
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.runtime.id()
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &NetworkAddress {
        &self.address
    }

    /// Host name for automatic host rewriting.
    #[must_use]
    pub fn hostname(&self) -> Option<&Arc<str>> {
        self.hostname.as_ref()
    }

    /// How connections to the endpoint are secured, which belongs to `cluster`.
    #[must_use]
    pub fn transport_socket<'a>(&self, cluster: &'a Cluster) -> &'a UpstreamTransportSocket {
        let labels = self.transport_socket_match.as_deref();
        let found = cluster.transport_socket_matches.iter().find(|socket_match| socket_match.matches(labels));
        found.map_or(&cluster.transport_socket, |socket_match| &socket_match.transport_socket)
    }

    /// The weight.
    #[must_use]
    pub fn weight(&self) -> NonZeroU32 {
        self.load_balancing_weight
    }

    /// The workload at the address.
    #[must_use]
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        self.workload.as_ref()
    }

    /// Priority and locality.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Health as reported by the control plane.
    #[must_use]
    pub fn health_status(&self) -> HealthStatus {
        self.health_status
    }

    /// Whether the endpoint is ejected.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.runtime.outlier.is_ejected()
    }

    /// Health, which combines reported health and ejection.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health_status {
            _ if self.is_ejected() || self.runtime.is_avoided() => Health::Unhealthy,
            HealthStatus::Degraded => Health::Degraded,
            status if status.is_usable() => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Whether the endpoint is draining, and is left out when the share of healthy endpoints is computed.
    #[must_use]
    pub fn is_excluded(&self) -> bool {
        self.health_status == HealthStatus::Draining
    }

    /// The statistics.
    #[must_use]
    pub fn stats(&self) -> &EndpointStats {
        self.runtime.stats()
    }

    /// Number of active tries, which least request compares.
    #[must_use]
    pub fn active_requests(&self) -> u64 {
        self.runtime.active_requests()
    }

    /// Counts a try, which is active until the guard is dropped.
    pub fn start_request(self: Arc<Self>) -> ActiveRequest {
        self.runtime.begin_request();
        ActiveRequest(self)
    }

    /// The data that the data plane stores. It is kept as long as the endpoint is a member of its cluster and the cluster's
    /// connection options stay the same: transport socket, protocol options, connect timeout, keep-alive.
    #[must_use]
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }
}

/// An active try at an endpoint.
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
