//! Endpoints of a cluster. Envoy `endpoint.v3.ClusterLoadAssignment`.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use super::FractionalPercent;

/// The endpoints of a cluster, by locality and priority.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadAssignment {
    /// The endpoints of each locality and priority, in configured order.
    pub localities: Vec<LocalityEndpoints>,
    /// Factor in percent by which the share of healthy endpoints is multiplied to compute how much load a priority takes.
    /// Default 140.
    pub overprovisioning_factor: u32,
    /// Requests to drop before an endpoint is picked. Default none.
    pub drop_overloads: Vec<DropOverload>,
}

impl LoadAssignment {
    /// Creates a load assignment with Envoy's defaults.
    #[must_use]
    pub fn new(localities: Vec<LocalityEndpoints>) -> Self {
        Self { localities, overprovisioning_factor: 140, drop_overloads: Vec::new() }
    }
}

impl Default for LoadAssignment {
    /// No endpoints.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl FromIterator<SocketAddr> for LoadAssignment {
    /// Endpoints of equal weight at these addresses, in one unnamed locality.
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(addresses: I) -> Self {
        addresses.into_iter().map(Endpoint::new).collect::<Vec<_>>().into()
    }
}

impl From<Vec<Endpoint>> for LoadAssignment {
    /// These endpoints, in one unnamed locality.
    fn from(endpoints: Vec<Endpoint>) -> Self {
        Self::new(vec![LocalityEndpoints::new(Locality::default(), endpoints)])
    }
}

/// A share of the requests that is dropped because the endpoints are overloaded. With several of them, the next sees what the
/// one before has left. Envoy `endpoint.v3.ClusterLoadAssignment.Policy.DropOverload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropOverload {
    /// The name under which load reports count the dropped requests.
    pub category: Arc<str>,
    /// The share.
    pub drop_percentage: FractionalPercent,
}

/// Endpoints of one locality at one priority. Envoy `endpoint.v3.LocalityLbEndpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalityEndpoints {
    /// The locality.
    pub locality: Locality,
    /// Priority; 0 is the highest. Priorities have no gaps.
    pub priority: u32,
    /// Weight among the localities of this priority; `None` = no traffic. Used with `Cluster::locality_weighted_lb` only.
    pub load_balancing_weight: Option<NonZeroU32>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl LocalityEndpoints {
    /// Creates a locality of the highest priority, without a weight.
    #[must_use]
    pub fn new(locality: Locality, endpoints: Vec<Endpoint>) -> Self {
        Self { locality, endpoints, ..Self::default() }
    }
}

/// Region, zone and sub-zone; empty if unknown. Envoy `core.v3.Locality`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region, such as `region1`.
    pub region: Arc<str>,
    /// Zone, such as `zone1`.
    pub zone: Arc<str>,
    /// Sub-zone, such as `rack3`.
    pub sub_zone: Arc<str>,
}

/// One endpoint. Envoy `endpoint.v3.LbEndpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// Address of the endpoint.
    pub address: EndpointAddress,
    /// Host name for automatic host rewriting.
    pub hostname: Option<Arc<str>>,
    /// Weight among the endpoints of the locality. Default 1.
    pub load_balancing_weight: NonZeroU32,
    /// Health as reported by the control plane. Default [`HealthStatus::Unknown`].
    pub health_status: HealthStatus,
    /// The workload at this address, for telemetry.
    pub workload: Option<Arc<Workload>>,
    /// What a [`TransportSocketMatch`](super::TransportSocketMatch) of its cluster is compared with. Envoy metadata
    /// `envoy.transport_socket_match`.
    pub transport_socket_match: Option<Arc<BTreeMap<Box<str>, Box<str>>>>,
}

impl Endpoint {
    /// Creates an endpoint of unknown health and weight 1.
    #[must_use]
    pub fn new(address: impl Into<EndpointAddress>) -> Self {
        Self {
            address: address.into(),
            hostname: None,
            load_balancing_weight: NonZeroU32::MIN,
            health_status: HealthStatus::default(),
            workload: None,
            transport_socket_match: None,
        }
    }
}

/// Address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A unix socket, as in [`NetworkAddress::Pipe`].
    Pipe(Arc<str>),
    /// A name to resolve, in DNS clusters only.
    Name {
        /// Host name.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    },
}

impl EndpointAddress {
    /// The address; `None` for a name.
    #[must_use]
    pub fn resolved(&self) -> Option<NetworkAddress> {
        match self {
            Self::Socket(address) => Some(NetworkAddress::Socket(*address)),
            Self::Pipe(path) => Some(NetworkAddress::Pipe(Arc::clone(path))),
            Self::Name { .. } => None,
        }
    }
}

impl From<SocketAddr> for EndpointAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

/// An address that connections can be made to. It is shown as in Envoy: `IP:PORT`, or the path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NetworkAddress {
    /// An IP address and port.
    Socket(SocketAddr),
    /// The path of a unix socket; a name in the abstract namespace of Linux begins with `@`. Envoy `core.v3.Pipe.path`.
    Pipe(Arc<str>),
}

impl NetworkAddress {
    /// The IP address and port; `None` for a unix socket.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Pipe(_) => None,
        }
    }

    /// The IP address; `None` for a unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|address| address.ip())
    }

    /// The TCP port; 0 for a unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.socket().map_or(0, |address| address.port())
    }
}

impl From<SocketAddr> for NetworkAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Pipe(path) => path.fmt(f),
        }
    }
}

/// Health of an endpoint as reported by a control plane. Envoy `core.v3.HealthStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthStatus {
    /// Not reported; treated as healthy.
    #[default]
    Unknown,
    /// Receives traffic.
    Healthy,
    /// Receives no traffic.
    Unhealthy,
    /// Shutting down: receives no traffic, and is left out when the share of healthy endpoints is computed.
    Draining,
    /// Timed out in a health check: receives no traffic.
    Timeout,
    /// Receives traffic that the healthy endpoints cannot take.
    Degraded,
}

impl HealthStatus {
    /// Whether an endpoint of this status is treated as healthy.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Unknown | Self::Healthy)
    }
}

/// The workload at an endpoint, as Istio's metrics describe it. Unknown fields are empty. Istio "Standard Metrics".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workload {
    /// Name, such as `reviews-v1`.
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
    /// Cluster ID, such as `Kubernetes`.
    pub cluster: Arc<str>,
    /// SPIFFE identity.
    pub principal: Arc<str>,
}

impl Workload {
    /// Creates a workload of which nothing else is known.
    #[must_use]
    pub fn new(name: &str, namespace: &str) -> Self {
        Self { name: name.into(), namespace: namespace.into(), ..Self::default() }
    }

    /// Creates a workload from its labels. Its name is the label `service.istio.io/workload-name`. Without that label it
    /// is `service` and the label `version`, as deployments are usually named: `reviews-v1`. If no label names the
    /// canonical service, it is `service`.
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
