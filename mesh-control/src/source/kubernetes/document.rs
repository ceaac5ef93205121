//! An object as a document: what a file could have, without the fields that mean nothing to a mesh.

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

/// Fields of `metadata` that are kept.
const METADATA: [&str; 6] = ["name", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp"];
/// An annotation that repeats the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Keys of Secrets that are read.
const SECRET_KEYS: [&str; 8] = ["tls.crt", "tls.key", "ca.crt", "ca.crl", "cert", "key", "cacert", "crl"];

/// The text of a document, one field in each line; `None` if nothing of the object is read.
pub(super) fn text(object: &DynamicObject, api_version: &str, kind: &str) -> Option<String> {
    let mut fields = match &object.data {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    let status = fields.remove("status");
    match kind {
        "Pod" => {
            if let Some(spec) = fields.get_mut("spec") {
                keep(spec, &["nodeName", "serviceAccountName", "containers", "initContainers"]);
                for list in ["containers", "initContainers"] {
                    let containers = spec.get_mut(list).and_then(Value::as_array_mut);
                    containers.into_iter().flatten().for_each(|container| keep(container, &["ports", "restartPolicy"]));
                }
            }
            fields.insert("status".to_owned(), pod_status(status.unwrap_or_default()));
        }
        "Node" | "Namespace" => fields.clear(),
        "Secret" => {
            let data = fields.get_mut("data")?;
            keep(data, &SECRET_KEYS);
            if data.as_object().is_none_or(Map::is_empty) {
                return None;
            }
            fields.retain(|name, _| name == "data");
        }
        _ => {}
    }
    let metadata = metadata(object, kind);
    fields.insert("apiVersion".to_owned(), json!(api_version));
    fields.insert("kind".to_owned(), json!(kind));
    fields.insert("metadata".to_owned(), metadata);
    serde_json::to_string_pretty(&fields).ok()
}

fn metadata(object: &DynamicObject, kind: &str) -> Value {
    let mut metadata = serde_json::to_value(&object.metadata).unwrap_or_default();
    keep(&mut metadata, &METADATA);
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        // Those of Pods and machines are often heartbeats.
        annotations.retain(|name, _| name != LAST_APPLIED && !matches!(kind, "Pod" | "Node" | "Secret"));
    }
    metadata
}

/// Where the Pod is, and whether it is ready.
fn pod_status(mut status: Value) -> Value {
    keep(&mut status, &["podIP", "podIPs", "phase", "conditions"]);
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| condition["type"] == "Ready");
        for condition in conditions {
            keep(condition, &["type", "status"]);
        }
    }
    status
}

fn keep(value: &mut Value, names: &[&str]) {
    if let Value::Object(fields) = value {
        fields.retain(|name, _| names.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(kind: &str, mut object: Value) -> Option<Value> {
        object["apiVersion"] = json!("v1");
        object["kind"] = json!(kind);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        text(&object, "v1", kind).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn heartbeats_are_left_out() {
        let pod = |heartbeat: &str| {
            json!({
                "metadata": {"name": "a", "namespace": "n", "resourceVersion": heartbeat, "annotations": {"beat": heartbeat},
                    "managedFields": [{"manager": heartbeat}]},
                "spec": {"nodeName": "m", "containers": [{"name": "c", "env": [{"name": heartbeat}], "ports": [{"name": "http",
                    "containerPort": 80}]}]},
                "status": {"podIP": "10.0.0.1", "conditions": [
                    {"type": "Ready", "status": "True", "lastProbeTime": heartbeat}, {"type": "Other", "status": heartbeat}]}
            })
        };
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n", "annotations": {}},
            "spec": {"nodeName": "m", "containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        });
        assert_eq!(document("Pod", pod("1")), Some(expected.clone()));
        assert_eq!(document("Pod", pod("2")), Some(expected));
        let service = json!({"metadata": {"name": "a"}, "spec": {"ports": []}, "status": {"loadBalancer": {}}});
        let expected = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": []}});
        assert_eq!(document("Service", service), Some(expected));
    }

    #[test]
    fn secrets_without_certificates_are_not_kept() {
        assert_eq!(document("Secret", json!({"metadata": {"name": "a"}, "data": {"password": "eA=="}})), None);
        let tls = json!({"metadata": {"name": "a"}, "type": "x", "data": {"tls.crt": "eA==", "password": "eA=="}});
        let expected =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"tls.crt": "eA=="}});
        assert_eq!(document("Secret", tls), Some(expected));
    }
}
