//! The translation of a configuration, decoded by the data plane.

use std::path::Path;

use mesh_control::config::{Labels, Strictness};
use mesh_control::load::Loaded;
use mesh_control::translate::{Interception, Node, Resources, Role, translate};
use mesh_xds::resource::{Resource, decode, pack};
use prost::{Message, Name};

/// Resources of a node of `reviews`, from `tests/data/full`.
fn resources(role: Role) -> Resources {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/full");
    let loaded = Loaded::from_directory(&directory, Strictness::Strict).expect("the directory is there");
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let node = Node::new(role, Some("reviews"), None, Labels::new()).expect("a valid name");
    translate(&loaded.mesh, &node)
}

/// Decodes all of them as the data plane does.
fn assert_decodable<M: Message + Name + std::fmt::Debug>(resources: &[M]) {
    assert!(!resources.is_empty(), "no {}", M::NAME);
    for resource in resources {
        if let Err(error) = decode(&pack(resource)) {
            panic!("{error}\n{resource:#?}");
        }
    }
}

#[test]
fn the_data_plane_accepts_everything_that_is_generated() {
    for role in [Role::Library, Role::Gateway, Role::Sidecar(Interception::None)] {
        let Resources { listeners, routes, clusters, endpoints, .. } = resources(role);
        assert_decodable(&listeners);
        assert_decodable(&routes);
        assert_decodable(&clusters);
        assert_decodable(&endpoints);
    }
}

#[test]
fn servers_of_a_library_have_no_stream_idle_timeout() {
    let inbound: Vec<_> = (resources(Role::Library).listeners.into_iter())
        .filter(|listener| listener.name.starts_with("xds.istio.io/grpc/lds/inbound/"))
        .collect();
    assert!(!inbound.is_empty());
    for listener in inbound {
        let decoded = decode(&pack(&listener)).map(|decoded| decoded.resource);
        let Ok(Resource::Listener(listener)) = decoded else { panic!("{decoded:?}") };
        let timeout = listener.http_connection_manager().unwrap().stream_idle_timeout;
        assert!(timeout.is_none_or(|timeout| timeout.is_zero()), "{listener:?}");
    }
}

#[test]
fn each_role_listens_where_it_should() {
    let names = |role| -> Vec<String> { resources(role).listeners.into_iter().map(|listener| listener.name).collect() };
    assert_eq!(
        names(Role::Sidecar(Interception::None)),
        ["0.0.0.0_9082", "127.0.0.1_443", "127.0.0.1_5432", "127.0.0.1_80", "127.0.0.1_9080", "127.0.0.1_9081"]
    );
    assert_eq!(
        names(Role::Gateway),
        ["0.0.0.0_8081", "0.0.0.0_8082", "0.0.0.0_8083", "0.0.0.0_8443", "127.0.0.1_8080"]
    );
    assert_eq!(
        names(Role::Library),
        [
            "api.example:80",
            "cdn.example:80",
            "reviews.default.svc.cluster.local:9080",
            "reviews.default.svc.cluster.local:9081",
            "xds.istio.io/grpc/lds/inbound/0.0.0.0:18080",
            "xds.istio.io/grpc/lds/inbound/0.0.0.0:19080",
            "xds.istio.io/grpc/lds/inbound/0.0.0.0:9081",
            "xds.istio.io/grpc/lds/inbound/127.0.0.1:18080",
            "xds.istio.io/grpc/lds/inbound/127.0.0.1:9081",
            "xds.istio.io/grpc/lds/inbound/127.0.0.2:19080",
            "xds.istio.io/grpc/lds/inbound/127.0.0.2:9081",
        ]
    );
}

#[test]
fn only_proxies_number_attempts() {
    let hosts = |role| resources(role).routes.into_iter().flat_map(|routes| routes.virtual_hosts);
    assert!(hosts(Role::Library).all(|host| !host.include_request_attempt_count));
    assert!(hosts(Role::Gateway).any(|host| host.include_request_attempt_count));
}

#[test]
fn every_cluster_that_a_route_names_is_there() {
    for role in [Role::Library, Role::Gateway, Role::Sidecar(Interception::None), Role::Sidecar(Interception::Redirect)]
    {
        let resources = resources(role);
        let text = format!("{:?}", resources.routes);
        let named = text.split('"').filter(|text| text.starts_with("outbound|") && text.matches('|').count() == 3);
        // A library's route configurations are named as clusters are.
        for name in named {
            assert!(resources.clusters.iter().any(|cluster| cluster.name == name), "{role:?} lacks {name}");
        }
    }
}
