//! A proxy between HTTP/2 clients and HTTP/2 endpoints.

use std::{
    fmt,
    future::poll_fn,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use mesh_core::{
    listener::ConnectionFacts,
    model::{
        Cluster, Discovery, HttpConnectionManager, HttpProtocol, Listener, LoadAssignment, RetryOn, RetryPolicy,
        RouteSource,
    },
    rng::SplitMix64,
    store::Store,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    ConnectionManager,
    tests::{context, everything_to_the_service, http},
};
use crate::{
    Connect, ConnectTo, Connected, Connecting, Downstream, Io, Upstream, Worker, drain::Drain, telemetry::Telemetry,
    testing::stat,
};

/// How endpoints serve a connection.
type Serve = dyn Fn(DuplexStream) + Send + Sync;

struct Network {
    serve: Box<Serve>,
    connections: AtomicUsize,
}

#[derive(Clone)]
struct Endpoints(Arc<Network>);

impl Endpoints {
    fn new<F>(serve: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serve = Box::new(move |io| drop(tokio::spawn(serve(io))));
        Self(Arc::new(Network { serve, connections: AtomicUsize::new(0) }))
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoints")
    }
}

impl Connect for Endpoints {
    fn connect<'a>(&'a self, _: ConnectTo<'a>) -> Connecting<'a> {
        self.0.connections.fetch_add(1, Ordering::SeqCst);
        let (client, server) = tokio::io::duplex(64 * 1024);
        (self.0.serve)(server);
        Box::pin(async { Ok(Connected::plain_text(Io::boxed(client))) })
    }
}

/// A proxy with a route to one cluster, without a retry policy.
struct Proxy {
    manager: Arc<ConnectionManager<Upstream>>,
    endpoints: Endpoints,
    store: Arc<Store>,
    drain: Drain,
}

impl Proxy {
    fn new(endpoints: Endpoints, change: impl FnOnce(&mut HttpConnectionManager)) -> Self {
        let addresses: LoadAssignment = [([127, 0, 0, 1], 1).into()].into_iter().collect();
        let mut cluster = Cluster::new("c", Discovery::Static(addresses));
        cluster.http_protocol_options.protocol = HttpProtocol::Http2;
        let store = Arc::new(Store::new());
        store.set_cluster(Arc::new(cluster), crate::timer::now(), &mut SplitMix64::new(1));
        let mut config = http(everything_to_the_service());
        change(&mut config);
        let (listener, config) = (Listener::api("test", config.clone()), Arc::new(config));
        let upstream = Upstream::new(Worker::new(0, NonZeroUsize::MIN, endpoints.clone()));
        let manager =
            ConnectionManager::new(&listener, config, &context(&store, &Telemetry::default()), upstream).unwrap();
        Self { manager: Arc::new(manager), endpoints, store, drain: Drain::new() }
    }

    async fn client(&self) -> SendRequest<Bytes> {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let downstream = Downstream::new(ConnectionFacts::default());
        tokio::spawn(Arc::clone(&self.manager).serve_connection(server, downstream, self.drain.watch()));
        let (client, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn stat(&self, name: &str) -> u64 {
        stat(&self.store.cluster("c").unwrap(), name)
    }

    /// Sends `count` requests from eight clients, half of them with a body, and returns how many were answered with 200.
    async fn send_many(&self, count: usize) -> usize {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut client = self.client().await;
            clients.push(tokio::spawn(async move {
                let mut answered = 0;
                for number in 0..count / 8 {
                    let has_body = number % 2 == 1;
                    let (response, mut body) = client.send_request(request(Method::POST, "/"), !has_body).unwrap();
                    if has_body {
                        body.send_data(Bytes::from("text"), true).unwrap();
                    }
                    answered += usize::from(response.await.is_ok_and(|response| response.status() == 200));
                }
                answered
            }));
        }
        let mut answered = 0;
        for client in clients {
            answered += client.await.unwrap();
        }
        answered
    }
}

fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://a.test{path}")).body(()).unwrap()
}

/// Ends each connection gracefully after ten requests, while a stream of it is open.
async fn goes_away_after_ten(io: DuplexStream) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    let mut requests = 0;
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        requests += 1;
        if requests == 10 {
            connection.graceful_shutdown();
        }
        let is_first = requests == 1;
        tokio::spawn(async move {
            let mut body = respond.send_response(Response::new(()), !is_first).unwrap();
            if is_first {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = body.send_data(Bytes::from("end"), true);
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_fails_on_a_connection_that_goes_away() {
    let proxy = Proxy::new(Endpoints::new(goes_away_after_ten), |_| {});
    assert_eq!(proxy.send_many(2_000).await, 2_000);
    let connections = proxy.endpoints.0.connections.load(Ordering::SeqCst);
    // Requests that are sent before the endpoint's GOAWAY arrives are answered, too.
    assert!((100..=200).contains(&connections), "{connections}");
    assert_eq!(proxy.stat("upstream_rq_retry"), 0);
    assert!(proxy.stat("upstream_cx_close_notify") >= 100);
}

/// How an endpoint refuses a request.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    GoAway,
    Reset,
}

/// Answers two requests of each connection with 200 and refuses the others.
async fn refuses_the_third(mut io: DuplexStream, refusal: Refusal) {
    io.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    io.read_exact(&mut [0; 24]).await.unwrap();
    let mut requests = 0;
    let mut last = [0; 4];
    loop {
        let mut head = [0; 9];
        if io.read_exact(&mut head).await.is_err() {
            return;
        }
        let [_, high, low, kind, flags, stream @ ..] = head;
        io.read_exact(&mut vec![0; usize::from(high) << 8 | usize::from(low)]).await.unwrap();
        let answer = match (kind, flags & 1) {
            (4, 0) => b"\0\0\0\x04\x01\0\0\0\0".to_vec(),
            (1, _) if requests < 2 => {
                requests += 1;
                last = stream;
                [b"\0\0\x01\x01\x05", &stream[..], b"\x88"].concat()
            }
            (1, _) => match refusal {
                Refusal::GoAway => [b"\0\0\x08\x07\0\0\0\0\0", &last[..], b"\0\0\0\0"].concat(),
                Refusal::Reset => [b"\0\0\x04\x03\0", &stream[..], b"\0\0\0\x07"].concat(),
            },
            _ => continue,
        };
        if io.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// How many retries are counted while forty requests are answered, two by each connection.
async fn retries_of_refused_requests(refusal: Refusal, retry_on: RetryOn) -> u64 {
    let proxy = Proxy::new(Endpoints::new(move |io| refuses_the_third(io, refusal)), |config| {
        let RouteSource::Inline(routes) = &mut config.routes else { unreachable!("the test has them inline") };
        let policy = (!retry_on.is_empty()).then(|| Arc::new(RetryPolicy::new(retry_on)));
        Arc::make_mut(routes).virtual_hosts[0].retry_policy = policy;
    });
    let mut client = proxy.client().await;
    for number in 0..40 {
        let (response, mut body) = client.send_request(request(Method::POST, "/"), number % 2 == 0).unwrap();
        if number % 2 == 1 {
            body.send_data(Bytes::from("text"), true).unwrap();
        }
        assert_eq!(response.await.unwrap().status(), 200, "{refusal:?} {retry_on:?} {number}");
    }
    assert_eq!(proxy.endpoints.0.connections.load(Ordering::SeqCst), 20, "{refusal:?} {retry_on:?}");
    proxy.stat("upstream_rq_retry")
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_sent_again_on_another_connection() {
    for refusal in [Refusal::GoAway, Refusal::Reset] {
        for (retry_on, retries) in [(RetryOn::NONE, 0), (RetryOn::CONNECT_FAILURE, 0), (RetryOn::REFUSED_STREAM, 19)] {
            assert_eq!(retries_of_refused_requests(refusal, retry_on).await, retries, "{refusal:?} {retry_on:?}");
        }
    }
}

/// Sends early hints before the response.
async fn hints(io: DuplexStream) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let is_expected = request.headers().contains_key("expect");
        let statuses = [Some(StatusCode::EARLY_HINTS), is_expected.then_some(StatusCode::CONTINUE)];
        for status in statuses.into_iter().flatten() {
            let interim = Response::builder().status(status).header("link", "</a>");
            respond.send_informational(interim.body(()).unwrap()).unwrap();
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            respond.send_response(Response::new(()), true).unwrap();
        });
    }
}

#[tokio::test(start_paused = true)]
async fn interim_responses_of_the_endpoint_pass_if_expectations_do() {
    for proxy_100_continue in [true, false] {
        let proxy = Proxy::new(Endpoints::new(hints), |config| config.proxy_100_continue = proxy_100_continue);
        let mut client = proxy.client().await;
        let mut expecting = request(Method::POST, "/");
        expecting.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
        let (mut response, _body) = client.send_request(expecting, false).unwrap();
        let mut received = Vec::new();
        let expected: &[_] = if proxy_100_continue { &[(103, 1), (100, 1)] } else { &[(100, 0)] };
        while received.len() < expected.len() {
            let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            received.push((interim.status().as_u16(), interim.headers().len()));
        }
        assert_eq!(received, expected);
        assert_eq!(response.await.unwrap().status(), 200);
    }
}
