//! Handlers of a program under `serve`: the addresses of the connection, the deadline of a call, and upgrades.

#[path = "../../examples/generated/helloworld.rs"]
mod helloworld;

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    response::IntoResponse as _,
    routing::get,
};
use http::{StatusCode, header};
use mesh::{Connection, Mesh};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Response, Status, service::Routes};
use tower::ServiceExt as _;

use self::helloworld::{
    HelloReply, HelloRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};
use crate::support::{self, ConfigDir, shop};

async fn listen() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Sends `request` on a new connection; returns everything that is received until it is closed, and its local address.
async fn exchange(address: SocketAddr, request: &str) -> (String, SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let local = stream.local_addr().unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    (response, local)
}

#[tokio::test]
async fn a_handler_gets_the_addresses_of_the_connection() {
    let (socket, address) = listen().await;
    let handler = async |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
        let connection = request.extensions().get::<Connection>().unwrap();
        assert_eq!(connection.client_address(), Some(peer));
        let addresses = [Some(peer), connection.peer_address(), connection.local_address()];
        format!("{addresses:?} {}", connection.listener())
    };
    let app = Router::new().route("/", get(handler));
    let mesh = Mesh::builder().service("shop").build().await.unwrap();
    tokio::spawn(async move { mesh.server("shop").unwrap().serve(socket, app).await });
    let (response, local) = exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let expected = format!("{:?} {address}", [Some(local), Some(local), Some(address)]);
    assert!(response.ends_with(&expected), "{response} does not end with {expected}");
}

/// Greets the address of the client; for the name `slow`, never responds.
#[derive(Clone, Copy, Debug)]
struct Host;

#[tonic::async_trait]
impl Greeter for Host {
    async fn say_hello(&self, request: tonic::Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        if request.get_ref().name == "slow" {
            std::future::pending::<()>().await;
        }
        let (remote, local) = (request.remote_addr(), request.local_addr());
        Ok(Response::new(HelloReply { message: format!("{:?} {local:?}", remote.map(|remote| remote.ip())) }))
    }
}

#[tokio::test]
async fn tonic_gets_the_addresses_and_a_call_ends_at_its_deadline() {
    for by_layer in [false, true] {
        let (socket, address) = listen().await;
        let mesh = Mesh::builder().service("greeter").build().await.unwrap();
        let server = mesh.server("greeter").unwrap();
        let service = Routes::new(GreeterServer::new(Host));
        if by_layer {
            // axum's server does not support `grpc-timeout`.
            let app = service.into_axum_router().layer(server.layer(address).unwrap());
            tokio::spawn(async move { axum::serve(socket, app).await });
        } else {
            tokio::spawn(server.serve(socket, service));
        }
        let mut greeter = GreeterClient::new(support::channel_to(address, true, |_| {}).await);
        if !by_layer {
            let greeting = greeter.say_hello(HelloRequest { name: "Ada".to_owned() }).await.unwrap().into_inner();
            assert_eq!(greeting.message, format!("Some(127.0.0.1) {:?}", Some(address)));
        }
        let mut request = tonic::Request::new(HelloRequest { name: "slow".to_owned() });
        request.set_timeout(Duration::from_millis(50));
        let status = greeter.say_hello(request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }
}

/// Upgrades the connection to the requested protocol, and echoes the received bytes.
async fn echo(mut request: Request) -> axum::response::Response {
    let protocol = request.headers()[header::UPGRADE].clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
        let mut received = [0; 4];
        io.read_exact(&mut received).await.unwrap();
        io.write_all(&received).await.unwrap();
    });
    let headers = [(header::CONNECTION, "upgrade".parse().unwrap()), (header::UPGRADE, protocol)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

#[tokio::test]
async fn a_handler_may_upgrade_its_connection() {
    let dir = ConfigDir::new();
    for is_configured in [false, true] {
        let (socket, address) = listen().await;
        let mut builder = Mesh::builder().service("shop");
        if is_configured {
            dir.write("services.yaml", &shop(address.port()));
            builder = builder.config_dir(dir.path());
        }
        let mesh = builder.build().await.unwrap();
        let app = Router::new().route("/ws", get(echo));
        tokio::spawn(async move { mesh.server("shop").unwrap().serve(socket, app).await });
        let request = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nping";
        let (answer, _) = exchange(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nping"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_may_upgrade_a_connection_through_a_channel() {
    let dir = ConfigDir::new();
    for is_directory in [false, true] {
        let (socket, address) = listen().await;
        dir.write("services.yaml", &shop(address.port()));
        let server = Mesh::builder().service("shop").build().await.unwrap();
        let app = Router::new().route("/ws", get(echo));
        tokio::spawn(async move { server.server("shop").unwrap().serve(socket, app).await });

        let builder = Mesh::builder();
        let mesh = if is_directory {
            builder.config_dir(dir.path()).build().await.unwrap()
        } else {
            builder.endpoints("shop:80", mesh::Protocol::Http, [address]).build().await.unwrap()
        };
        let request = http::Request::get("/ws").header(header::CONNECTION, "upgrade");
        let request = request.header(header::UPGRADE, "websocket").body(axum::body::Body::empty()).unwrap();
        let Ok(mut response) = mesh.channel("shop").unwrap().oneshot(request).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let mut io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        io.write_all(b"ping").await.unwrap();
        let mut received = [0; 4];
        io.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"ping");
    }
}
