//! The workloads of Kubernetes: which Pod is behind an address, which labels it has, and where it is.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::{Config, EndpointAddress, Labels, Node, Pod, PodTemplate, Service, WorkloadEntry, selects};

/// The label of a Pod that overrides its locality. `.` stands for `/`, which labels cannot have.
const LOCALITY_LABEL: &str = "istio-locality";

/// What is known of the workloads of a configuration.
pub(super) struct Workloads<'a> {
    pods: HashMap<(&'a str, &'a str), &'a Pod>,
    pods_by_address: HashMap<IpAddr, &'a Pod>,
    /// By namespace.
    all_pods: HashMap<&'a str, Vec<&'a Pod>>,
    templates: HashMap<&'a str, Vec<&'a PodTemplate>>,
    entries: HashMap<&'a str, Vec<&'a WorkloadEntry>>,
    nodes: HashMap<&'a str, &'a Node>,
    nodes_by_zone: HashMap<&'a str, &'a Node>,
}

impl<'a> Workloads<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        let mut workloads = Self {
            pods: HashMap::new(),
            pods_by_address: HashMap::new(),
            all_pods: HashMap::new(),
            templates: HashMap::new(),
            entries: HashMap::new(),
            nodes: config.nodes.iter().map(|node| (node.metadata.name.as_str(), node)).collect(),
            nodes_by_zone: config.nodes.iter().map(|node| (node.zone(), node)).collect(),
        };
        workloads.nodes_by_zone.remove("");
        for pod in &config.pods {
            let namespace = pod.metadata.namespace.as_str();
            workloads.pods.insert((namespace, &pod.metadata.name), pod);
            workloads.all_pods.entry(namespace).or_default().push(pod);
            for address in &pod.addresses {
                // Pods may share the address of their machine; then only their names distinguish them.
                workloads.pods_by_address.entry(*address).or_insert(pod);
            }
        }
        for template in config.pod_templates() {
            workloads.templates.entry(&template.metadata.namespace).or_default().push(template);
        }
        for entry in &config.workload_entries {
            workloads.entries.entry(&entry.metadata.namespace).or_default().push(entry);
        }
        workloads
    }

    /// The Pods that the service selects.
    pub(super) fn pods_of(&self, service: &Service) -> impl Iterator<Item = &'a Pod> {
        selected(&self.all_pods, service, |pod| &pod.metadata.labels)
    }

    /// The WorkloadEntries that the service selects.
    pub(super) fn entries_of(&self, service: &Service) -> impl Iterator<Item = &'a WorkloadEntry> {
        selected(&self.entries, service, |entry| &entry.workload.labels)
    }

    /// The Pod behind an address: the one that it names, or else the one that has the address.
    pub(super) fn pod(&self, address: &EndpointAddress, namespace: &str) -> Option<&'a Pod> {
        let Some((of_pod, name)) = &address.pod else {
            return self.pods_by_address.get(&address.address.value).copied();
        };
        let namespace = if of_pod.is_empty() { namespace } else { of_pod };
        self.pods.get(&(namespace, name.as_str())).copied()
    }

    /// The labels of a workload whose Pod is not known: those of the resource that has made a Pod of this name, or else
    /// those that all workloads of the service share.
    pub(super) fn labels(&self, service: &Service, address: &EndpointAddress) -> Labels {
        let candidates: Vec<_> = selected(&self.templates, service, |template| &template.labels).collect();
        let made_it =
            |template: &&&PodTemplate| address.pod.as_ref().is_some_and(|(_, name)| template.may_have_made(name));
        // `reviews-v1-a-b` may be of the Deployment `reviews-v1` or of the StatefulSet `reviews-v1-a`.
        let maker = candidates.iter().filter(made_it).max_by_key(|template| template.metadata.name.len());
        if let Some(maker) = maker {
            return maker.labels.clone();
        }
        let Some((first, others)) = candidates.split_first() else { return service.selector.clone() };
        let mut shared = first.labels.clone();
        shared.retain(|key, value| others.iter().all(|template| template.labels.get(key) == Some(value)));
        shared
    }

    /// `region/zone/subzone` of a workload: as its label says, or else that of its machine, or else the zone.
    pub(super) fn locality(&self, pod: Option<&Pod>, labels: &Labels, node: &str, zone: &str) -> String {
        if let Some(label) = labels.get(LOCALITY_LABEL).filter(|label| !label.is_empty()) {
            return label.replace('.', "/");
        }
        let of_pod = pod.map_or("", |pod| pod.node.as_str());
        let machine = [node, of_pod].into_iter().find_map(|name| self.nodes.get(name));
        let locality = machine.map(|node| node.locality()).unwrap_or_default();
        match (locality.is_empty(), zone) {
            (false, _) => locality,
            (true, "") => String::new(),
            // The region is that of another machine in the zone, if one is known.
            (true, zone) => {
                let other = self.nodes_by_zone.get(zone).map(|node| node.locality()).unwrap_or_default();
                format!("{}/{zone}", other.split('/').next().unwrap_or_default())
            }
        }
    }
}

/// Those of the service's namespace that its selector selects; none without a selector.
fn selected<'a, T>(
    all: &HashMap<&'a str, Vec<&'a T>>,
    service: &Service,
    labels: fn(&T) -> &Labels,
) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let in_namespace = all.get(service.metadata.namespace.as_str()).filter(|_| !service.selector.is_empty());
    let is_selected = |item: &&&T| selects(&service.selector, labels(item));
    let selected: Vec<&'a T> = in_namespace.into_iter().flatten().filter(is_selected).copied().collect();
    selected.into_iter()
}
