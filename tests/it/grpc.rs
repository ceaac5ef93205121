//! A tonic client and a tonic server.

#[path = "../../examples/generated/helloworld.rs"]
mod helloworld;

use std::sync::Arc;

use mesh::{
    Mesh,
    model::{
        Action, Cluster, Discovery, HttpProtocol, PathMatcher, Route, RouteAction, RouteConfiguration, RouteMatch,
        VirtualHost,
    },
};
use tokio::{
    net::TcpListener,
    sync::{Notify, oneshot},
};
use tonic::{Code, Request, Response, Status, service::Routes};

use self::helloworld::{
    HelloReply, HelloRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};

/// A greeter: `slow` waits for `may_end`, and `nobody` is an error.
#[derive(Clone, Default)]
struct Host {
    has_begun: Arc<Notify>,
    may_end: Arc<Notify>,
}

#[tonic::async_trait]
impl Greeter for Host {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let name = request.into_inner().name;
        match name.as_str() {
            "nobody" => return Err(Status::not_found("there is nobody")),
            "slow" => {
                self.has_begun.notify_one();
                self.may_end.notified().await;
            }
            _ => {}
        }
        Ok(Response::new(HelloReply { message: format!("hello {name}") }))
    }
}

fn hello(name: &str) -> HelloRequest {
    HelloRequest { name: name.to_owned() }
}

#[tokio::test]
async fn calls_pass_with_their_status_and_a_server_drains_before_it_ends() {
    let host = Host::default();
    let servers = Mesh::builder().service("greeter").build().await.unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut cluster = Cluster::new("greeter", Discovery::Static(socket.local_addr().into_iter().collect()));
    cluster.http_protocol_options.protocol = HttpProtocol::Http2;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = servers.server("greeter").unwrap().with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::spawn(server.serve(socket, Routes::new(GreeterServer::new(host.clone()))));

    let everything = RouteMatch::path(PathMatcher::Prefix("/".into()));
    let route = Route::new(everything, Action::Route(Box::new(RouteAction::to_cluster("greeter"))));
    let routes = RouteConfiguration::new("greeter", vec![VirtualHost::new("greeter", vec![route])]);
    let mesh = Mesh::builder().cluster(cluster).routes("greeter:50051", routes).build().await.unwrap();
    let mut greeter = GreeterClient::new(mesh.channel("greeter").unwrap());

    assert_eq!(greeter.say_hello(hello("Ada")).await.unwrap().into_inner().message, "hello Ada");
    let status = greeter.say_hello(hello("nobody")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is nobody"));

    let mut slow_greeter = greeter.clone();
    let slow = tokio::spawn(async move { slow_greeter.say_hello(hello("slow")).await });
    host.has_begun.notified().await;
    drop(stop);
    tokio::task::yield_now().await;
    host.may_end.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().into_inner().message, "hello slow");
    serving.await.unwrap().unwrap();

    let status = greeter.say_hello(hello("Ada")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let metrics = mesh.metrics();
    for labels in ["request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"5\"", "response_flags=\"UF"]
    {
        let requests = |line: &str| line.starts_with("istio_requests_total{") && line.contains(labels);
        assert!(metrics.lines().any(requests), "no {labels} in {metrics}");
    }
}
