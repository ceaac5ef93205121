//! Services from `Service` objects of Kubernetes.
//!
//! Their endpoints are, as in Istio, those of EndpointSlices and Endpoints, and the WorkloadEntries that their selector
//! selects. Without a slice, the Pods that the selector selects are the endpoints: what Kubernetes would write into one.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::workloads::Workloads;
use super::{Alias, Endpoint, Port, Service, accepts_mtls};
use crate::config::{
    self, Addresses, Config, EndpointAddress, Labels, Location, Pod, Resolution, TargetPort, WorkloadEntry, selects,
};
use crate::host::Host;

/// The services, except those that stand for another host.
pub(super) fn services(config: &Config) -> Vec<Service> {
    let workloads = Workloads::new(config);
    let addresses = addresses(config);
    let in_mesh = config.services.iter().filter(|service| service.external_name.is_none());
    in_mesh
        .map(|service| {
            let key = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
            let endpoints = endpoints(service, addresses.get(&key), &workloads);
            Service { endpoints, ..declare(service, Resolution::Static, Location::MeshInternal) }
        })
        .collect()
}

/// Adds the services that stand for another host: as aliases of a service, or else as a service outside of the mesh whose
/// only endpoint is the host.
pub(super) fn add_external_names(config: &Config, services: &mut Vec<Service>) {
    let external =
        || config.services.iter().filter_map(|service| Some((service, &service.external_name.as_ref()?.value)));
    let targets: HashMap<&Host, &Host> = external().map(|(service, target)| (&service.host, target)).collect();
    for (service, target) in external() {
        // Kubernetes has no address for a circle of names.
        let Some(target) = follow(&service.host, target, &targets) else { continue };
        let alias = Alias {
            host: service.host.clone(),
            namespace: service.metadata.namespace.clone(),
            export_to: service.export_to.clone(),
        };
        let mut is_alias = false;
        for known in services.iter_mut().filter(|known| known.host == *target) {
            known.aliases.push(alias.clone());
            is_alias = true;
        }
        if !is_alias {
            services.push(external_service(service, target));
        }
    }
}

fn follow<'a>(alias: &Host, mut target: &'a Host, targets: &HashMap<&Host, &'a Host>) -> Option<&'a Host> {
    for _ in 0..=targets.len() {
        match targets.get(target) {
            Some(next) if target != alias => target = next,
            Some(_) => return None,
            None => return Some(target),
        }
    }
    None
}

fn external_service(service: &config::Service, target: &Host) -> Service {
    let endpoint = Endpoint {
        address: target.as_str().to_owned(),
        ports: service.ports.iter().map(|port| (port.number, port.number)).collect(),
        labels: service.metadata.labels.clone(),
        locality: String::new(),
        weight: 1,
        service_account: String::new(),
        accepts_mtls: false,
        namespace: service.metadata.namespace.clone(),
    };
    let resolution = if target.is_ip() { Resolution::Static } else { Resolution::Dns };
    Service { endpoints: vec![endpoint], ..declare(service, resolution, Location::MeshExternal) }
}

/// The service without endpoints.
fn declare(service: &config::Service, resolution: Resolution, location: Location) -> Service {
    let ports = service.ports.iter();
    Service {
        host: service.host.clone(),
        namespace: service.metadata.namespace.clone(),
        ports: ports
            .map(|port| Port { number: port.number, name: port.name.clone(), protocol: port.protocol })
            .collect(),
        addresses: service.addresses.clone(),
        resolution,
        location,
        export_to: service.export_to.clone(),
        endpoints: Vec::new(),
        aliases: Vec::new(),
        subject_alt_names: Vec::new(),
        position: service.metadata.position.clone(),
    }
}

/// The addresses of EndpointSlices and Endpoints, by namespace and name of the service.
fn addresses(config: &Config) -> HashMap<(&str, &str), Vec<&Addresses>> {
    let mut addresses: HashMap<(&str, &str), Vec<&Addresses>> = HashMap::new();
    for slice in &config.endpoint_slices {
        if let Some(service) = slice.service() {
            addresses.entry((&slice.metadata.namespace, service)).or_default().push(&slice.addresses);
        }
    }
    for endpoints in &config.endpoints {
        let key = (endpoints.metadata.namespace.as_str(), endpoints.metadata.name.as_str());
        addresses.entry(key).or_default().extend(&endpoints.subsets);
    }
    addresses
}

fn endpoints(
    service: &config::Service,
    addresses: Option<&Vec<&Addresses>>,
    workloads: &Workloads<'_>,
) -> Vec<Endpoint> {
    let mut endpoints = Endpoints::default();
    match addresses {
        Some(sets) => {
            for set in sets {
                let ports = ports_of_set(service, set);
                for address in set.endpoints.iter().filter(|it| it.is_ready || service.publish_not_ready_addresses) {
                    endpoints.add(of_address(service, address, ports.clone(), workloads));
                }
            }
        }
        None => {
            for pod in workloads.pods_of(service).filter(|pod| pod.is_ready || service.publish_not_ready_addresses) {
                if let Some(address) = pod.addresses.first() {
                    endpoints.add(of_pod(service, pod, *address, workloads));
                }
            }
        }
    }
    for entry in workloads.entries_of(service) {
        // An address that needs DNS cannot be among those of a service.
        if entry.workload.address.parse::<IpAddr>().is_ok() {
            endpoints.add(of_entry(service, entry));
        }
    }
    endpoints.0
}

