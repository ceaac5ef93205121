//! Channels and services wrapped by other libraries: tonic's interceptors and services, tower-http's layers, axum's
//! extractors. Most of these tests check that the types fit together.

#[path = "../../examples/generated/helloworld.rs"]
mod helloworld;

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, Full};
use mesh::{Body, Mesh};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::{Code, Response, Status, service::Routes};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _};
use tower_http::{
    auth::AddAuthorizationLayer,
    compression::CompressionLayer,
    decompression::DecompressionLayer,
    set_header::{SetRequestHeaderLayer, SetResponseHeaderLayer},
    timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
    validate_request::ValidateRequestHeaderLayer,
};

use self::helloworld::{
    HelloReply, HelloRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};
use crate::support::channel_to;

const LONG: Duration = Duration::from_secs(60);
const X_LAYER: HeaderName = HeaderName::from_static("x-layer");
const AUTHORIZATION: &str = "Bearer secret";

/// Greets with the headers that it has received.
#[derive(Clone, Copy, Debug)]
struct Echo;

#[tonic::async_trait]
impl Greeter for Echo {
    async fn say_hello(&self, request: tonic::Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let got = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        Ok(Response::new(HelloReply { message: format!("{} {}", got("authorization"), got("x-layer")) }))
    }
}

fn hello() -> HelloRequest {
    HelloRequest { name: "Ada".to_owned() }
}

fn authenticate(mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    request.metadata_mut().insert("authorization", AUTHORIZATION.parse().unwrap());
    Ok(request)
}

fn check_auth(request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    match request.metadata().get("authorization") {
        Some(value) if value == AUTHORIZATION => Ok(request),
        _ => Err(Status::unauthenticated("no valid token")),
    }
}

async fn serve<S, B>(service: S) -> SocketAddr
where
    S: tower::Service<Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<mesh::BoxError>,
    S::Future: Send,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<mesh::BoxError>,
{
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mesh = Mesh::builder().service("echo").build().await.unwrap();
    tokio::spawn(async move { mesh.server("echo").unwrap().serve(socket, service).await });
    address
}

#[tokio::test]
async fn a_channel_works_under_interceptors_and_the_layers_of_tower_http() {
    let address = serve(Routes::new(GreeterServer::with_interceptor(Echo, check_auth))).await;
    let channel = channel_to(address, true, |_| {}).await;

    let mut plain = GreeterClient::new(channel.clone());
    assert_eq!(plain.say_hello(hello()).await.unwrap_err().code(), Code::Unauthenticated);

    let mut intercepted = GreeterClient::with_interceptor(channel.clone(), authenticate);
    assert_eq!(intercepted.say_hello(hello()).await.unwrap().into_inner().message, "Bearer secret -");

    let layered = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .layer(ResponseBodyTimeoutLayer::new(LONG))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LONG))
        .layer(RequestBodyTimeoutLayer::new(LONG))
        .layer(DecompressionLayer::new())
        .layer(CompressionLayer::new())
        .layer(AddAuthorizationLayer::bearer("secret"))
        .layer(SetRequestHeaderLayer::overriding(X_LAYER, HeaderValue::from_static("seen")))
        .layer(SetResponseHeaderLayer::overriding(X_LAYER, HeaderValue::from_static("seen")))
        .service(channel.clone());
    let mut layered = GreeterClient::new(layered);
    let reply = layered.say_hello(hello()).await.unwrap();
    assert_eq!(
        (reply.metadata().get("x-layer").unwrap().to_str().unwrap(), &*reply.get_ref().message),
        ("seen", "Bearer secret seen")
    );

    let intercepted = ServiceBuilder::new()
        .layer(tonic::service::InterceptorLayer::new(authenticate))
        .layer(tonic_web::GrpcWebClientLayer::new())
        .service(channel);
    drop(GreeterClient::new(intercepted));
}

#[tokio::test]
async fn a_server_takes_the_services_of_tonic_under_layers() {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_service_status("echo", tonic_health::ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap();
    let routes = Routes::new(GreeterServer::new(Echo)).add_service(health).add_service(reflection);
    let service = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .layer(ResponseBodyTimeoutLayer::new(LONG))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LONG))
        .layer(RequestBodyTimeoutLayer::new(LONG))
        .layer(SetResponseHeaderLayer::overriding(X_LAYER, HeaderValue::from_static("seen")))
        .layer(tonic_web::GrpcWebLayer::new())
        .service(routes);
    let address = serve(service.clone()).await;
    let channel = channel_to(address, true, |_| {}).await;

    let reply = GreeterClient::new(channel.clone()).say_hello(hello()).await.unwrap();
    assert_eq!(reply.metadata().get("x-layer").unwrap(), "seen");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: "echo".to_owned() };
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);

    // A browser: gRPC-Web on HTTP/1.1.
    let browser = channel_to(address, false, |_| {}).await;
    let request = || {
        let request = Request::post("/helloworld.Greeter/SayHello").header(header::HOST, "echo");
        let request = request.header(header::CONTENT_TYPE, "application/grpc-web+proto");
        request.body(Full::new(bytes::Bytes::from_static(b"\0\0\0\0\0"))).unwrap()
    };
    let response = browser.oneshot(request()).await.unwrap_or_else(|never| match never {});
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/grpc-web+proto");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.windows(13).any(|part| part == b"grpc-status:0"), "{body:?}");

    // The same service behind the layer, served by another server.
    let mesh = Mesh::builder().service("echo").build().await.unwrap();
    let layer = mesh.server("echo").unwrap().layer(address).unwrap();
    let response = layer.layer(service).oneshot(request()).await.unwrap_or_else(|never| match never {});
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/grpc-web+proto");
}

#[derive(Debug, Deserialize, Serialize)]
struct Todo {
    text: String,
    done: bool,
}

#[tokio::test]
async fn a_server_takes_extractors_of_axum_under_layers() {
    async fn list(
        State(greeting): State<&'static str>,
        Path(id): Path<u32>,
        Query(todo): Query<Todo>,
    ) -> (StatusCode, Json<Todo>) {
        (StatusCode::ACCEPTED, Json(Todo { text: format!("{greeting} {id} {}", todo.text), ..todo }))
    }
    let app = Router::new()
        .route("/todos/{id}", get(list))
        .route("/todos", post(async |Json(todo): Json<Todo>| todo.text))
        .with_state("hello")
        .layer(CompressionLayer::new())
        .layer(TraceLayer::new_for_http());
    #[expect(deprecated, reason = "the simplest of its validators; programs use it")]
    let app = ServiceBuilder::new().layer(ValidateRequestHeaderLayer::bearer("secret")).service(app);
    let channel = channel_to(serve(app).await, false, |_| {}).await;
    let client = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(DecompressionLayer::new())
        .layer(AddAuthorizationLayer::bearer("secret"))
        .service(channel.clone());

    let request = Request::get("/todos/7?text=x&done=true").body(String::new()).unwrap();
    let response = client.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"{"text":"hello 7 x","done":true}"#);

    // Long enough to be compressed.
    let text = "x".repeat(1_000);
    let todo = serde_json::to_string(&Todo { text: text.clone(), done: false }).unwrap();
    let request = Request::post("/todos").header(header::CONTENT_TYPE, "application/json").body(todo).unwrap();
    let response = client.oneshot(request).await.unwrap_or_else(|never| match never {});
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);

    let unauthorized = Request::get("/todos/7").body(String::new()).unwrap();
    let response = channel.oneshot(unauthorized).await.unwrap_or_else(|never| match never {});
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}
