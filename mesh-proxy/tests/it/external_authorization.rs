//! A proxy that asks an authorization service, over HTTP and over gRPC.

use std::{
    convert::Infallible,
    future::poll_fn,
    io::{Read, Write},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Poll},
    thread,
};

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use mesh_tower::{Body, server::Server, telemetry::Telemetry};
use mesh_xds::proto::{
    envoy::{
        config::core::v3::{HeaderValue as ProtoHeader, HeaderValueOption},
        service::auth::v3::{
            CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse, attribute_context::HttpRequest,
            check_response::HttpResponse,
        },
        r#type::v3::HttpStatus,
    },
    google::rpc::Status,
};
use prost::Message as _;

use crate::process::{Proxy, Upstream, bootstrap, connect, read_head};

/// A bootstrap whose requests are checked, as `service` says, by a service in the cluster `authz`.
fn checked(upstream: SocketAddr, authz: SocketAddr, service: &str, is_grpc: bool) -> String {
    let filter = format!(
        r#"http_filters:
          - name: authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              {service}
"#
    );
    let options = if is_grpc { "http2_protocol_options: {}" } else { "" };
    let cluster = format!(
        "  - {{name: authz, type: STATIC, connect_timeout: 1s, load_assignment: {{cluster_name: authz, endpoints: [{{lb_endpoints: \
         [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]}}, {options}}}\n",
        authz.ip(),
        authz.port()
    );
    bootstrap(upstream).replace("http_filters:\n", &filter) + &cluster
}

/// The whole response to a request.
fn send(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    let head = format!("POST {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\nx-user: spoofed\r\n");
    write!(stream, "{head}content-length: 4\r\n\r\nbody").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// An upstream that responds with the head of the request.
fn echo() -> SocketAddr {
    let upstream = Upstream::new();
    let address = upstream.address();
    thread::spawn(move || {
        loop {
            let mut stream = upstream.listener().accept().unwrap().0;
            let head = read_head(&mut stream);
            let mut body = [0; 4];
            stream.read_exact(&mut body).unwrap();
            let answer = head + std::str::from_utf8(&body).unwrap();
            // The client may have closed its connection.
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    address
}

#[test]
fn a_service_over_http_decides() {
    let authz = Upstream::new();
    let authz_address = authz.address();
    let (sender, checks) = mpsc::channel();
    thread::spawn(move || {
        for _ in 0..2 {
            let mut stream = authz.listener().accept().unwrap().0;
            let head = read_head(&mut stream);
            let answer = if head.starts_with("POST /auth/deny ") {
                "HTTP/1.1 401 Unauthorized\r\nx-reason: no\r\nx-secret: s\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
            } else {
                "HTTP/1.1 200 OK\r\nx-user: alice\r\nx-secret: s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            };
            sender.send(head).unwrap();
            write!(stream, "{answer}").unwrap();
        }
        // Then it is down.
    });
    let service = "http_service: {server_uri: {uri: u, cluster: authz, timeout: 5s}, path_prefix: /auth, \
                   authorization_response: {allowed_upstream_headers: {patterns: [{exact: x-user}]}, \
                   allowed_client_headers: {patterns: [{exact: x-reason}]}}}";
    let proxy = Proxy::start(&["--config-yaml", &checked(echo(), authz_address, service, false)]);
    let address = proxy.address_in("listener main: listening");
    proxy.line_with("ready");

    let allowed = send(address, "/a?b=c");
    assert!(allowed.starts_with("HTTP/1.1 200") && allowed.ends_with("body"), "{allowed}");
    assert!(allowed.contains("x-user: alice\r\n"), "{allowed}");
    assert!(!allowed.contains("spoofed") && !allowed.contains("x-secret"), "{allowed}");
    let check = checks.recv().unwrap();
    assert!(check.starts_with("POST /auth/a?b=c HTTP/1.1\r\n") && check.contains("content-length: 0\r\n"), "{check}");
    assert!(check.contains("host: shop.test\r\n") && !check.contains("x-user"), "{check}");

    let denied = send(address, "/deny");
    assert!(denied.starts_with("HTTP/1.1 401") && denied.ends_with("no"), "{denied}");
    assert!(denied.contains("x-reason: no\r\n") && !denied.contains("x-secret"), "{denied}");
    checks.recv().unwrap();
    // The service closes its socket before its thread ends, and its end is the end of the channel.
    assert!(checks.recv().is_err());
    let failed = send(address, "/a");
    assert!(failed.starts_with("HTTP/1.1 403") && failed.contains("content-length: 0\r\n"), "{failed}");
}

/// An authorization service over gRPC: what it decides about a request.
#[derive(Clone)]
struct Authz(Arc<dyn Fn(&HttpRequest) -> CheckResponse + Send + Sync>);

impl tower_service::Service<Request<Body>> for Authz {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let decide = Arc::clone(&self.0);
        Box::pin(async move {
            assert_eq!(request.uri().path(), "/envoy.service.auth.v3.Authorization/Check");
            assert_eq!(request.headers()["te"], "trailers");
            let mut body = request.into_body();
            let mut message = Vec::new();
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                message.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
            }
            let check = CheckRequest::decode(&message[5..]).unwrap();
            let message = decide(&check.attributes.unwrap().request.unwrap().http.unwrap()).encode_to_vec();
            let prefix = [0_u8, 0, 0, 0, u8::try_from(message.len()).unwrap()];
            let data = Some([&prefix[..], &message].concat().into());
            let mut response = Response::new(Answer { data, trailers: true });
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            Ok(response)
        })
    }
}

/// A message, and the status 0 in the trailers.
struct Answer {
    data: Option<Bytes>,
    trailers: bool,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.data.take().map(Frame::data).or_else(|| {
            let has_trailers = std::mem::take(&mut self.trailers);
            let ok = || HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            has_trailers.then(|| Frame::trailers(ok()))
        });
        Poll::Ready(frame.map(Ok))
    }
}

/// Serves until the test ends.
pub(crate) fn serve(decide: impl Fn(&HttpRequest) -> CheckResponse + Send + Sync + 'static) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let server = Server::new(Arc::default(), Telemetry::default());
            let _ = server.serve(listener, Authz(Arc::new(decide)), std::future::pending()).await;
        });
    });
    address
}