fn of_address(
    service: &config::Service,
    address: &EndpointAddress,
    ports: BTreeMap<u16, u16>,
    workloads: &Workloads<'_>,
) -> Endpoint {
    let pod = workloads.pod(address, &service.metadata.namespace);
    let labels = pod.map_or_else(|| workloads.labels(service, address), |pod| pod.metadata.labels.clone());
    Endpoint {
        address: address.address.to_string(),
        ports,
        locality: workloads.locality(pod, &labels, &address.node, &address.zone),
        accepts_mtls: accepts_mtls(&labels, false),
        labels,
        weight: 1,
        service_account: pod.map(|pod| pod.service_account.clone()).unwrap_or_default(),
        namespace: service.metadata.namespace.clone(),
    }
}

fn of_pod(service: &config::Service, pod: &Pod, address: IpAddr, workloads: &Workloads<'_>) -> Endpoint {
    let labels = pod.metadata.labels.clone();
    Endpoint {
        address: address.to_string(),
        ports: ports_of_workload(service, &pod.ports, false),
        locality: workloads.locality(Some(pod), &labels, "", ""),
        accepts_mtls: accepts_mtls(&labels, false),
        labels,
        weight: 1,
        service_account: pod.service_account.clone(),
        namespace: pod.metadata.namespace.clone(),
    }
}

fn of_entry(service: &config::Service, entry: &WorkloadEntry) -> Endpoint {
    let workload = &entry.workload;
    Endpoint {
        address: workload.address.value.clone(),
        ports: ports_of_workload(service, &workload.ports, true),
        labels: workload.labels.clone(),
        locality: workload.locality.clone(),
        weight: workload.weight.unwrap_or(1).max(1),
        service_account: workload.service_account.clone(),
        accepts_mtls: accepts_mtls(&workload.labels, !workload.service_account.is_empty()),
        namespace: entry.metadata.namespace.clone(),
    }
}

/// The ports of the workloads by those of the service, which are found by name. A port without number stands for all.
fn ports_of_set(service: &config::Service, set: &Addresses) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    for port in &set.ports {
        match (service.port(&port.name), port.number) {
            (Some(of_service), Some(number)) => drop(ports.insert(of_service.number, number)),
            (_, None) => ports.extend(service.ports.iter().map(|port| (port.number, port.number))),
            (None, Some(_)) => {}
        }
    }
    ports
}

/// The ports of a workload that names them. Without the name of a target port, it does not serve the port. `by_service_port`:
/// whether its names may also be those of the service's ports, as a WorkloadEntry's are.
fn ports_of_workload(
    service: &config::Service,
    named: &BTreeMap<String, u16>,
    by_service_port: bool,
) -> BTreeMap<u16, u16> {
    let target = |port: &config::KubernetesPort| match &port.target {
        TargetPort::Number(number) => {
            let own = named.get(&port.name).filter(|_| by_service_port);
            Some(own.copied().unwrap_or(*number))
        }
        TargetPort::Name(name) => named.get(name).copied(),
    };
    service.ports.iter().filter_map(|port| Some((port.number, target(port)?))).collect()
}

/// Endpoints of a service. The same address may be in several sets.
#[derive(Default)]
struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    /// Adds an endpoint, or its ports to one with the same address, unless these contradict each other.
    fn add(&mut self, endpoint: Endpoint) {
        let agrees = |known: &&mut Endpoint| {
            let has = |(port, target): (&u16, &u16)| known.ports.get(port).is_none_or(|own| own == target);
            known.address == endpoint.address && known.labels == endpoint.labels && endpoint.ports.iter().all(has)
        };
        match self.0.iter_mut().find(agrees) {
            Some(known) => known.ports.extend(endpoint.ports),
            None => self.0.push(endpoint),
        }
    }
}

/// The labels of every workload that a service may have, whether or not it has an address.
pub(super) fn labels_of_workloads(config: &Config, service: &config::Service) -> Vec<Labels> {
    let is_in_namespace = |namespace: &str| !service.selector.is_empty() && namespace == service.metadata.namespace;
    let pods = config.pods.iter().map(|pod| (&pod.metadata, &pod.metadata.labels));
    let templates = config.pod_templates().map(|template| (&template.metadata, &template.labels));
    let all = pods.chain(templates).filter(|(metadata, _)| is_in_namespace(&metadata.namespace));
    all.map(|(_, labels)| labels).filter(|labels| selects(&service.selector, labels)).cloned().collect()
}
