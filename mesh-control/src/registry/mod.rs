//! Services and their endpoints.
//!
//! Every source of services yields the same [`Service`] values, so that validation and translation do not depend on how a
//! service is declared. Today the only source are ServiceEntry and WorkloadEntry resources.

mod service_entry;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::config::{Config, Labels, Location, Protocol, Resolution, Visibility};
use crate::diagnostic::Position;
use crate::host::Host;

/// A service as clients see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Service {
    /// Its name; may be a wildcard.
    pub host: Host,
    /// Namespace of the resources that declare it.
    pub namespace: String,
    /// Ports in the order of declaration, with unique numbers.
    pub ports: Vec<Port>,
    /// Virtual addresses by which it may also be called.
    pub addresses: Vec<IpAddr>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Whether its workloads are in the mesh.
    pub location: Location,
    /// Namespaces that see it.
    pub export_to: Vec<Visibility>,
    /// Its workloads.
    pub endpoints: Vec<Endpoint>,
    /// Position of its first declaration.
    pub position: Position,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// Port that clients call.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A workload that serves a service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Endpoint {
    /// IP address, or a name that DNS resolves.
    pub address: String,
    /// Port of the workload by port of the service; only the service's ports that it serves.
    pub ports: BTreeMap<u16, u16>,
    /// Labels, by which subsets select.
    pub labels: Labels,
    /// `region/zone/subzone`, may be empty.
    pub locality: String,
    /// Share of requests relative to the other endpoints, at least 1.
    pub weight: u32,
    /// Service account; may be empty.
    pub service_account: String,
    /// Namespace of the workload.
    pub namespace: String,
}

impl Endpoint {
    /// Whether a subset with these labels has it. As in Istio, the locality counts as labels, too.
    pub fn is_selected_by(&self, labels: &Labels) -> bool {
        labels.iter().all(|(key, value)| match TOPOLOGY_LABELS.iter().position(|label| label == key) {
            Some(part) if self.locality.split('/').nth(part).is_some_and(|own| !own.is_empty() && own == value) => true,
            _ => self.labels.get(key) == Some(value),
        })
    }
}

/// Labels of the parts of a locality, in their order.
const TOPOLOGY_LABELS: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

impl Service {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Whether clients of the namespace may call it.
    pub fn is_visible_to(&self, namespace: &str) -> bool {
        Visibility::includes(&self.export_to, &self.namespace, namespace)
    }
}

/// All services, found by host.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    services: Vec<Service>,
    by_host: HashMap<Host, Vec<usize>>,
    wildcards: Vec<usize>,
}

impl Registry {
    /// The services that the resources declare.
    pub fn new(config: &Config) -> Self {
        let services = service_entry::services(config);
        let mut registry = Self { services, ..Self::default() };
        for (i, service) in registry.services.iter().enumerate() {
            registry.by_host.entry(service.host.clone()).or_default().push(i);
            if service.host.is_wildcard() {
                registry.wildcards.push(i);
            }
        }
        registry.wildcards.sort_by(|&a, &b| {
            let host = |i: usize| &registry.services[i].host;
            host(a).by_specificity(host(b))
        });
        registry
    }

    /// All services, oldest first.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service of `host` for a client in `namespace`: its own namespace's before others', the exact name
    /// before the most specific wildcard.
    pub fn find(&self, host: &Host, namespace: &str) -> Option<&Service> {
        let exact = self.by_host.get(host).into_iter().flatten().map(|&i| &self.services[i]);
        let visible = || exact.clone().filter(|service| service.is_visible_to(namespace));
        visible().find(|service| service.namespace == namespace).or_else(|| visible().next()).or_else(|| {
            let wildcards = self.wildcards.iter().map(|&i| &self.services[i]);
            wildcards.filter(|service| service.is_visible_to(namespace)).find(|service| service.host.covers(host))
        })
    }

    /// The services that clients of the namespace see; of several with one host only the one that [`Self::find`] gives.
    pub fn visible_to<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Service> {
        self.services.iter().filter(move |service| {
            service.is_visible_to(namespace)
                && self.find(&service.host, namespace).is_some_and(|found| std::ptr::eq(found, *service))
        })
    }
}
