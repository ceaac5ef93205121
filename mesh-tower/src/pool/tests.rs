use std::{
    io,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::{
    model::{self, Cluster, Discovery, Http2Keepalive},
    rng::SplitMix64,
    tls::TlsInfo,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    runtime::{Handle, Runtime},
    sync::{Semaphore, mpsc},
};

use super::*;
use crate::{Body, BoxError, Connect, ConnectTo, Connected, Connecting, Io, timer::now};

/// An endpoint in memory.
#[derive(Clone, Debug)]
struct Endpoint {
    accepted: Arc<AtomicUsize>,
    open: Arc<Open>,
    serve: Serve,
    /// The protocol that it negotiates by ALPN; `None` = plain text.
    negotiates: Option<&'static str>,
    gate: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug)]
enum Serve {
    Http1,
    Http2 {
        max_streams: u32,
    },
    CloseAfterResponse,
    Echo,
    Upgrade,
    /// Sends these bytes in response to the first request; then closes the connection if `closes`.
    Raw {
        answer: &'static str,
        closes: bool,
    },
    /// Closes the connection during the first request, perhaps after a GOAWAY.
    Http2Cut {
        goaway: bool,
    },
    /// Responds to the first request, and then to nothing, not even to a PING.
    Http2Silent,
    Refuse,
    Never,
}

impl Endpoint {
    fn new(serve: Serve) -> Self {
        Self {
            accepted: Arc::default(),
            open: Arc::default(),
            serve,
            negotiates: None,
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    async fn run(self, io: DuplexStream) {
        let served = match self.serve {
            Serve::Http1 | Serve::Echo | Serve::Upgrade => {
                let service = service_fn(|request| self.answer(request));
                let http = hyper::server::conn::http1::Builder::new();
                http.serve_connection(TokioIo::new(io), service).with_upgrades().await
            }
            Serve::CloseAfterResponse => {
                let service = service_fn(|request| self.answer(request));
                let mut http = hyper::server::conn::http1::Builder::new();
                let connection = http.keep_alive(true).serve_connection(TokioIo::new(io), service);
                let _ = tokio::time::timeout(Duration::from_millis(10), connection).await;
                return;
            }
            Serve::Http2 { max_streams } => {
                let service = service_fn(move |request| {
                    let endpoint = self.clone();
                    async move { endpoint.answer(request).await }
                });
                let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                http.max_concurrent_streams(max_streams).serve_connection(TokioIo::new(io), service).await
            }
            Serve::Raw { answer, closes } => return raw(io, answer, closes).await,
            Serve::Http2Cut { goaway } => {
                let mut connection = h2::server::handshake(io).await.unwrap();
                let _stream = connection.accept().await;
                if goaway {
                    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                    connection.accept().await;
                }
                return;
            }
            Serve::Http2Silent => {
                let mut connection = h2::server::handshake(io).await.unwrap();
                let (_, mut respond) = connection.accept().await.unwrap().unwrap();
                respond.send_response(Response::new(()), true).unwrap();
                let _ = tokio::time::timeout(Duration::from_millis(10), connection.accept()).await;
                return std::future::pending().await;
            }
            Serve::Refuse | Serve::Never => return,
        };
        let _ = served;
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
        if request.uri().path() == "/slow" {
            self.gate.acquire().await.unwrap().forget();
        }
        if let Some(milliseconds) = request.uri().path().strip_prefix("/after/") {
            tokio::time::sleep(Duration::from_millis(milliseconds.parse().unwrap())).await;
        }
        if let Serve::Upgrade = self.serve {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut text = [0; 5];
                io.read_exact(&mut text).await.unwrap();
                text.make_ascii_uppercase();
                io.write_all(&text).await.unwrap();
            });
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(header::UPGRADE, "shout");
            return Ok(response.header(header::CONNECTION, "upgrade").body(Body::empty()).unwrap());
        }
        let echo = matches!(self.serve, Serve::Echo) || request.uri().path() == "/echo";
        let body = match request.uri().path() {
            _ if echo => Body::from(request.into_body()),
            "/large" => Body::from("x".repeat(100_000)),
            _ => Body::from("hello"),
        };
        Ok(Response::new(body))
    }
}

