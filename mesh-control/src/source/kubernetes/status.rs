//! Writes the status of resources of Gateway API.
//!
//! What other controllers have written stays: in a route, their parents. A condition keeps its `lastTransitionTime` until its
//! status changes, and nothing is written if nothing would change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use mesh_core::causes::with_causes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::kinds::{Served, Watched, discover};
use crate::config::{Kind, ParentRef};
use crate::gateway_api::{CONTROLLER, Condition, GatewayStatus, RouteStatus, Statuses};

/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// A resource with a status: kind, namespace and name.
type Target = (Kind, String, String);

/// Writes each change of the statuses while this process is the leader.
pub(super) async fn write(
    client: Client,
    mut statuses: watch::Receiver<Statuses>,
    mut is_leader: watch::Receiver<bool>,
) {
    let mut writer = Writer { client, served: BTreeMap::new(), routes: BTreeSet::new() };
    loop {
        if *is_leader.borrow_and_update() {
            let statuses = statuses.borrow_and_update().clone();
            if let Err(error) = writer.write(&statuses).await {
                tracing::warn!("cannot write status: {}", with_causes(&error));
                sleep(RETRY).await;
                continue;
            }
        }
        tokio::select! {
            changed = statuses.changed() => if changed.is_err() { return },
            changed = is_leader.changed() => if changed.is_err() { return },
        }
    }
}

struct Writer {
    client: Client,
    served: BTreeMap<Kind, Served>,
    /// Routes that have a status of this controller.
    routes: BTreeSet<Target>,
}

impl Writer {
    async fn write(&mut self, statuses: &Statuses) -> kube::Result<()> {
        for name in &statuses.classes {
            let target = (Kind::GatewayClass, String::new(), name.clone());
            self.update(&target, |object| {
                let accepted = Condition::of_class();
                json!({"conditions": conditions(&[accepted], &object.data["status"]["conditions"], object)})
            })
            .await?;
        }
        for gateway in &statuses.gateways {
            let target = (Kind::KubernetesGateway, gateway.namespace.clone(), gateway.name.clone());
            self.update(&target, |object| of_gateway(gateway, object)).await?;
        }
        let mut routes: BTreeMap<Target, Vec<&RouteStatus>> = BTreeMap::new();
        for target in &self.routes {
            // A route without a parent of this controller loses its status.
            routes.insert(target.clone(), Vec::new());
        }
        for route in &statuses.routes {
            let target = (route.kind, route.namespace.clone(), route.name.clone());
            routes.entry(target).or_default().push(route);
        }
        for (target, parents) in &routes {
            self.update(target, |object| of_route(parents, object)).await?;
        }
        self.routes = routes.into_iter().filter(|(_, parents)| !parents.is_empty()).map(|(target, _)| target).collect();
        Ok(())
    }

