//! A service of Consul as a ServiceEntry.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::name::Name;

/// The key of `Meta` with the protocol.
const PROTOCOL: &str = "protocol";
/// The key of `Meta` with the port that clients call.
const MESH_PORT: &str = "mesh-port";

/// An instance with its checks, an item of `/v1/health/service/NAME`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Instance {
    node: Machine,
    service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Machine {
    address: String,
    #[serde(default)]
    datacenter: String,
    locality: Option<Locality>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default)]
    address: String,
    port: u16,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    weights: Option<Weights>,
    locality: Option<Locality>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Locality {
    #[serde(default)]
    region: String,
    #[serde(default)]
    zone: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    status: String,
}

/// The text of the ServiceEntry; `None` if no instance has a port, because nothing can be called then.
pub(super) fn text(name: &str, namespace: &str, instances: &[Instance]) -> Option<String> {
    let number = instances.iter().filter_map(Instance::mesh_port).min()?;
    let protocol =
        instances.iter().find_map(|it| it.meta(PROTOCOL)).map_or_else(|| "tcp".to_owned(), str::to_ascii_lowercase);
    let endpoints: Vec<Value> = instances.iter().filter_map(|it| it.endpoint(&protocol)).collect();
    let is_static = instances.iter().all(|it| it.address().parse::<IpAddr>().is_ok());
    let entry = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name.to_ascii_lowercase(), "namespace": namespace},
        "spec": {
            "hosts": [format!("{}.service.consul", name.to_ascii_lowercase())],
            "location": "MESH_INTERNAL",
            "resolution": if is_static { "STATIC" } else { "DNS" },
            "ports": [{"number": number, "name": protocol, "protocol": protocol.to_ascii_uppercase()}],
            "endpoints": endpoints,
        },
    });
    serde_json::to_string_pretty(&entry).ok()
}

impl Instance {
    fn meta(&self, key: &str) -> Option<&str> {
        self.service.meta.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The port that clients call.
    fn mesh_port(&self) -> Option<u16> {
        let configured = self.meta(MESH_PORT).and_then(|port| port.parse().ok());
        Some(configured.unwrap_or(self.service.port)).filter(|port| *port > 0)
    }

    fn address(&self) -> &str {
        if self.service.address.is_empty() { &self.node.address } else { &self.service.address }
    }

    /// Its share of the requests; `None` if it gets none.
    fn weight(&self) -> Option<u32> {
        let weights = self.service.weights.unwrap_or(Weights { passing: 1, warning: 1 });
        let has = |status: &str| self.checks.iter().any(|check| check.status == status);
        let is_well = self.checks.iter().all(|check| matches!(check.status.as_str(), "passing" | "warning"));
        let weight = if has("warning") { weights.warning } else { weights.passing };
        (is_well && weight > 0 && self.service.port > 0).then_some(weight)
    }

    fn endpoint(&self, port_name: &str) -> Option<Value> {
        let weight = self.weight()?;
        Some(json!({
            "address": self.address(),
            "ports": {port_name: self.service.port},
            "labels": self.labels(),
            "locality": self.locality(),
            "weight": weight,
        }))
    }

    fn labels(&self) -> BTreeMap<&str, &str> {
        let tags = self.service.tags.iter().flatten().filter_map(|tag| tag.split_once('='));
        let meta = self.service.meta.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
        // What cannot be a label cannot be selected either.
        tags.chain(meta).filter(|(key, value)| Name::LabelKey.admits(key) && Name::LabelValue.admits(value)).collect()
    }

    fn locality(&self) -> String {
        match self.service.locality.as_ref().or(self.node.locality.as_ref()) {
            Some(Locality { region, zone }) if zone.is_empty() => region.clone(),
            Some(Locality { region, zone }) => format!("{region}/{zone}"),
            None => self.node.datacenter.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(instances: Value) -> Option<Value> {
        let instances: Vec<Instance> = serde_json::from_value(instances).unwrap();
        text("Web", "shop", &instances).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_service_becomes_a_service_entry() {
        let found = entry(json!([
            {"Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"},
             "Service": {"ID": "a", "Address": "", "Port": 8080, "Tags": ["version=v1", "plain"], "Meta": {"protocol": "HTTP"},
                "Weights": {"Passing": 3, "Warning": 1}},
             "Checks": [{"Status": "passing"}]},
            {"Node": {"Address": "10.0.0.2", "Datacenter": "dc1"},
             "Service": {"Address": "10.1.0.2", "Port": 8081, "Tags": null, "Meta": null, "Weights": {"Passing": 3, "Warning": 2},
                "Locality": {"Region": "r", "Zone": "z"}},
             "Checks": [{"Status": "passing"}, {"Status": "warning"}]},
            {"Node": {"Address": "10.0.0.3"}, "Service": {"Port": 8080}, "Checks": [{"Status": "critical"}]},
        ]));
        let expected = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"hosts": ["web.service.consul"], "location": "MESH_INTERNAL", "resolution": "STATIC",
                "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
                "endpoints": [
                    {"address": "10.0.0.1", "ports": {"http": 8080}, "labels": {"version": "v1", "protocol": "HTTP"},
                     "locality": "dc1", "weight": 3},
                    {"address": "10.1.0.2", "ports": {"http": 8081}, "labels": {}, "locality": "r/z", "weight": 2}]},
        });
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn what_cannot_be_called_is_no_service() {
        let without_port = json!([{"Node": {"Address": "10.0.0.1"}, "Service": {"Port": 0}}]);
        assert_eq!(entry(without_port), None);
        assert_eq!(entry(json!([])), None);
        let unwell = entry(
            json!([{"Node": {"Address": "n"}, "Service": {"Port": 1, "Meta": {"mesh-port": "80"}}, "Checks": [{"Status": "critical"}]}]),
        );
        let unwell = unwell.unwrap();
        assert_eq!((&unwell["spec"]["endpoints"], &unwell["spec"]["ports"][0]["number"]), (&json!([]), &json!(80)));
        assert_eq!(unwell["spec"]["resolution"], "DNS", "an address is a name");
    }
}
