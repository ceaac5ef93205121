//! Configuration from code.

use std::error::Error as _;

use mesh::{
    Mesh,
    model::{
        Cluster, ClusterSpecifier, Discovery, PathMatcher, Route, RouteAction, RouteConfiguration, RouteMatch,
        VirtualHost, WeightedCluster, WeightedClusters,
    },
};

use crate::support::{get, serve};

#[tokio::test]
async fn clusters_and_routes_can_come_from_code() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let mut builder = Mesh::builder();
    for name in ["v1", "v2"] {
        let address = serve(&servers, name).await;
        builder = builder.cluster(Cluster::new(name, Discovery::Static([address].into_iter().collect())));
    }
    let split = [("v1", 1), ("v2", 1)].map(|(name, weight)| WeightedCluster::new(name, weight)).to_vec();
    let split = RouteAction::new(ClusterSpecifier::Weighted(WeightedClusters::new(split)));
    let to_v2 = RouteAction::to_cluster("v2");
    let routes = [("/v2/", to_v2), ("/", split)]
        .map(|(prefix, action)| Route::new(RouteMatch::path(PathMatcher::Prefix(prefix.into())), action));
    let routes = RouteConfiguration::new("shop", vec![VirtualHost::new("shop", routes.to_vec())]);
    let mesh = builder.routes("shop:80", routes).build().await.unwrap();

    let channel = mesh.channel("shop").unwrap();
    assert_eq!(get(&channel, "/v2/a").await, (200, "v2 /v2/a".to_owned()));
    let mut bodies = Vec::new();
    for _ in 0..64 {
        bodies.push(get(&channel, "/").await.1);
    }
    let v1 = bodies.iter().filter(|body| *body == "v1 /").count();
    assert!((1..64).contains(&v1), "{v1} of 64 went to v1");
    assert!(mesh.metrics().contains("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"v2\"}"));
}

#[tokio::test]
async fn invalid_names_and_unknown_targets_are_distinguished() {
    let mesh = Mesh::builder().build().await.unwrap();
    let error = mesh.channel("not a name").unwrap_err();
    assert!(error.is_invalid_name() && !error.is_unknown_target(), "{error}");
    let error = mesh.channel("shop:80").unwrap_err();
    assert!(error.is_unknown_target(), "{error}");
    assert!(mesh.server("not a name").unwrap_err().is_invalid_name());
}

#[tokio::test]
async fn an_invalid_name_is_reported_with_its_rule() {
    for (builder, expected) in [
        (Mesh::builder().service("shop").namespace("Bad Name"), "invalid namespace \"Bad Name\": expected at most 63"),
        (Mesh::builder().namespace(""), "invalid namespace \"\": expected"),
        (Mesh::builder().service(""), "invalid service name \"\": a host must not be empty"),
        (Mesh::builder().service("a b"), "invalid service name \"a b\": \"a b\" is not a DNS label"),
        (Mesh::builder().label("a b", "c"), "invalid key \"a b\" of a label: expected"),
        (Mesh::builder().label("version", "v 1"), "invalid value \"v 1\" of the label \"version\": expected"),
    ] {
        let error = builder.build().await.unwrap_err();
        assert!(error.is_invalid_name() && !error.is_config(), "{error}");
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        assert!(format!("{error}{cause}").starts_with(expected), "{error}{cause}");
    }
}