    /// Patches the status of an object with what `status` makes of it, if that is a change.
    async fn update(
        &mut self,
        (kind, namespace, name): &Target,
        status: impl Fn(&DynamicObject) -> Value,
    ) -> kube::Result<()> {
        let Some(api) = self.api(*kind, namespace).await? else { return Ok(()) };
        let Some(object) = api.get_opt(name).await? else { return Ok(()) };
        let new = status(&object);
        let is_same =
            new.as_object().is_some_and(|new| new.iter().all(|(field, value)| object.data["status"][field] == *value));
        if is_same {
            return Ok(());
        }
        // With the version that was read, what another controller has written meanwhile is not overwritten.
        let patch = json!({"metadata": {"resourceVersion": object.metadata.resource_version}, "status": new});
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn api(&mut self, kind: Kind, namespace: &str) -> kube::Result<Option<Api<DynamicObject>>> {
        if !self.served.contains_key(&kind) {
            let api = kind.api();
            let watched = Watched { group: api.group, versions: api.versions, kind: kind.as_str(), only: None };
            let Some(served) = discover(&self.client, watched).await? else { return Ok(None) };
            self.served.insert(kind, served);
        }
        let client = self.client.clone();
        Ok(self.served.get(&kind).map(|served| {
            if served.is_namespaced {
                Api::namespaced_with(client, namespace, &served.resource)
            } else {
                Api::all_with(client, &served.resource)
            }
        }))
    }
}

fn of_gateway(gateway: &GatewayStatus, object: &DynamicObject) -> Value {
    let old = &object.data["status"];
    let listeners = gateway.listeners.iter().map(|listener| {
        let known = old["listeners"].as_array().into_iter().flatten().find(|it| it["name"] == listener.name.as_str());
        let group = Kind::HTTPRoute.api().group;
        let kinds: Vec<_> = listener.supported_kinds.iter().map(|kind| json!({"group": group, "kind": kind})).collect();
        let old = known.map_or(&Value::Null, |known| &known["conditions"]);
        json!({
            "name": listener.name,
            "supportedKinds": kinds,
            "attachedRoutes": listener.attached_routes,
            "conditions": conditions(&listener.conditions, old, object),
        })
    });
    json!({
        "conditions": conditions(&gateway.conditions, &old["conditions"], object),
        "listeners": listeners.collect::<Vec<_>>(),
    })
}

fn of_route(parents: &[&RouteStatus], object: &DynamicObject) -> Value {
    let old: Vec<Value> = object.data["status"]["parents"].as_array().cloned().unwrap_or_default();
    let ours = |parent: &Value| parent["controllerName"] == CONTROLLER;
    let new = parents.iter().map(|status| {
        let reference = parent_ref(&status.parent);
        let known = old.iter().filter(|it| ours(it)).find(|it| it["parentRef"] == reference);
        let conditions =
            conditions(&status.conditions, known.map_or(&Value::Null, |known| &known["conditions"]), object);
        json!({"parentRef": reference, "controllerName": CONTROLLER, "conditions": conditions})
    });
    let others = old.iter().filter(|parent| !ours(parent)).cloned();
    json!({"parents": others.chain(new).collect::<Vec<_>>()})
}

/// The reference as the route has it, with the defaults that the server adds.
fn parent_ref(parent: &ParentRef) -> Value {
    let object = &parent.object;
    let mut reference = json!({"group": object.group, "kind": object.kind, "name": object.name});
    let optional = [
        ("namespace", object.namespace.as_ref().map(|it| json!(it))),
        ("sectionName", parent.section_name.as_ref().map(|it| json!(it))),
        ("port", parent.port.map(|it| json!(it))),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            reference[field] = value;
        }
    }
    reference
}

/// Conditions as the API has them; `old` are those of before.
fn conditions(new: &[Condition], old: &Value, object: &DynamicObject) -> Vec<Value> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let of = |condition: &Condition| {
        let status = if condition.status { "True" } else { "False" };
        let is_same = |it: &&Value| it["type"] == condition.condition_type && it["status"] == status;
        let known = old.as_array().into_iter().flatten().find(is_same);
        let time = known.and_then(|known| known["lastTransitionTime"].as_str()).unwrap_or(&now);
        json!({
            "type": condition.condition_type,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": object.metadata.generation.unwrap_or(0),
            "lastTransitionTime": time,
        })
    };
    new.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ObjectRef;

    fn route(is_accepted: bool) -> RouteStatus {
        let mut accepted = Condition::of_class();
        accepted.status = is_accepted;
        RouteStatus {
            kind: Kind::HTTPRoute,
            namespace: "n".to_owned(),
            name: "r".to_owned(),
            parent: ParentRef {
                object: ObjectRef {
                    group: Kind::HTTPRoute.api().group.to_owned(),
                    kind: "Gateway".to_owned(),
                    namespace: None,
                    name: "edge".to_owned(),
                },
                section_name: Some("web".to_owned()),
                port: None,
            },
            conditions: vec![accepted],
        }
    }

    fn object(status: &Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "r", "generation": 3}, "status": status})).unwrap()
    }

    #[test]
    fn other_parents_and_the_times_of_conditions_stay() {
        let other = json!({"parentRef": {"name": "x"}, "controllerName": "example.com/other", "conditions": []});
        let first = of_route(&[&route(true)], &object(&json!({"parents": [other]})));
        assert_eq!(first["parents"][0], other);
        let own = &first["parents"][1];
        let reference =
            json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "sectionName": "web"});
        assert_eq!((&own["parentRef"], &own["conditions"][0]["observedGeneration"]), (&reference, &json!(3)));
        let mut old = first.clone();
        old["parents"][1]["conditions"][0]["lastTransitionTime"] = json!("2020-01-01T00:00:00Z");
        assert_eq!(of_route(&[&route(true)], &object(&old)), old, "nothing has changed");
        let changed = of_route(&[&route(false)], &object(&old));
        assert_eq!(changed["parents"][1]["conditions"][0]["status"], "False");
        assert_ne!(changed["parents"][1]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(of_route(&[], &object(&old)), json!({"parents": [other]}), "only what is its own is removed");
    }
}
