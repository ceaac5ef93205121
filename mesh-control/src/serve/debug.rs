//! What istiod shows below `/debug`, as JSON.

use mesh_xds::json;
use mesh_xds::resource::ResourceType;
use serde_json::{Map, Value, json};

use crate::server::{Connection, ControlPlane, Form};

/// Which responses the clients have received and accepted, by their nonces. istiod `/debug/syncz`.
pub(super) fn syncz(control_plane: &ControlPlane) -> Value {
    control_plane.connections().open().iter().map(status).collect()
}

fn status(connection: &Connection) -> Value {
    let form = match connection.form {
        Form::StateOfTheWorld => "SOTW",
        Form::Incremental => "DELTA",
    };
    let mut fields = Map::from_iter([
        ("proxy".to_owned(), workload(&connection.node_id).into()),
        ("proxy_type".to_owned(), connection.node_id.split('~').next().unwrap_or_default().into()),
        ("node".to_owned(), connection.node_id.as_str().into()),
        ("identities".to_owned(), connection.identities.clone().into()),
        ("protocol".to_owned(), form.into()),
    ]);
    for kind in ResourceType::ALL {
        let status = &connection.types[kind as usize];
        let mut put = |what: &str, value: Value| fields.insert(format!("{}_{what}", name(kind)), value);
        if status.sent > 0 {
            put("sent", status.sent.to_string().into());
        }
        if status.acked > 0 {
            put("acked", status.acked.to_string().into());
        }
        if let Some(error) = &status.rejected {
            put("rejected", error.as_str().into());
        }
    }
    Value::Object(fields)
}

fn name(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Secret => "secret",
        ResourceType::Cluster => "cluster",
        ResourceType::ClusterLoadAssignment => "endpoint",
        ResourceType::Listener => "listener",
        ResourceType::RouteConfiguration => "route",
    }
}

/// `NAME.NAMESPACE` of an id `TYPE~IP~NAME.NAMESPACE~DOMAIN`.
fn workload(id: &str) -> &str {
    id.split('~').nth(2).unwrap_or(id)
}

/// The resources of a client, without private keys; `None` if no client has this id or name. istiod `/debug/config_dump`.
pub(super) fn config_dump(control_plane: &ControlPlane, id: &str) -> Option<Value> {
    let open = control_plane.connections().open();
    let connection = open.iter().find(|it| it.node_id == id || workload(&it.node_id) == id)?;
    let of_type = |kind| {
        let all = control_plane.shown_resources(connection, kind);
        let shown = all.iter().filter_map(|any| serde_json::to_value(json::any_to_json(any)).ok());
        (format!("{}s", name(kind)), shown.collect::<Value>())
    };
    Some(Value::Object(ResourceType::ALL.map(of_type).into_iter().collect()))
}

/// The endpoints of all services. istiod `/debug/endpointz`.
pub(super) fn endpointz(control_plane: &ControlPlane) -> Value {
    let mesh = control_plane.mesh();
    let mut all = Vec::new();
    for service in mesh.registry.services() {
        for port in &service.ports {
            let of_port =
                service.endpoints.iter().filter_map(|endpoint| Some((endpoint, endpoint.ports.get(&port.number)?)));
            let endpoints = of_port.map(|(endpoint, target)| {
                json!({
                    "address": endpoint.address,
                    "port": target,
                    "namespace": endpoint.namespace,
                    "service_account": endpoint.service_account,
                    "labels": endpoint.labels,
                    "locality": endpoint.locality,
                    "weight": endpoint.weight,
                })
            });
            let endpoints: Vec<_> = endpoints.collect();
            all.push(json!({"svc": format!("{}:{}", service.host, port.number), "ep": endpoints}));
        }
    }
    Value::Array(all)
}
