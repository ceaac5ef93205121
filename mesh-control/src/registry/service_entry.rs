//! Services from `ServiceEntry` and `WorkloadEntry` resources.

use std::collections::{BTreeMap, HashMap};

use super::{Endpoint, Port, Service, accepts_mtls};
use crate::config::{Config, Pod, Resolution, ServiceEntry, ServicePort, Workload, WorkloadEntry, selects};
use crate::host::Host;

/// A service for each host of each entry.
pub(super) fn services(config: &Config) -> Vec<Service> {
    let mut workloads: HashMap<&str, Candidates<'_>> = HashMap::new();
    for entry in &config.workload_entries {
        workloads.entry(&entry.metadata.namespace).or_default().entries.push(entry);
    }
    for pod in config.pods.iter().filter(|pod| pod.is_ready) {
        workloads.entry(&pod.metadata.namespace).or_default().pods.push(pod);
    }
    let none = Candidates::default();
    let all = config.service_entries.iter().flat_map(|entry| {
        let candidates = workloads.get(entry.metadata.namespace.as_str()).unwrap_or(&none);
        entry.hosts.iter().map(move |host| declare(entry, &host.value, &host.position, candidates))
    });
    all.collect()
}

/// Workloads of a namespace that an entry may select.
#[derive(Default)]
struct Candidates<'a> {
    entries: Vec<&'a WorkloadEntry>,
    pods: Vec<&'a Pod>,
}

fn declare(
    entry: &ServiceEntry,
    host: &Host,
    position: &crate::diagnostic::Position,
    candidates: &Candidates<'_>,
) -> Service {
    let namespace = &entry.metadata.namespace;
    let port = |port: &ServicePort| Port { number: port.number, name: port.name.clone(), protocol: port.protocol };
    Service {
        host: host.clone(),
        namespace: namespace.clone(),
        ports: entry.ports.iter().map(port).collect(),
        addresses: entry.addresses.clone(),
        resolution: entry.resolution,
        location: entry.location,
        export_to: entry.export_to.clone(),
        endpoints: endpoints(entry, host, candidates),
        aliases: Vec::new(),
        subject_alt_names: entry.subject_alt_names.clone(),
        position: position.clone(),
    }
}

fn endpoints(entry: &ServiceEntry, host: &Host, candidates: &Candidates<'_>) -> Vec<Endpoint> {
    let namespace = &entry.metadata.namespace;
    if let Some(selector) = &entry.workload_selector {
        let selected = candidates.entries.iter().filter(|candidate| selects(selector, &candidate.workload.labels));
        // An address that needs DNS cannot be in a static set; validation has refused it.
        let usable = selected.filter(|candidate| {
            entry.resolution != Resolution::Static || candidate.workload.address.parse::<std::net::IpAddr>().is_ok()
        });
        let of_entries = usable.map(|candidate| endpoint(entry, &candidate.workload, namespace));
        let pods = candidates.pods.iter().filter(|pod| selects(selector, &pod.metadata.labels));
        return of_entries.chain(pods.filter_map(|pod| of_pod(entry, pod))).collect();
    }
    if entry.endpoints.is_empty() && entry.resolution != Resolution::Static {
        return vec![Endpoint {
            address: host.as_str().to_owned(),
            ports: ports(entry, &BTreeMap::new()),
            labels: entry.metadata.labels.clone(),
            locality: String::new(),
            weight: 1,
            service_account: String::new(),
            accepts_mtls: accepts_mtls(&entry.metadata.labels, false),
            namespace: namespace.clone(),
        }];
    }
    entry.endpoints.iter().map(|workload| endpoint(entry, workload, namespace)).collect()
}

fn endpoint(entry: &ServiceEntry, workload: &Workload, namespace: &str) -> Endpoint {
    Endpoint {
        address: workload.address.value.clone(),
        ports: ports(entry, &workload.ports),
        labels: workload.labels.clone(),
        locality: workload.locality.clone(),
        weight: workload.weight.unwrap_or(1).max(1),
        service_account: workload.service_account.clone(),
        // A workload with an identity is taken to have a certificate of it, unless its labels say otherwise.
        accepts_mtls: accepts_mtls(&workload.labels, !workload.service_account.is_empty()),
        namespace: namespace.to_owned(),
    }
}

/// A Pod that runs.
fn of_pod(entry: &ServiceEntry, pod: &Pod) -> Option<Endpoint> {
    Some(Endpoint {
        address: pod.addresses.first()?.to_string(),
        ports: ports(entry, &pod.ports),
        labels: pod.metadata.labels.clone(),
        locality: String::new(),
        weight: 1,
        service_account: pod.service_account.clone(),
        accepts_mtls: accepts_mtls(&pod.metadata.labels, false),
        namespace: pod.metadata.namespace.clone(),
    })
}