fn header(key: &str, value: &str) -> HeaderValueOption {
    let header = ProtoHeader { key: key.to_owned(), value: value.to_owned(), ..ProtoHeader::default() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}

#[test]
fn a_service_over_grpc_decides() {
    let authz = serve(|request| {
        assert_eq!((&*request.method, &*request.host, &*request.body), ("POST", "shop.test", "body"));
        assert_eq!(request.headers["x-user"], "spoofed");
        let denied = DeniedHttpResponse {
            status: Some(HttpStatus { code: 401 }),
            headers: vec![header("x-reason", "no")],
            body: "no".to_owned(),
        };
        let (code, response) = if request.path == "/deny" {
            (7, HttpResponse::DeniedResponse(denied))
        } else {
            let headers = vec![header("x-user", "alice")];
            (0, HttpResponse::OkResponse(OkHttpResponse { headers, ..OkHttpResponse::default() }))
        };
        let status = Some(Status { code, ..Status::default() });
        CheckResponse { status, http_response: Some(response), ..CheckResponse::default() }
    });
    let service = "transport_api_version: V3\n              grpc_service: {envoy_grpc: {cluster_name: authz}, timeout: 5s}\n              \
                   with_request_body: {max_request_bytes: 100}";
    let proxy = Proxy::start(&["--config-yaml", &checked(echo(), authz, service, true)]);
    let address = proxy.address_in("listener main: listening");
    proxy.line_with("ready");
    let allowed = send(address, "/a");
    assert!(allowed.starts_with("HTTP/1.1 200") && allowed.ends_with("body"), "{allowed}");
    assert!(allowed.contains("x-user: alice\r\n") && !allowed.contains("spoofed"), "{allowed}");
    let denied = send(address, "/deny");
    assert!(denied.starts_with("HTTP/1.1 401") && denied.ends_with("no"), "{denied}");
    assert!(denied.contains("x-reason: no\r\n"), "{denied}");
}
