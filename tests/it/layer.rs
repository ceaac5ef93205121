//! Services that another server than the mesh's serves.

use std::net::SocketAddr;

use axum::{Router, extract::ConnectInfo, http::HeaderMap, routing::get};
use mesh::{
    Mesh,
    model::{Action, Cluster, Discovery, PathMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost},
};
use tokio::net::TcpListener;

use crate::support;

#[tokio::test]
async fn requests_that_axum_serves_are_counted() {
    let mesh = Mesh::builder().service("shop").label("app", "shop").build().await.unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let layer = mesh.server("shop").unwrap().layer(address).unwrap();
    let layer = layer.with_remote_address(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0));
    let handler = async |ConnectInfo(client): ConnectInfo<SocketAddr>, headers: HeaderMap| {
        format!("{} {}", client.ip(), headers["x-request-id"].len())
    };
    let app = Router::new().route("/", get(handler)).layer(layer);
    let serving = axum::serve(socket, app.into_make_service_with_connect_info::<SocketAddr>());
    tokio::spawn(async move { serving.await });

    let everything = RouteMatch::path(PathMatcher::Prefix("/".into()));
    let route = Route::new(everything, Action::Route(Box::new(RouteAction::to_cluster("shop"))));
    let routes = RouteConfiguration::new("shop", vec![VirtualHost::new("shop", vec![route])]);
    let cluster = Cluster::new("shop", Discovery::Static([address].into_iter().collect()));
    let client = Mesh::builder().cluster(cluster).routes("shop:80", routes).build().await.unwrap();
    let channel = client.channel("shop").unwrap();
    assert_eq!(support::get(&channel, "/").await, (200, "127.0.0.1 36".to_owned()));
    assert_eq!(support::get(&channel, "/none").await.0, 404);

    let metrics = mesh.metrics();
    for code in ["200", "404"] {
        let is_it = |line: &str| {
            line.starts_with("istio_requests_total{reporter=\"destination\"")
                && line.contains("destination_app=\"shop\"")
                && line.contains(&format!("response_code=\"{code}\""))
                && line.ends_with("} 1")
        };
        assert!(metrics.lines().any(is_it), "no {code} in {metrics}");
    }
}
