//! Endpoints of a cluster. Envoy `endpoint.v3.ClusterLoadAssignment`.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, sync::Arc};

/// The endpoints of one cluster, by locality and priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadAssignment {
    /// Groups of endpoints, in configured order.
    pub localities: Vec<LocalityEndpoints>,
    /// Percent of healthy endpoints counted per healthy endpoint when load spills to the next priority. Default 140.
    pub overprovisioning_factor: u32,
}

impl Default for LoadAssignment {
    fn default() -> Self {
        Self { localities: Vec::new(), overprovisioning_factor: 140 }
    }
}

impl FromIterator<SocketAddr> for LoadAssignment {
    /// Equal endpoints at these addresses, nowhere in particular.
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(addresses: I) -> Self {
        let endpoints = addresses.into_iter().map(Endpoint::new).collect();
        Self { localities: vec![LocalityEndpoints { endpoints, ..LocalityEndpoints::default() }], ..Self::default() }
    }
}

/// Endpoints of one locality at one priority. Envoy `endpoint.v3.LocalityLbEndpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityEndpoints {
    /// Where they are.
    pub locality: Locality,
    /// 0 is used first; without gaps.
    pub priority: u32,
    /// Weight of the locality among its priority, used under `Cluster::locality_weighted_lb` only; `None` = gets nothing then.
    pub load_balancing_weight: Option<NonZeroU32>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// Region, zone and sub-zone; empty = unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Such as `region1`.
    pub region: Arc<str>,
    /// Such as `zone1`.
    pub zone: Arc<str>,
    /// Such as `rack3`.
    pub sub_zone: Arc<str>,
}

/// One endpoint. Envoy `endpoint.v3.LbEndpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Host name for automatic host rewriting; `None` if it has none.
    pub hostname: Option<Arc<str>>,
    /// Share among its peers. Default 1.
    pub load_balancing_weight: NonZeroU32,
    /// Health as the control plane knows it. Default [`HealthStatus::Unknown`].
    pub health_status: HealthStatus,
    /// The workload behind it, for telemetry.
    pub workload: Option<Arc<Workload>>,
}

impl Endpoint {
    /// A healthy endpoint of weight 1.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address: EndpointAddress::Socket(address),
            hostname: None,
            load_balancing_weight: NonZeroU32::MIN,
            health_status: HealthStatus::default(),
            workload: None,
        }
    }
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A name to resolve (DNS clusters only).
    Name {
        /// Host name.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    },
}

/// Health as a control plane reports it. Envoy `core.v3.HealthStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthStatus {
    /// Treated as healthy.
    #[default]
    Unknown,
    /// Gets traffic.
    Healthy,
    /// Gets none.
    Unhealthy,
    /// Being shut down: gets none, and does not count when the share of healthy endpoints is computed.
    Draining,
    /// Timed out in a health check: gets none.
    Timeout,
    /// Used when the healthy ones do not suffice.
    Degraded,
}

impl HealthStatus {
    /// Whether an endpoint of this status may get traffic as a healthy one.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Unknown | Self::Healthy)
    }
}

/// Who runs behind an endpoint: Istio's telemetry attributes (`features.md` M10 to M13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Workload name, such as `reviews-v1`; the fields here are empty if not known.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// `service.istio.io/canonical-name`, else `app.kubernetes.io/name`, else `app`, else the workload name.
    pub canonical_service: Arc<str>,
    /// `service.istio.io/canonical-revision`, else `app.kubernetes.io/version`, else `version`, else `latest`.
    pub canonical_revision: Arc<str>,
    /// Label `app`.
    pub app: Arc<str>,
    /// Label `version`.
    pub version: Arc<str>,
    /// Cluster id, such as `Kubernetes`.
    pub cluster: Arc<str>,
    /// SPIFFE identity, empty if none.
    pub principal: Arc<str>,
}

impl Workload {
    /// A workload by its labels (`features.md` M11). Its name is the label `service.istio.io/workload-name`; without
    /// one it is made of `service` and the label `version`, as deployments are called: `reviews-v1`. Where no label
    /// names its canonical service, that is `service`.
    #[must_use]
    pub fn from_labels(service: &str, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let label = |name: &str| labels.get(name).map(String::as_str);
        let canonical_service = label("service.istio.io/canonical-name")
            .or_else(|| label("app.kubernetes.io/name"))
            .or_else(|| label("app"));
        let canonical_revision = label("service.istio.io/canonical-revision")
            .or_else(|| label("app.kubernetes.io/version"))
            .or_else(|| label("version"));
        let name = label("service.istio.io/workload-name").map(Arc::from);
        Self {
            name: name.unwrap_or_else(|| match label("version") {
                Some(version) if !service.is_empty() => format!("{service}-{version}").into(),
                Some(_) | None => service.into(),
            }),
            namespace: namespace.into(),
            canonical_service: canonical_service.unwrap_or(service).into(),
            canonical_revision: canonical_revision.unwrap_or("latest").into(),
            app: label("app").unwrap_or_default().into(),
            version: label("version").unwrap_or_default().into(),
            cluster: Arc::default(),
            principal: Arc::default(),
        }
    }
}