/// The workload's own port by name, else the entry's target port, else the port itself.
fn ports(entry: &ServiceEntry, own: &BTreeMap<String, u16>) -> BTreeMap<u16, u16> {
    let target = |port: &ServicePort| own.get(&port.name).copied().or(port.target_port).unwrap_or(port.number);
    entry.ports.iter().map(|port| (port.number, target(port))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Strictness, read};
    use crate::diagnostic::Source;
    use crate::registry::Registry;

    fn registry(text: &str) -> Registry {
        let source = Source::new("a.yaml", text);
        let read = read(&[Arc::new(source)], &Strictness::Strict.into());
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        Registry::new(&read.config)
    }

    fn endpoints(service: &Service) -> Vec<String> {
        let text = |endpoint: &Endpoint| format!("{} {:?}", endpoint.address, endpoint.ports);
        service.endpoints.iter().map(text).collect()
    }

    const RATINGS: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings}
spec:
  hosts: [ratings.default.svc.cluster.local]
  ports: [{number: 9080, name: http, protocol: HTTP, targetPort: 19080}]
  resolution: STATIC
";

    #[test]
    fn port_of_an_endpoint_is_its_own_then_the_target_then_the_same() {
        let text = format!(
            "{RATINGS}  endpoints: [{{address: 127.0.0.1, ports: {{http: 1}}}}, {{address: 127.0.0.2}}]\n---{}",
            RATINGS.replace("name: ratings", "name: more").replace(", targetPort: 19080", "").replace("9080", "80")
                + "  endpoints: [{address: 127.0.0.3}]"
        );
        let registry = registry(&text);
        let [service] = registry.services() else { panic!("two entries for one host are one service") };
        assert_eq!(endpoints(service), ["127.0.0.3 {80: 80}", "127.0.0.1 {9080: 1}", "127.0.0.2 {9080: 19080}"]);
    }

    #[test]
    fn selector_picks_workload_entries_of_the_namespace() {
        let entry = |name: &str, namespace: &str, labels: &str| {
            format!(
                "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}, namespace: \
                 {namespace}}}\nspec: {{address: 127.0.0.{}, labels: {labels}}}\n",
                name.len()
            )
        };
        let text = format!(
            "{RATINGS}  workloadSelector: {{labels: {{app: ratings}}}}\n{}{}{}",
            entry("a", "default", "{app: ratings, version: v1}"),
            entry("bb", "default", "{app: reviews}"),
            entry("ccc", "other", "{app: ratings}"),
        );
        assert_eq!(endpoints(&registry(&text).services()[0]), ["127.0.0.1 {9080: 19080}"]);
    }

    #[test]
    fn a_subset_may_select_by_labels_and_by_locality() {
        let text = format!("{RATINGS}  endpoints: [{{address: 127.0.0.1, labels: {{v: '1'}}, locality: eu/eu-1}}]\n");
        let registry = registry(&text);
        let endpoint = &registry.services()[0].endpoints[0];
        let (region, zone) = (("topology.kubernetes.io/region", "eu"), ("topology.kubernetes.io/zone", "eu-1"));
        for (labels, expected) in [
            (&[("v", "1"), region, zone][..], true),
            (&[], true),
            (&[("v", "2"), region], false),
            (&[("topology.kubernetes.io/zone", "eu-2")], false),
            (&[("topology.istio.io/subzone", "")], false),
        ] {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(endpoint.is_selected_by(&labels), expected, "{labels:?}");
        }
    }

    #[test]
    fn dns_without_endpoints_resolves_the_host_itself() {
        let registry = registry(&RATINGS.replace("STATIC", "DNS"));
        assert_eq!(endpoints(&registry.services()[0]), ["ratings.default.svc.cluster.local {9080: 19080}"]);
    }

    #[test]
    fn a_client_prefers_the_service_of_its_own_namespace_and_exact_names() {
        let named = |name: &str, host: &str| {
            RATINGS.replace("{name: ratings}", name).replace("ratings.default.svc.cluster.local", host)
        };
        let text = [
            named("{name: a, namespace: one}", "api.example"),
            named("{name: b, namespace: two}", "api.example"),
            named("{name: c, namespace: two}", "'*.example'"),
        ]
        .join("---");
        let registry = registry(&text);
        for (host, client, expected) in [
            ("api.example", "one", Some("one")),
            ("api.example", "two", Some("two")),
            ("api.example", "three", Some("one")),
            ("other.example", "one", Some("two")),
            ("example", "one", None),
        ] {
            let host = Host::parse(host, "ns").unwrap();
            assert_eq!(registry.find(&host, client).map(|service| service.namespace.as_str()), expected, "{host}");
        }
    }
}
