//! Services and their endpoints.
//!
//! Every source of services yields the same [`Service`] values, so that validation and translation do not depend on how a
//! service is declared. The sources are ServiceEntry and WorkloadEntry resources, and Services of Kubernetes. What several
//! of them declare for one host in one namespace is one service.

mod kubernetes;
mod service_entry;
mod workloads;

use std::collections::hash_map::Entry;
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
    /// Other hosts that stand for it: `ExternalName` Services of Kubernetes. Requests to them follow its rules.
    pub aliases: Vec<Alias>,
    /// Names of which a server's certificate must have one, besides the identities of its workloads. Istio
    /// `ServiceEntry.subject_alt_names`.
    pub subject_alt_names: Vec<String>,
    /// Position of its first declaration.
    pub position: Position,
}

/// Another host of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alias {
    /// The host.
    pub host: Host,
    /// Namespace of the resource that declares it.
    pub namespace: String,
    /// Namespaces that see it.
    pub export_to: Vec<Visibility>,
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
    /// Whether it accepts mutual TLS with certificates of the mesh.
    pub accepts_mtls: bool,
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

/// The label of a workload that says whether it accepts mutual TLS of the mesh; Istio's injector adds it.
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
/// The value of the label if it does.
const ISTIO_TLS_MODE: &str = "istio";

/// Whether a workload with the labels accepts mutual TLS of the mesh; `otherwise` if they do not say it.
fn accepts_mtls(labels: &Labels, otherwise: bool) -> bool {
    labels.get(TLS_MODE_LABEL).map_or(otherwise, |mode| mode == ISTIO_TLS_MODE)
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

    /// The hosts by which clients of the namespace may call it: its own, then its aliases.
    pub fn hosts(&self, namespace: &str) -> impl Iterator<Item = &Host> {
        let aliases = self.aliases.iter().filter(move |alias| alias.is_visible_to(namespace));
        std::iter::once(&self.host).chain(aliases.map(|alias| &alias.host))
    }

    /// Adds what another declaration of the same host has.
    fn merge(&mut self, other: Self) {
        for port in other.ports {
            if self.port(port.number).is_none() {
                self.ports.push(port);
            }
        }
        for address in other.addresses {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
        self.endpoints.extend(other.endpoints);
        for name in other.subject_alt_names {
            if !self.subject_alt_names.contains(&name) {
                self.subject_alt_names.push(name);
            }
        }
    }
}

impl Alias {
    fn is_visible_to(&self, namespace: &str) -> bool {
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
        // A Service of Kubernetes comes first, as in istiod: of a port that both declare, it gives the protocol.
        let mut services = merged(kubernetes::services(config).into_iter().chain(service_entry::services(config)));
        kubernetes::add_external_names(config, &mut services);
        let mut registry = Self { services, ..Self::default() };
        for (i, service) in registry.services.iter().enumerate() {
            let aliases = service.aliases.iter().map(|alias| &alias.host);
            for host in std::iter::once(&service.host).chain(aliases) {
                registry.by_host.entry(host.clone()).or_default().push(i);
            }
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

    /// All services: those of Kubernetes first, then oldest first.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service of `host` for a client in `namespace`: its own namespace's before others', the exact name
    /// before the most specific wildcard.
    pub fn find(&self, host: &Host, namespace: &str) -> Option<&Service> {
        let exact = self.by_host.get(host).into_iter().flatten().map(|&i| &self.services[i]);
        let is_visible =
            |service: &&Service| service.is_visible_to(namespace) && service.hosts(namespace).any(|own| own == host);
        let visible = || exact.clone().filter(is_visible);
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

/// One service for each host and namespace, in the order of their first declaration.
fn merged(declared: impl Iterator<Item = Service>) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    let mut index: HashMap<(Host, String), usize> = HashMap::new();
    for service in declared {
        match index.entry((service.host.clone(), service.namespace.clone())) {
            Entry::Occupied(known) => services[*known.get()].merge(service),
            Entry::Vacant(free) => {
                free.insert(services.len());
                services.push(service);
            }
        }
    }
    services
}

/// The labels of every workload that a Service of Kubernetes may have, whether or not it has an address: of Pods, and of the
/// resources that make them.
pub(crate) fn labels_of_workloads(config: &Config, service: &crate::config::Service) -> Vec<Labels> {
    kubernetes::labels_of_workloads(config, service)
}
