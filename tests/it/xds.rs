//! Configuration from control planes over gRPC.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use http::{Request, Response};
use mesh::{Body, Mesh};
use mesh_xds::resource::ResourceType;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tower::service_fn;

use crate::{
    ads::{Ads, bootstrap, endpoints, listener, server_listener, service},
    support::{get, serve},
};

const LONG: Duration = Duration::from_secs(20);

async fn member(bootstrap: mesh::GrpcBootstrap) -> Mesh {
    Mesh::builder().xds(bootstrap).build().await.unwrap()
}

#[tokio::test]
async fn a_channel_follows_its_listener_over_grpc() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let (first, second) = (serve(&servers, "first").await, serve(&servers, "second").await);
    let ads = Ads::start(service("shop", first)).await;
    let mesh = member(ads.bootstrap()).await;
    let channel = mesh.channel("xds:///shop").unwrap();
    assert_eq!(get(&channel, "/a").await, (200, "first /a".to_owned()));

    ads.set([endpoints("shop", second)]);
    let moved = async {
        while get(&channel, "/b").await != (200, "second /b".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, moved).await.unwrap();
    let first_request = &ads.requests()[0];
    let node = first_request.node.as_ref().unwrap();
    assert_eq!((&*node.id, &*node.user_agent_name), ("test", "mesh"));
    assert_eq!(first_request.resource_names, ["shop"]);
    assert!(ads.requests()[1..].iter().all(|request| request.node.is_none()), "the node is sent once");
}

#[tokio::test]
async fn a_request_waits_for_a_control_plane_that_comes_later() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let endpoint = serve(&servers, "shop").await;
    // A port that nothing listens on.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mesh = member(bootstrap(&[address])).await;
    let channel = mesh.channel("shop").unwrap();
    let waiting = tokio::spawn(async move { get(&channel, "/").await });
    let _ads = Ads::start_at(address, service("shop", endpoint)).await;
    assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), (200, "shop /".to_owned()));
}

#[tokio::test]
async fn a_server_serves_while_it_has_a_listener() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let ads = Ads::start(service("shop", address)).await;
    let mesh = member(ads.bootstrap()).await;
    let (mode, mut is_serving) = watch::channel(false);
    let hello = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new("hello".to_owned())));
    let server = mesh.server("shop").unwrap().on_serving(move |now| mode.send_modify(|mode| *mode = now));
    tokio::spawn(server.serve(socket, hello));
    ads.received(|request| request.resource_names.iter().any(|name| name.starts_with("inbound/"))).await;
    let answer = async |address: SocketAddr| {
        let client = Mesh::builder().endpoints("shop:80", mesh::Protocol::Http, [address]).build().await.unwrap();
        get(&client.channel("shop:80").unwrap(), "/").await.0
    };
    assert_eq!(answer(address).await, 503, "not serving");

    ads.set([server_listener(address)]);
    timeout(LONG, is_serving.wait_for(|is_serving| *is_serving)).await.unwrap().unwrap();
    assert_eq!(answer(address).await, 200);
    ads.remove(ResourceType::Listener, &format!("inbound/{address}"));
    timeout(LONG, is_serving.wait_for(|is_serving| !*is_serving)).await.unwrap().unwrap();
    assert_eq!(answer(address).await, 503, "not serving any more");
}

#[tokio::test]
async fn a_refused_listener_does_not_replace_a_good_one() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let ads = Ads::start(service("shop", serve(&servers, "shop").await)).await;
    let mesh = member(ads.bootstrap()).await;
    let channel = mesh.channel("shop").unwrap();
    assert_eq!(get(&channel, "/").await.0, 200);
    ads.set([listener("shop", "''")]);
    let refusal = timeout(LONG, ads.received(|request| request.error_detail.is_some())).await.unwrap();
    let message = refusal.error_detail.unwrap().message;
    assert!(message.starts_with("listener shop: api_listener.api_listener.rds.route_config_name"), "{message}");
    assert_eq!(get(&channel, "/").await.0, 200);
}
