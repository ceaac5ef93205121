//! What does a call cost more than without the mesh?
//!
//! Clients and servers are in this process and talk over TCP on the loopback interface: unary gRPC calls that return their
//! 1 KiB, and HTTP/1.1 GETs of 1 KiB, one and 64 at a time. The same calls go through tonic's channel or hyper-util's client
//! instead of a channel of the mesh, and are served by tonic or hyper instead of a server of the mesh. It prints the CPU
//! time of the whole process per call and the latency of calls: the medians of several rounds, in which the contenders take
//! turns. Arguments such as `gRPC,mesh,tonic` select contenders. It reads `/proc`, so it runs on Linux only.

#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

#[path = "../examples/generated/helloworld.rs"]
mod helloworld;

use std::{
    convert::Infallible,
    fmt::Debug,
    fs,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use mesh::{Mesh, Protocol};
use tokio::net::TcpListener;
use tonic::{
    Status,
    service::Routes,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tower::{Service, ServiceExt as _};

use self::helloworld::{
    HelloReply, HelloRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};

const PAYLOAD_BYTES: usize = 1_024;
/// Odd, so that there is a median.
const ROUNDS: usize = 5;
const LOADS: [Load; 2] = [Load { callers: 1, calls_per_caller: 4_000 }, Load { callers: 64, calls_per_caller: 400 }];

/// How many callers call how often in one round.
#[derive(Clone, Copy)]
struct Load {
    callers: usize,
    calls_per_caller: usize,
}

/// A client, a server, and the calls between them.
struct Contender {
    calls: &'static str,
    client: &'static str,
    server: &'static str,
    round: Box<dyn Fn(Load) -> Round>,
}

type Round = Pin<Box<dyn Future<Output = Sample>>>;

/// The cost of calls.
#[derive(Clone, Copy)]
struct Sample {
    cpu: Duration,
    p50: Duration,
    p99: Duration,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut contenders = grpc_contenders().await;
    contenders.extend(http_contenders().await);
    // `cargo bench` adds `--bench`.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    contenders.retain(|contender| wanted.is_empty() || wanted.contains(&contender.name()));
    println!("calls     at a time  client  server  CPU/call us  beyond the first   p50 us   p99 us");
    for load in LOADS {
        let mut samples = vec![Vec::with_capacity(ROUNDS); contenders.len()];
        // The first round is for connections, caches and the allocator.
        for round in 0..=ROUNDS {
            for (contender, samples) in contenders.iter().zip(&mut samples) {
                let sample = (contender.round)(load).await;
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
        print(load, &contenders, &samples);
    }
}

fn print(load: Load, contenders: &[Contender], samples: &[Vec<Sample>]) {
    let mut first = ("", Duration::ZERO);
    for (contender, samples) in contenders.iter().zip(samples) {
        let median = |of: fn(&Sample) -> Duration| {
            let mut values: Vec<_> = samples.iter().map(of).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        let cpu = median(|sample| sample.cpu);
        if first.0 != contender.calls {
            first = (contender.calls, cpu);
        }
        let Contender { calls, client, server, .. } = contender;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "{calls:<9} {:>9}  {client:<6}  {server:<6}  {:>11.1}  {:>+16.1}  {:>7.1}  {:>7.1}",
            load.callers,
            micros(cpu),
            micros(cpu) - micros(first.1),
            micros(median(|sample| sample.p50)),
            micros(median(|sample| sample.p99)),
        );
    }
}

impl Contender {
    /// Such as `gRPC,mesh,tonic`.
    fn name(&self) -> String {
        [self.calls, self.client, self.server].join(",")
    }

    /// `call` makes one call with a client, of which each caller has a clone.
    fn new<C, F>(names: [&'static str; 3], client: C, call: fn(C) -> F) -> Self
    where
        C: Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let [calls, client_name, server] = names;
        let round = move |load: Load| -> Round { Box::pin(measure(load, client.clone(), call)) };
        Self { calls, client: client_name, server, round: Box::new(round) }
    }
}

async fn measure<C, F>(load: Load, client: C, call: fn(C) -> F) -> Sample
where
    C: Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let before = cpu_time();
    let callers: Vec<_> = (0..load.callers)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(load.calls_per_caller);
                for _ in 0..load.calls_per_caller {
                    let start = Instant::now();
                    call(client.clone()).await;
                    latencies.push(start.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::with_capacity(load.callers * load.calls_per_caller);
    for caller in callers {
        latencies.extend(caller.await.expect("calls succeed"));
    }
    let cpu = cpu_time() - before;
    latencies.sort_unstable();
    let calls = latencies.len();
    let per_call = cpu / u32::try_from(calls).expect("few calls");
    Sample { cpu: per_call, p50: latencies[calls / 2], p99: latencies[calls * 99 / 100] }
}

/// The CPU time of the threads that are running. Those of the runtime live as long as the process.
fn cpu_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let nanoseconds = tasks.filter_map(|task| {
        let statistics = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        statistics.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

async fn listen() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// The name and port by which the mesh knows the service.
const TARGET: &str = "echo:80";

/// A channel of a mesh to one endpoint, with Istio's defaults.
async fn mesh_channel(protocol: Protocol, server: SocketAddr) -> mesh::Channel {
    let mesh = Mesh::builder().endpoints(TARGET, protocol, [server]).build().await.expect("a valid configuration");
    mesh.channel(TARGET).expect("it is configured")
}

/// A server of a mesh, with the inbound configuration that a service without resources of its own has.
async fn mesh_server() -> mesh::Server {
    let mesh = Mesh::builder().service("echo").build().await.expect("a valid configuration");
    mesh.server("echo").expect("it is the service of the mesh")
}

async fn grpc_contenders() -> Vec<Contender> {
    let routes = || Routes::new(GreeterServer::new(Echo));
    let (socket, tonic) = listen().await;
    let incoming = TcpIncoming::from(socket).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_routes(routes()).serve_with_incoming(incoming));
    let (socket, mesh) = listen().await;
    tokio::spawn(mesh_server().await.serve(socket, routes()));

    let endpoint = Endpoint::from_shared(format!("http://{tonic}")).expect("a URL");
    let channel = endpoint.connect().await.expect("the server listens");
    let to_tonic = GreeterClient::new(mesh_channel(Protocol::Grpc, tonic).await);
    let to_mesh = GreeterClient::new(mesh_channel(Protocol::Grpc, mesh).await);
    vec![
        Contender::new(["gRPC", "tonic", "tonic"], GreeterClient::new(channel), unary),
        Contender::new(["gRPC", "mesh", "tonic"], to_tonic, unary),
        Contender::new(["gRPC", "mesh", "mesh"], to_mesh, unary),
    ]
}

async fn http_contenders() -> Vec<Contender> {
    let (socket, hyper) = listen().await;
    tokio::spawn(serve_hyper(socket));
    let (socket, mesh) = listen().await;
    let service = tower::service_fn(async |_: Request<mesh::Body>| Ok::<_, Infallible>(page()));
    tokio::spawn(mesh_server().await.serve(socket, service));

    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let uri: Uri = format!("http://{hyper}/").parse().expect("a URL");
    vec![
        Contender::new(["HTTP/1.1", "hyper", "hyper"], (client, uri), get),
        Contender::new(["HTTP/1.1", "mesh", "hyper"], (mesh_channel(Protocol::Http, hyper).await, path()), get),
        Contender::new(["HTTP/1.1", "mesh", "mesh"], (mesh_channel(Protocol::Http, mesh).await, path()), get),
    ]
}

/// The target of requests through a channel, which knows its service.
fn path() -> Uri {
    Uri::from_static("/")
}

struct Echo;

#[tonic::async_trait]
impl Greeter for Echo {
    async fn say_hello(&self, request: tonic::Request<HelloRequest>) -> Result<tonic::Response<HelloReply>, Status> {
        Ok(tonic::Response::new(HelloReply { message: request.into_inner().name }))
    }
}

async fn unary<T>(mut client: GreeterClient<T>)
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let request = HelloRequest { name: "x".repeat(PAYLOAD_BYTES) };
    let reply = client.say_hello(request).await.expect("the server answers");
    assert_eq!(reply.into_inner().message.len(), PAYLOAD_BYTES);
}

async fn get<S, B>((client, uri): (S, Uri))
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error: Debug>,
    B: http_body::Body<Error: Debug>,
{
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    let response = client.oneshot(request).await.expect("the server answers");
    let body = response.into_body().collect().await.expect("the body is complete");
    assert_eq!(body.to_bytes().len(), PAYLOAD_BYTES);
}

async fn serve_hyper(socket: TcpListener) {
    loop {
        let (stream, _) = socket.accept().await.expect("it listens");
        stream.set_nodelay(true).expect("it is a TCP connection");
        let service = service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(page()));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn page() -> Response<Full<Bytes>> {
    static PAGE: [u8; PAYLOAD_BYTES] = [b'x'; PAYLOAD_BYTES];
    Response::new(Full::new(Bytes::from_static(&PAGE)))
}
