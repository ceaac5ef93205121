//! Configuration from code.

use std::error::Error as _;

use mesh::{
    MemoryNetwork, Mesh, Protocol,
    model::{
        AccessLog, AccessLogSink, Cluster, ClusterSpecifier, Discovery, PathMatcher, Route, RouteAction,
        RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster, WeightedClusters,
    },
};

use crate::support::{get, named, serve};

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

#[tokio::test(start_paused = true)]
async fn endpoints_from_code_can_be_replaced_and_need_no_network_in_tests() {
    let network = MemoryNetwork::new();
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let [first, second] = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| address.parse().unwrap());
    for (address, name) in [(first, "first"), (second, "second")] {
        let (socket, server) = (network.bind(address).unwrap(), servers.server("shop").unwrap());
        tokio::spawn(async move { server.serve(socket, named(name)).await });
    }
    let builder = Mesh::builder().connector(network.clone()).endpoints("shop:80", Protocol::Grpc, [first]);
    let mesh = builder.build().await.unwrap();
    let channel = mesh.channel("shop").unwrap();
    assert_eq!(get(&channel, "/").await, (200, "first /".to_owned()));
    mesh.endpoints("shop").unwrap().set([second]);
    assert_eq!(get(&channel, "/").await, (200, "second /".to_owned()));
    mesh.endpoints("shop:80").unwrap().set([]);
    assert_eq!(get(&channel, "/").await.0, 503);
    let metrics = mesh.metrics();
    assert!(metrics.contains("destination_service=\"shop.default.svc.cluster.local\""), "{metrics}");
    assert!(mesh.endpoints("shopp").unwrap_err().is_unknown_target());
}

#[tokio::test]
async fn configuration_from_code_is_checked() {
    let to = |cluster: &str| {
        let all = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), RouteAction::to_cluster(cluster));
        RouteConfiguration::new("shop", vec![VirtualHost::new("shop", vec![all])])
    };
    let builder = || Mesh::builder().endpoints("shop:80", Protocol::Http, []);
    let error = builder().routes("cart:80", to("cart")).build().await.unwrap_err();
    let expected = "the routes of cart:80 refer to the cluster cart, which is not added to MeshBuilder; \
                    its clusters are outbound|80||shop";
    assert!(error.is_config() && error.to_string() == expected, "{error}");
    let error = Mesh::builder().endpoints("shop", Protocol::Http, []).build().await.unwrap_err();
    assert!(error.is_invalid_name(), "{error}");
    assert_eq!(error.to_string(), "the target shop needs a port, such as shop:80, to be configured from code");

    let mesh = builder().routes("cart:80", to("outbound|80||shop")).build().await.unwrap();
    let error = mesh.endpoints("cart").unwrap_err().to_string();
    assert_eq!(error, "the endpoints of cart:80 were not added with MeshBuilder::endpoints, so they cannot be set");
}

#[tokio::test]
async fn an_access_log_from_code_contains_the_requests_of_channels_and_servers() {
    let path = std::env::temp_dir().join(format!("mesh-access-log-{}", std::process::id()));
    let log = || AccessLog::istio(AccessLogSink::File(path.clone()));
    let servers = Mesh::builder().service("shop").access_log(log()).build().await.unwrap();
    let address = serve(&servers, "v1").await;
    let builder = Mesh::builder().access_log(log()).endpoints("shop:80", Protocol::Http, [address]);
    let mesh = builder.build().await.unwrap();
    get(&mesh.channel("shop").unwrap(), "/a").await;
    drop((mesh, servers));
    let has_both = || std::fs::read_to_string(&path).unwrap().matches("\"GET /a ").count() == 2;
    while !has_both() {
        tokio::task::yield_now().await;
    }
    std::fs::remove_file(&path).unwrap();

    let absent = AccessLog::istio(AccessLogSink::File("/nowhere/log".into()));
    let error = Mesh::builder().access_log(absent).build().await.unwrap_err();
    assert!(error.is_config() && error.to_string().starts_with("cannot open access log /nowhere/log: "), "{error}");
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