async fn raw(mut io: DuplexStream, answer: &str, closes: bool) {
    let _request = io.read(&mut [0; 1024]).await.unwrap();
    io.write_all(answer.as_bytes()).await.unwrap();
    if !closes {
        let _ = io.read_to_end(&mut Vec::new()).await;
    }
}

/// The number of open connections and its maximum.
#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// The client's end of a connection, which counts as open until it is dropped.
#[derive(Debug)]
struct Counted(DuplexStream, Arc<Open>);

impl Counted {
    fn new(io: DuplexStream, open: Arc<Open>) -> Self {
        open.most.fetch_max(open.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Self(io, open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Connect for Endpoint {
    fn connect<'a>(&'a self, to: ConnectTo<'a>) -> Connecting<'a> {
        let endpoint = self.clone();
        Box::pin(async move {
            match endpoint.serve {
                Serve::Refuse => return Err(io::Error::from_raw_os_error(111)),
                Serve::Never => std::future::pending::<()>().await,
                _ => {}
            }
            endpoint.accepted.fetch_add(1, Ordering::SeqCst);
            let (client, server) = tokio::io::duplex(64 * 1024);
            tokio::spawn(endpoint.clone().run(server));
            let io = Io::boxed(Counted::new(client, Arc::clone(&endpoint.open)));
            Ok(match endpoint.negotiates {
                Some(protocol) => {
                    assert!(to.protocol.is_some(), "a pool says what it would speak");
                    Connected::over_tls(io, tls(protocol))
                }
                None => Connected::plain_text(io),
            })
        })
    }
}

/// A cluster with in-memory endpoints.
struct Fixture {
    endpoint: Endpoint,
    target: OwnedTarget,
}

const WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

impl Fixture {
    fn new(serve: Serve) -> Self {
        Self::with(serve, |_| {})
    }

    fn with(serve: Serve, change: impl FnOnce(&mut Cluster)) -> Self {
        let endpoint = Endpoint::new(serve);
        let addresses = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut config = Cluster::new("c", Discovery::Static(addresses.into_iter().collect()));
        if let Serve::Http2 { .. } | Serve::Http2Cut { .. } | Serve::Http2Silent = serve {
            config.http_protocol_options.protocol = model::HttpProtocol::Http2;
        }
        change(&mut config);
        let cluster = Arc::new(ClusterState::new(Arc::new(config), now(), &mut SplitMix64::new(1)));
        let worker = Worker::new(0, WORKERS, endpoint.clone());
        let first = Arc::clone(&cluster.endpoints().endpoints()[0]);
        Self {
            endpoint,
            target: OwnedTarget {
                runtime: Handle::current(),
                worker,
                cluster,
                endpoint: first,
                priority: RoutingPriority::Default,
                server_name: None,
            },
        }
    }

    fn second_endpoint(&self) -> OwnedTarget {
        let endpoint = Arc::clone(&self.target.cluster.endpoints().endpoints()[1]);
        OwnedTarget { endpoint, ..self.target.clone() }
    }

    fn second_worker(&self) -> OwnedTarget {
        OwnedTarget { worker: Worker::new(1, WORKERS, self.endpoint.clone()), ..self.target.clone() }
    }

    async fn get(&self, path: &str) -> Result<Response<Body>, TransportError> {
        get(&self.target, path).await
    }

    async fn get_to_end(&self) -> Bytes {
        self.get("/").await.unwrap().into_body().collect().await.unwrap().to_bytes()
    }

    fn stats(&self) -> &ClusterStats {
        self.target.stats()
    }
}

async fn connect(target: &OwnedTarget, protocol: Protocol) -> Result<Connection, TransportError> {
    let OwnedTarget { worker, cluster, endpoint, priority, .. } = target;
    Pool::new(worker.clone())
        .connection(&Target { cluster, endpoint, priority: *priority, server_name: None }, protocol)
        .await
}

async fn get(target: &OwnedTarget, path: &str) -> Result<Response<Body>, TransportError> {
    send(target, path, Body::empty()).await
}

async fn send(target: &OwnedTarget, path: &str, body: Body) -> Result<Response<Body>, TransportError> {
    let protocol = Protocol::choose(target.cluster.config().http_protocol_options.protocol, Version::HTTP_11);
    let connection = connect(target, protocol).await?;
    let uri = if protocol == Protocol::Http2 { format!("http://test{path}") } else { path.to_owned() };
    exchange(connection, Request::post(uri).body(body).unwrap()).await
}

async fn exchange(connection: Connection, request: Request<Body>) -> Result<Response<Body>, TransportError> {
    let mut call = Call::new(request);
    connection.send(&mut call).await?;
    Ok(call.response.unwrap())
}

fn limit(cluster: &mut Cluster, max_connections: u32, max_pending_requests: u32) {
    for thresholds in [&mut cluster.circuit_breakers.default, &mut cluster.circuit_breakers.high] {
        thresholds.max_connections = max_connections;
        thresholds.max_pending_requests = max_pending_requests;
    }
}

#[tokio::test(start_paused = true)]
async fn an_http1_connection_is_used_again_once_its_response_has_ended() {
    let fixture = Fixture::new(Serve::Http1);
    for _ in 0..5 {
        assert_eq!(fixture.get_to_end().await, "hello");
    }
    assert_eq!(fixture.endpoint.accepted(), 1);
    assert_eq!(fixture.stats().upstream_cx_total.get(), 1);
    assert_eq!(fixture.stats().upstream_rq_pending_total.get(), 1, "only the first had to wait");
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_use_is_not_shared() {
    let fixture = Fixture::new(Serve::Http1);
    let first = fixture.get("/large").await.unwrap();
    let second = fixture.get("/large").await.unwrap();
    assert_eq!(fixture.endpoint.accepted(), 2);
    drop((first, second));
    fixture.get_to_end().await;
    assert_eq!(fixture.endpoint.accepted(), 3, "connections with unread responses are closed");
    assert_eq!(fixture.stats().upstream_cx_destroy.get(), 2);
    assert_eq!(fixture.target.endpoint.stats().cx_active.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_retired_after_max_requests() {
    for serve in [Serve::Http1, Serve::Http2 { max_streams: 100 }] {
        let two = NonZeroU32::new(2);
        let fixture = Fixture::with(serve, |c| c.http_protocol_options.max_requests_per_connection = two);
        for _ in 0..5 {
            fixture.get_to_end().await;
        }
        assert_eq!(fixture.endpoint.accepted(), 3);
        assert_eq!(fixture.stats().upstream_cx_max_requests.get(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_closed_after_its_idle_timeout() {
    for serve in [Serve::Http1, Serve::Http2 { max_streams: 100 }] {
        let limit = Some(Duration::from_secs(10));
        let fixture = Fixture::with(serve, |c| c.http_protocol_options.idle_timeout = limit);
        fixture.get_to_end().await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        fixture.get_to_end().await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(fixture.stats().upstream_cx_idle_timeout.get(), 0, "use renews it");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(fixture.stats().upstream_cx_idle_timeout.get(), 1);
        assert_eq!(fixture.target.endpoint.stats().cx_active.get(), 0);
        fixture.get_to_end().await;
        assert_eq!(fixture.endpoint.accepted(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_retired_at_its_maximum_age() {
    let limit = Some(Duration::from_secs(10));
    let fixture = Fixture::with(Serve::Http1, |c| c.http_protocol_options.max_connection_duration = limit);
    for _ in 0..4 {
        fixture.get_to_end().await;
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    assert_eq!(fixture.endpoint.accepted(), 2);
    assert_eq!(fixture.stats().upstream_cx_max_duration_reached.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_endpoint_closed_is_not_used() {
    let fixture = Fixture::new(Serve::CloseAfterResponse);
    for round in 1..=3 {
        assert_eq!(fixture.get_to_end().await, "hello");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(fixture.endpoint.accepted(), round);
    }
}

/// Which of `upstream_cx_destroy_*`, `upstream_cx_close_notify` and `upstream_rq_cancelled` one request to `serve` increases.
/// The response is read to its end, or the request is cancelled after a second.
async fn ends_counted(serve: Serve) -> Vec<&'static str> {
    let fixture = Fixture::with(serve, |c| c.connect_timeout = Duration::from_secs(5));
    let exchange = async {
        if let Ok(response) = fixture.get("/").await {
            let _ = response.into_body().collect().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), exchange).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    let stats = fixture.stats();
    let counters = [
        ("remote", &stats.upstream_cx_destroy_remote),
        ("remote_with_active_rq", &stats.upstream_cx_destroy_remote_with_active_rq),
        ("local", &stats.upstream_cx_destroy_local),
        ("local_with_active_rq", &stats.upstream_cx_destroy_local_with_active_rq),
        ("close_notify", &stats.upstream_cx_close_notify),
        ("cancelled", &stats.upstream_rq_cancelled),
    ];
    let with_active_rq =
        stats.upstream_cx_destroy_local_with_active_rq.get() + stats.upstream_cx_destroy_remote_with_active_rq.get();
    assert_eq!(stats.upstream_cx_destroy_with_active_rq.get(), with_active_rq);
    let made = stats.upstream_cx_http1_total.get() + stats.upstream_cx_http2_total.get();
    let open = fixture.target.endpoint.stats().cx_active.get();
    assert_eq!((made, stats.upstream_cx_destroy.get()), (1, 1 - open), "{serve:?}");
    counters.iter().filter(|(_, counter)| counter.get() > 0).map(|(name, _)| *name).collect()
}

#[tokio::test(start_paused = true)]
async fn which_side_ends_a_connection_is_counted() {
    let raw = |answer, closes| Serve::Raw { answer, closes };
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let last = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok";
    let until_end = "HTTP/1.1 200 OK\r\n\r\nok";
    let (remote_active, local_active) = (["remote", "remote_with_active_rq"], ["local", "local_with_active_rq"]);
    let cases: [(Serve, &[&str]); 14] = [
        (raw(whole, false), &[]),
        (raw(whole, true), &["remote"]),
        (raw(last, false), &["local", "close_notify"]),
        (raw(last, true), &["local", "close_notify"]),
        (raw(half, true), &remote_active),
        (raw(half, false), &local_active),
        (raw(until_end, true), &["remote"]),
        (raw("", true), &remote_active),
        (raw("", false), &local_active),
        (raw("nonsense\r\n\r\n", false), &local_active),
        (Serve::Http2Cut { goaway: false }, &remote_active),
        (Serve::Http2Cut { goaway: true }, &["remote", "remote_with_active_rq", "close_notify"]),
        (Serve::Refuse, &["remote"]),
        (Serve::Never, &["local", "cancelled"]),
    ];
    for (serve, expected) in cases {
        assert_eq!(ends_counted(serve).await, expected, "{serve:?}");
    }
}

const INTERVAL: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn a_connection_without_pong_is_closed() {
    let keepalive = Http2Keepalive::new(INTERVAL, ANSWER_WITHIN);
    for (serve, is_lost) in [(Serve::Http2Silent, true), (Serve::Http2 { max_streams: 100 }, false)] {
        let fixture = Fixture::with(serve, |c| c.http_protocol_options.connection_keepalive = Some(keepalive));
        fixture.get_to_end().await;
        tokio::time::sleep(INTERVAL).await;
        assert_eq!(fixture.stats().http2_keepalive_timeout.get(), 0, "{serve:?}");
        tokio::time::sleep(INTERVAL).await;
        assert_eq!(fixture.stats().http2_keepalive_timeout.get(), u64::from(is_lost), "{serve:?}");
        fixture.get("/").await.unwrap();
        assert_eq!(fixture.endpoint.accepted(), 1 + usize::from(is_lost), "{serve:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_after_an_idle_time_is_preceded_by_a_ping() {
    for (silence, is_lost) in [(2 * INTERVAL, true), (INTERVAL / 2, false)] {
        let mut keepalive = Http2Keepalive::with_timeout(ANSWER_WITHIN);
        keepalive.connection_idle_interval = Some(INTERVAL);
        let fixture = Fixture::with(Serve::Http2Silent, |c| {
            c.http_protocol_options.connection_keepalive = Some(keepalive);
        });
        fixture.get_to_end().await;
        tokio::time::sleep(silence).await;
        let answer = tokio::time::timeout(2 * ANSWER_WITHIN, fixture.get("/")).await;
        let reason = answer.ok().map(|answer| answer.unwrap_err().reason());
        assert_eq!(reason, is_lost.then_some(ResetReason::ConnectionTermination), "{silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_keepalive_of_a_worker_applies_to_clusters_without_one() {
    let mut fixture = Fixture::new(Serve::Http2Silent);
    let keepalive = Http2Keepalive::new(INTERVAL, ANSWER_WITHIN);
    fixture.target.worker = fixture.target.worker.clone().with_http2_keepalive(Some(keepalive));
    fixture.get_to_end().await;
    tokio::time::sleep(2 * INTERVAL).await;
    assert_eq!(fixture.stats().http2_keepalive_timeout.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn at_max_connections_requests_wait_in_the_queue_up_to_max_pending_requests() {
    let fixture = Fixture::with(Serve::Http1, |c| limit(c, 1, 1));
    let first = tokio::spawn({
        let target = fixture.target.clone();
        async move {
            get(&target, "/slow")
                .await?
                .into_body()
                .collect()
                .await
                .map_err(|_| TransportError::new(ResetReason::LocalReset))
        }
    });
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let target = fixture.target.clone();
    let second = tokio::spawn(async move { get(&target, "/").await.map(|response| response.status()) });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let third = fixture.get("/").await.unwrap_err();
    assert_eq!(third.reason(), ResetReason::Overflow);
    assert_eq!(fixture.stats().upstream_rq_pending_overflow.get(), 1);
    assert_eq!(fixture.stats().upstream_cx_overflow.get(), 1, "the second found no place for a connection");
    assert!(!second.is_finished());
    fixture.endpoint.gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap().to_bytes(), "hello");
    assert_eq!(second.await.unwrap().unwrap(), StatusCode::OK);
    assert_eq!(fixture.endpoint.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_the_queue() {
    let fixture = Fixture::with(Serve::Http1, |c| limit(c, 1, 1));
    let open = fixture.get("/large").await.unwrap();
    for _ in 0..3 {
        let waiting = connect(&fixture.target, Protocol::Http1);
        assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
    }
    drop(open);
    assert_eq!(fixture.get_to_end().await, "hello");
    let stats = fixture.stats();
    assert_eq!((stats.upstream_rq_pending_overflow.get(), stats.upstream_rq_cancelled.get()), (0, 3));
}

const BOTH_PROTOCOLS: [Serve; 2] = [Serve::Http1, Serve::Http2 { max_streams: 100 }];

#[tokio::test(start_paused = true)]
async fn a_response_has_at_most_the_headers_that_the_cluster_allows() {
    for protocol in BOTH_PROTOCOLS {
        let fixture = Fixture::with(protocol, |c| c.http_protocol_options.max_headers_count = 0);
        let error = fixture.get("/").await.unwrap_err();
        assert_eq!(error.reason(), ResetReason::ProtocolError, "{protocol:?}");
    }
}

/// Waits for the whole response to a request, at most `limit`.
async fn get_within(limit: Duration, target: &OwnedTarget, path: &str) -> Bytes {
    let answer = async { get(target, path).await.unwrap().into_body().collect().await.unwrap().to_bytes() };
    tokio::time::timeout(limit, answer).await.expect("an answer in time")
}

/// A response within this time did not wait for a timer.
const AT_ONCE: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn every_pool_may_have_one_connection_beyond_max_connections() {
    for serve in BOTH_PROTOCOLS {
        for max_connections in [0, 1] {
            let fixture = Fixture::with(serve, |c| limit(c, max_connections, 8));
            let pools = [fixture.target.clone(), fixture.second_endpoint(), fixture.second_worker()];
            for target in pools.iter().cycle().take(9) {
                get_within(AT_ONCE, target, "/").await;
            }
            assert_eq!(fixture.endpoint.accepted(), 3, "{serve:?}");
            assert_eq!(fixture.stats().upstream_cx_overflow.get(), u64::from(3 - max_connections));
            assert_eq!(in_use(&fixture), 3, "those beyond the limit count, too");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_max_connections_many_requests_share_the_one_connection_of_their_pool() {
    for serve in [Serve::Http1, Serve::Http2 { max_streams: 1 }] {
        let fixture = Fixture::with(serve, |c| limit(c, 1, 100));
        let clients = [fixture.target.clone(), fixture.second_endpoint()].into_iter().cycle().take(16).map(|target| {
            tokio::spawn(async move {
                for _ in 0..10 {
                    get_within(Duration::from_secs(1), &target, "/after/1").await;
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        assert_eq!(fixture.endpoint.open.most.load(Ordering::SeqCst), 2, "{serve:?}");
    }
}

/// The number of connections that the circuit breaker counts.
fn in_use(fixture: &Fixture) -> u64 {
    let mut in_use = Vec::new();
    fixture.target.cluster.for_each_stat(&mut |name, _, value| {
        in_use.extend((name == "upstream_cx_active").then_some(value));
    });
    in_use[0]
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_makes_room_for_the_next_request_in_the_queue() {
    for serve in [Serve::Http1, Serve::Http2 { max_streams: 1 }] {
        let one = NonZeroU32::new(1);
        let fixture = Fixture::with(serve, |c| {
            limit(c, 1, 8);
            c.http_protocol_options.max_requests_per_connection = one;
        });
        let clients = [(); 4].map(|()| {
            let target = fixture.target.clone();
            tokio::spawn(async move { get_within(AT_ONCE, &target, "/").await })
        });
        for client in clients {
            assert_eq!(client.await.unwrap(), "hello");
        }
        assert_eq!(fixture.endpoint.accepted(), 4);
        assert_eq!(fixture.endpoint.open.most.load(Ordering::SeqCst), 1, "{serve:?}: it counts until it is closed");
    }
}

fn single_threaded() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn connections_of_a_runtime_that_has_ended_are_not_used() {
    for serve in BOTH_PROTOCOLS {
        let first = single_threaded();
        let fixture = first.block_on(async { Fixture::with(serve, |c| limit(c, 1, 1)) });
        first.block_on(get_within(Duration::from_secs(60), &fixture.target, "/"));
        drop(first);
        single_threaded().block_on(get_within(Duration::from_secs(60), &fixture.target, "/"));
        assert_eq!(fixture.endpoint.accepted(), 2, "{serve:?}");
    }
}

#[test]
fn each_runtime_has_its_own_connections_until_it_shuts_down() {
    for serve in BOTH_PROTOCOLS {
        let (first, second) = (single_threaded(), single_threaded());
        let fixture = first.block_on(async { Fixture::new(serve) });
        let open = || fixture.endpoint.open.now.load(Ordering::SeqCst);
        for _ in 0..2 {
            first.block_on(get_within(Duration::from_secs(60), &fixture.target, "/"));
            second.block_on(get_within(Duration::from_secs(60), &fixture.target, "/"));
        }
        assert_eq!((fixture.endpoint.accepted(), open()), (2, 2), "{serve:?}");
        drop(first);
        assert_eq!(open(), 1, "{serve:?}");
        second.block_on(get_within(Duration::from_secs(60), &fixture.target, "/"));
        drop(second);
        assert_eq!((fixture.endpoint.accepted(), open()), (2, 0), "{serve:?}");
        assert_eq!(in_use(&fixture), 0, "{serve:?}");
    }
}

#[test]
fn a_connection_that_its_runtime_does_not_finish_is_not_waited_for() {
    let first = single_threaded();
    let fixture = first.block_on(async { Fixture::with(Serve::Never, |c| limit(c, 1, 8)) });
    let target = fixture.target.clone();
    let waiting = first.spawn(async move { get(&target, "/").await });
    first.block_on(tokio::task::yield_now());
    assert_eq!(in_use(&fixture), 1);
    drop(first);
    assert_eq!(in_use(&fixture), 0);
    assert!(waiting.is_finished());
    let worker = Worker::new(0, WORKERS, Endpoint::new(Serve::Http1));
    let target = OwnedTarget { worker, ..fixture.target };
    single_threaded().block_on(get_within(Duration::from_secs(60), &target, "/"));
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_takes_effect_with_the_next_request() {
    let fixture = Fixture::with(Serve::Http1, |c| limit(c, 1, 8));
    let used = fixture.get("/").await.unwrap();
    let target = fixture.target.clone();
    let waiting = tokio::spawn(async move { get(&target, "/").await.map(|response| response.status()) });
    tokio::task::yield_now().await;
    let mut config = Cluster::clone(fixture.target.cluster.config());
    limit(&mut config, 3, 8);
    let cluster = fixture.target.cluster.reconfigured(Arc::new(config), now(), &mut SplitMix64::new(1));
    get_within(AT_ONCE, &OwnedTarget { cluster: Arc::new(cluster), ..fixture.target.clone() }, "/").await;
    let served = tokio::time::timeout(AT_ONCE, waiting).await.expect("at once");
    assert_eq!(served.unwrap().unwrap(), StatusCode::OK);
    drop(used);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_made_fails_all_waiting_requests() {
    let fixture = Fixture::new(Serve::Refuse);
    let (one, other) = tokio::join!(fixture.get("/"), fixture.get("/"));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert_eq!(error.reason(), ResetReason::ConnectionFailure);
        assert_eq!(error.transport_failure().map(|text| &**text), Some("delayed connect error: Connection refused"));
    }
    assert!(fixture.stats().upstream_cx_connect_fail.get() >= 1);
}

#[tokio::test(start_paused = true)]
async fn connecting_takes_no_longer_than_connect_timeout() {
    let fixture = Fixture::with(Serve::Never, |c| c.connect_timeout = Duration::from_millis(250));
    let start = now();
    let error = fixture.get("/").await.unwrap_err();
    assert_eq!(error.reason(), ResetReason::ConnectionTimeout);
    assert_eq!(now() - start, Duration::from_millis(250));
    assert_eq!(fixture.stats().upstream_cx_connect_timeout.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn http2_requests_share_a_connection_until_its_streams_are_used_up() {
    let fixture = Fixture::with(Serve::Http2 { max_streams: 100 }, |c| {
        c.http_protocol_options.max_concurrent_streams = 2;
        limit(c, 2, 8);
    });
    let first = fixture.get("/").await.unwrap();
    let second = fixture.get("/").await.unwrap();
    assert_eq!(fixture.endpoint.accepted(), 1);
    let third = fixture.get("/").await.unwrap();
    let fourth = fixture.get("/").await.unwrap();
    assert_eq!(fixture.endpoint.accepted(), 2);
    let fifth = fixture.get("/");
    tokio::pin!(fifth);
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut fifth).await.is_err());
    drop(second);
    assert_eq!(fifth.await.unwrap().status(), StatusCode::OK);
    assert_eq!(fixture.endpoint.accepted(), 2);
    drop((first, third, fourth));
}

#[tokio::test(start_paused = true)]
async fn the_stream_limit_of_the_endpoint_counts_too() {
    let fixture = Fixture::new(Serve::Http2 { max_streams: 1 });
    fixture.get_to_end().await;
    let open = fixture.get("/").await.unwrap();
    let more = fixture.get("/").await.unwrap();
    assert_eq!(fixture.endpoint.accepted(), 2);
    drop((open, more));
}

/// A body whose frames the test sends one by one.
fn channel_body() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(1);
    struct Frames(mpsc::Receiver<Frame<Bytes>>);
    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.poll_recv(cx).map(|frame| frame.map(Ok))
        }
    }
    (sender, Body::new(Frames(receiver)))
}

#[tokio::test(start_paused = true)]
async fn both_directions_stream_at_once_with_trailers() {
    for serve in [Serve::Http2 { max_streams: 100 }, Serve::Echo] {
        let fixture = Fixture::new(serve);
        let (sender, body) = channel_body();
        let response = send(&fixture.target, "/echo", body).await.unwrap();
        let mut body = response.into_body();
        for word in ["one", "two"] {
            sender.send(Frame::data(Bytes::from(word))).await.unwrap();
            let echoed = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(echoed, word);
        }
        drop(sender);
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_larger_than_the_window_arrives_whole() {
    let fixture = Fixture::with(Serve::Http2 { max_streams: 100 }, |c| {
        c.http_protocol_options.initial_stream_window_size = 70_000;
    });
    let sent = Bytes::from(vec![7; 400_000]);
    let response = send(&fixture.target, "/echo", Body::new(Full::new(sent.clone()))).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), sent);
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_in_both_directions() {
    let fixture = Fixture::new(Serve::Http2 { max_streams: 100 });
    let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("t"))]);
    let body = Full::new(Bytes::from("x")).with_trailers(std::future::ready(Some(Ok(trailers.clone()))));
    let response = send(&fixture.target, "/echo", Body::new(body)).await.unwrap();
    let echoed = response.into_body().collect().await.unwrap();
    assert_eq!(echoed.trailers(), Some(&trailers));
    assert_eq!(echoed.to_bytes(), "x");
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_carries_bytes_and_never_comes_back() {
    let fixture = Fixture::new(Serve::Upgrade);
    let connection = connect(&fixture.target, Protocol::Http1).await.unwrap();
    let request = Request::get("/").header(header::UPGRADE, "shout").header(header::CONNECTION, "upgrade");
    let mut response = exchange(connection, request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    io.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HELLO");
    assert_eq!(fixture.target.endpoint.stats().cx_active.get(), 1, "it counts for as long as it lasts");
    drop((io, response));
    tokio::task::yield_now().await;
    assert_eq!(fixture.target.endpoint.stats().cx_active.get(), 0);
    connect(&fixture.target, Protocol::Http1).await.unwrap();
    assert_eq!(fixture.endpoint.accepted(), 2);
}

fn tls(application_protocol: &str) -> TlsInfo {
    let mut tls = TlsInfo::default();
    tls.application_protocol = Some(application_protocol.into());
    tls
}

#[tokio::test(start_paused = true)]
async fn a_connection_uses_the_protocol_of_its_handshake() {
    let cases = [
        (Serve::Http2 { max_streams: 100 }, model::HttpProtocol::Http1, "h2", Protocol::Http2),
        (Serve::Http1, model::HttpProtocol::Http2, "http/1.1", Protocol::Http1),
        (Serve::Http1, model::HttpProtocol::Http1, "something else", Protocol::Http1),
    ];
    for (serve, configured, negotiated, spoken) in cases {
        let fixture = Fixture::with(serve, |c| c.http_protocol_options.protocol = configured);
        let endpoint = Endpoint { negotiates: Some(negotiated), ..fixture.endpoint.clone() };
        let target = OwnedTarget { worker: Worker::new(0, WORKERS, endpoint), ..fixture.target.clone() };
        let asked_for = Protocol::choose(configured, Version::HTTP_11);
        for _ in 0..2 {
            let connection = connect(&target, asked_for).await.unwrap();
            let info = Pool::info(&connection);
            assert_eq!(info.protocol, Some(spoken));
            assert_eq!(info.tls.map(|tls| &**tls), Some(&tls(negotiated)));
            let request = Request::get("http://test/").body(Body::empty()).unwrap();
            let response = exchange(connection, request).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        }
        assert_eq!(fixture.endpoint.accepted(), 1, "{negotiated}");
    }
}

#[tokio::test(start_paused = true)]
async fn protocols_have_connections_of_their_own() {
    let fixture = Fixture::new(Serve::Raw { answer: "", closes: false });
    let connections = [Protocol::Http1, Protocol::Http2, Protocol::Http1, Protocol::Http2];
    for protocol in connections {
        let connection = connect(&fixture.target, protocol).await.unwrap();
        assert_eq!(Pool::info(&connection).protocol, Some(protocol));
    }
    assert_eq!(fixture.endpoint.accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_counts_until_it_is_dropped() {
    let fixture = Fixture::with(Serve::Http1, |c| limit(c, 1, 8));
    let OwnedTarget { worker, cluster, endpoint, priority, .. } = &fixture.target;
    let target = Target { cluster, endpoint, priority: *priority, server_name: None };
    let mut stream = worker.stream(&target).await.unwrap();
    assert_eq!(worker.stream(&target).await.unwrap_err().reason(), ResetReason::Overflow);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"));
    assert_eq!((in_use(&fixture), fixture.target.endpoint.stats().cx_active.get()), (1, 1));
    drop(stream);
    assert_eq!((in_use(&fixture), fixture.target.endpoint.stats().cx_active.get()), (0, 0));
    let stats = fixture.stats();
    assert_eq!((stats.upstream_cx_total.get(), stats.upstream_cx_destroy_remote.get()), (1, 1));
    assert_eq!((stats.upstream_cx_overflow.get(), stats.upstream_cx_connect_fail.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cancelled_or_too_late_counts_as_failed() {
    let fixture = Fixture::with(Serve::Never, |c| c.connect_timeout = Duration::from_secs(2));
    let OwnedTarget { worker, cluster, endpoint, priority, .. } = &fixture.target;
    let target = Target { cluster, endpoint, priority: *priority, server_name: None };
    let given_up = tokio::time::timeout(Duration::from_secs(1), worker.stream(&target)).await;
    assert!(given_up.is_err());
    assert_eq!(worker.stream(&target).await.unwrap_err().reason(), ResetReason::ConnectionTimeout);
    let stats = fixture.stats();
    assert_eq!((stats.upstream_cx_connect_fail.get(), stats.upstream_cx_connect_timeout.get()), (2, 1));
    assert_eq!((in_use(&fixture), fixture.target.endpoint.stats().cx_active.get()), (0, 0));
}
