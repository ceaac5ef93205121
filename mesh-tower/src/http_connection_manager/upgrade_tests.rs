//! Upgrades and CONNECT through a proxy, over HTTP/1 and HTTP/2 on both sides.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, client::SendRequest, ext::Protocol};
use http::{Method, Request, Response, StatusCode, Version};
use mesh_core::{
    listener::ConnectionFacts,
    model::{
        Action, Cluster, ConnectConfig, Discovery, HttpConnectionManager, HttpProtocol, Listener, LoadAssignment,
        PathMatcher, RouteAction, RouteSource, UpgradeConfig,
    },
    rng::SplitMix64,
    store::Store,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    ConnectionManager,
    tests::{Log, context, everything_to_the_service, http, read_until, route},
};
use crate::{
    Connect, ConnectTo, Connected, Connecting, Downstream, Io, Upstream, Worker,
    drain::Drain,
    telemetry::{Stat, StatSnapshot, Telemetry},
};

/// An endpoint, which serves each connection with a function.
#[derive(Clone)]
struct Endpoint(Arc<dyn Fn(DuplexStream) + Send + Sync>);

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint")
    }
}

impl Connect for Endpoint {
    fn connect<'a>(&'a self, _: ConnectTo<'a>) -> Connecting<'a> {
        let (client, server) = tokio::io::duplex(64 * 1024);
        (self.0)(server);
        Box::pin(async { Ok(Connected::plain_text(Io::boxed(client))) })
    }
}

fn endpoint<F>(serve: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Endpoint
where
    F: Future<Output = ()> + Send + 'static,
{
    Endpoint(Arc::new(move |io| drop(tokio::spawn(serve(io)))))
}

struct Proxy {
    manager: Arc<ConnectionManager<Upstream>>,
    telemetry: Telemetry,
    drain: Drain,
}

const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT%\n";

impl Proxy {
    /// A proxy that allows websockets and CONNECT. `connect` is the configuration of CONNECT.
    fn new(
        endpoint: Endpoint,
        protocol: HttpProtocol,
        connect: Option<ConnectConfig>,
        change: impl FnOnce(&mut HttpConnectionManager),
    ) -> Self {
        let addresses: LoadAssignment = [([127, 0, 0, 1], 1).into()].into_iter().collect();
        let mut cluster = Cluster::new("c", Discovery::Static(addresses));
        cluster.http_protocol_options.protocol = protocol;
        let store = Arc::new(Store::new());
        store.set_cluster(Arc::new(cluster), crate::timer::now(), &mut SplitMix64::new(1));
        let mut action = RouteAction::to_cluster("c");
        action.connect_config = connect;
        let mut routes = everything_to_the_service();
        routes.insert(0, route(PathMatcher::Connect, Action::from(action)));
        let mut config = http(routes);
        let RouteSource::Inline(routes) = &mut config.routes else { panic!("the routes are inline") };
        Arc::make_mut(routes).virtual_hosts[0].domains.push("a.test:80".into());
        config.allow_connect = true;
        config.upgrade_configs = vec![UpgradeConfig::new("websocket"), UpgradeConfig::new("connect")];
        change(&mut config);
        let telemetry = Telemetry::default();
        let (listener, config) = (Listener::api("test", config.clone()), Arc::new(config));
        let upstream = Upstream::new(Worker::new(0, NonZeroUsize::MIN, endpoint));
        let manager = ConnectionManager::new(&listener, config, &context(&store, &telemetry), upstream).unwrap();
        Self { manager: Arc::new(manager), telemetry, drain: Drain::new() }
    }

    fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let downstream = Downstream::new(ConnectionFacts::default());
        tokio::spawn(Arc::clone(&self.manager).serve_connection(server, downstream, self.drain.watch()));
        client
    }

    async fn http2(&self) -> SendRequest<Bytes> {
        let (client, connection) = h2::client::handshake(self.connect()).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        // The settings of the proxy allow extended CONNECT.
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
            client = client.ready().await.unwrap();
        }
        client
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = Stat::collect([&*self.telemetry.stats as _]);
        match &stats.iter().find(|stat| stat.name == format!("http.in.{name}")).unwrap().value {
            StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) => *n,
            StatSnapshot::Histogram(histogram) => histogram.count(),
            StatSnapshot::Text(text) => panic!("{name} is the text {text}"),
        }
    }

    async fn ended(&self) {
        while self.stat("downstream_rq_active") > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.stat("downstream_cx_upgrades_active"), 0);
    }
}

const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\n";

/// Reads the head of a request, responds with `head`, and then echoes in upper case.
fn answering(head: &'static str) -> Endpoint {
    endpoint(async move |mut io| {
        read_until(&mut io, "\r\n\r\n").await;
        io.write_all(head.as_bytes()).await.unwrap();
        shout(io).await;
    })
}

async fn shout(mut io: DuplexStream) {
    let mut buffer = [0; 64];
    while let Ok(read @ 1..) = io.read(&mut buffer).await {
        if &buffer[..read] == b"close" {
            break;
        }
        io.write_all(&buffer[..read].to_ascii_uppercase()).await.unwrap();
    }
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

#[tokio::test]
async fn bytes_pass_in_both_directions_and_the_record_shows_which_end_ended_it() {
    let cases = [
        ("client", "101 DC downstream_remote_disconnect 4 4\n"),
        ("endpoint", "101 UC upstream_reset_after_response_started{connection_termination} 9 4\n"),
    ];
    for (ended_by, line) in cases {
        let mut log = None;
        let proxy = Proxy::new(answering(SWITCHED), HttpProtocol::Http1, None, |config| {
            log = Some(Log::new(&format!("tunnel-{ended_by}"), config, FORMAT));
            // Both are for requests that are not yet answered.
            config.request_timeout = Some(Duration::from_millis(1));
        });
        let mut client = proxy.connect();
        client.write_all(format!("{WEBSOCKET}pi").as_bytes()).await.unwrap();
        let head = read_until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
        assert!(!head.contains("close") && !head.contains("content-length"), "{head}");
        assert_eq!(proxy.stat("downstream_cx_upgrades_active"), 1);
        client.write_all(b"ng").await.unwrap();
        assert_eq!(read_until(&mut client, "PING").await, "PING");
        if ended_by == "client" {
            client.shutdown().await.unwrap();
        } else {
            client.write_all(b"close").await.unwrap();
        }
        client.read_to_end(&mut Vec::new()).await.unwrap();
        drop(client);
        proxy.ended().await;
        assert_eq!(log.unwrap().read_from(&proxy.telemetry), line);
        assert_eq!(proxy.stat("downstream_cx_upgrades_total"), 1);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_may_still_send() {
    const SENT: usize = 1 << 20;
    let endpoint = endpoint(async |mut io| {
        read_until(&mut io, "\r\n\r\n").await;
        io.write_all(SWITCHED.as_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(io);
        let flood = tokio::spawn(async move { write.write_all(&[b'x'; SENT]).await });
        let mut received = vec![0; SENT];
        read.read_exact(&mut received).await.unwrap();
        flood.await.unwrap().unwrap();
        read.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let proxy = Proxy::new(endpoint, HttpProtocol::Http1, None, |_| {});
    let mut client = proxy.connect();
    client.write_all(WEBSOCKET.as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    client.write_all(&[b'y'; SENT]).await.unwrap();
    let mut received = vec![0; SENT];
    client.read_exact(&mut received).await.unwrap();
}

/// The response to `request`, until the connection ends, without its date.
async fn exchange(proxy: &Proxy, request: &str) -> String {
    let mut client = proxy.connect();
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    super::tests::normalized(&answer)
}

#[tokio::test]
async fn a_refused_upgrade_closes_the_connection() {
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let proxy = Proxy::new(answering(refused), HttpProtocol::Http1, None, |_| {});
    let by_endpoint = exchange(&proxy, WEBSOCKET).await;
    assert_eq!(by_endpoint, "HTTP/1.1 403 Forbidden | connection: close | content-length: 2 | server: envoy | no");
    let by_proxy = exchange(&proxy, &WEBSOCKET.replace("WebSocket", "other")).await;
    assert_eq!(by_proxy, "HTTP/1.1 403 Forbidden | connection: close | content-length: 0 | server: envoy | ");
    assert_eq!(proxy.stat("downstream_cx_upgrades_total"), 1, "those that are allowed count");
    assert_eq!(proxy.stat("downstream_rq_ws_on_non_ws_route"), 1);
    let no_route = exchange(&proxy, &WEBSOCKET.replace("a.test", "b.test").replace("WebSocket", "other")).await;
    assert!(no_route.starts_with("HTTP/1.1 404 Not Found | connection: close"), "{no_route}");
}

#[tokio::test]
async fn of_a_websocket_that_is_not_switched_to_the_client_gets_the_head_only() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain";
    let mut log = None;
    let proxy = Proxy::new(answering(ok), HttpProtocol::Http1, None, |config| {
        config.upgrade_configs.push(UpgradeConfig::new("other"));
        log = Some(Log::new("handshake", config, FORMAT));
    });
    let websocket = exchange(&proxy, WEBSOCKET).await;
    assert_eq!(websocket, "HTTP/1.1 200 OK | connection: close | content-length: 0 | server: envoy | ");
    let other = exchange(&proxy, &WEBSOCKET.replace("WebSocket", "other")).await;
    assert_eq!(other, "HTTP/1.1 200 OK | connection: close | content-length: 5 | server: envoy | plain");
    let lines = "200 - websocket_handshake_unsuccessful 0 0\n200 - via_upstream 0 5\n";
    assert_eq!(log.unwrap().read_from(&proxy.telemetry), lines);
}

/// Sends `data` on a stream that was opened by `request`, and reads as many bytes.
async fn talk(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
    data: &'static str,
) -> (Response<()>, h2::SendStream<Bytes>, RecvStream, String) {
    let (response, mut send) = client.send_request(request, false).unwrap();
    send.send_data(Bytes::from_static(data.as_bytes()), false).unwrap();
    let (head, mut receive) = response.await.unwrap().into_parts();
    let mut received = Vec::new();
    while received.len() < data.len() {
        received.extend_from_slice(&receive.data().await.unwrap().unwrap());
    }
    (Response::from_parts(head, ()), send, receive, String::from_utf8(received).unwrap())
}

fn extended(protocol: &'static str) -> Request<()> {
    let request = Request::builder().method(Method::CONNECT).version(Version::HTTP_2).uri("http://a.test/ws");
    request.extension(Protocol::from_static(protocol)).body(()).unwrap()
}

#[tokio::test]
async fn extended_connect_becomes_an_upgrade_over_http1() {
    let proxy = Proxy::new(answering(SWITCHED), HttpProtocol::Http1, None, |_| {});
    let mut client = proxy.http2().await;
    let (response, send, receive, text) = talk(&mut client, extended("websocket"), "ping").await;
    assert_eq!((response.status(), &*text), (StatusCode::OK, "PING"));
    let names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    assert!(!names.contains(&"upgrade") && !names.contains(&"connection"), "{names:?}");
    let mut other = client.clone();
    let (refused, _) = other.send_request(extended("other"), false).unwrap();
    assert_eq!(refused.await.unwrap().status(), StatusCode::FORBIDDEN);
    // The stream is reset when all handles to it are dropped.
    drop((send, receive));
    proxy.ended().await;
}

/// An endpoint with HTTP/2 that responds to CONNECT with 200, and echoes in upper case. It checks `:protocol`.
fn http2_endpoint(protocol: Option<&'static str>) -> Endpoint {
    endpoint(move |io| async move {
        let mut builder = h2::server::Builder::new();
        let mut connection = builder.enable_connect_protocol().handshake::<_, Bytes>(io).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.method(), Method::CONNECT);
            assert_eq!(request.extensions().get::<Protocol>().map(Protocol::as_str), protocol);
            assert!(!request.headers().contains_key("upgrade") && !request.headers().contains_key("connection"));
            tokio::spawn(async move {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    send.send_data(data.to_ascii_uppercase().into(), false).unwrap();
                }
                send.send_data(Bytes::new(), true).unwrap();
            });
        }
    })
}

#[tokio::test]
async fn an_upgrade_over_http1_becomes_extended_connect() {
    let proxy = Proxy::new(http2_endpoint(Some("WebSocket")), HttpProtocol::Http2, None, |_| {});
    let mut client = proxy.connect();
    client.write_all(format!("{WEBSOCKET}ping").as_bytes()).await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: WebSocket"), "{head}");
    assert_eq!(read_until(&mut client, "PING").await, "PING");
}

const CONNECT: &str = "CONNECT a.test:80 HTTP/1.1\r\nhost: x\r\n\r\n";

fn connect() -> Request<()> {
    let request = Request::builder().method(Method::CONNECT).version(Version::HTTP_2).uri("a.test:80");
    request.body(()).unwrap()
}

#[tokio::test]
async fn connect_is_forwarded_over_both_versions() {
    let h1 = endpoint(async |mut io| {
        let head = read_until(&mut io, "\r\n\r\n").await;
        assert!(head.starts_with("CONNECT a.test:80 HTTP/1.1\r\nhost: a.test:80\r\n"), "{head}");
        io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        shout(io).await;
    });
    for (endpoint, protocol) in [(h1, HttpProtocol::Http1), (http2_endpoint(None), HttpProtocol::Http2)] {
        let proxy = Proxy::new(endpoint, protocol, None, |config| config.strip_any_host_port = true);
        let mut client = proxy.connect();
        client.write_all(format!("{CONNECT}ping").as_bytes()).await.unwrap();
        let head = read_until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("connection"), "{head}");
        assert_eq!(read_until(&mut client, "PING").await, "PING");
    }
}

#[tokio::test]
async fn connect_with_a_connect_config_sends_its_data_over_tcp() {
    let mut log = None;
    let proxy = Proxy::new(endpoint(shout), HttpProtocol::Http1, Some(ConnectConfig::default()), |config| {
        log = Some(Log::new("connect", config, FORMAT));
        config.strip_any_host_port = true;
    });
    let mut client = proxy.connect();
    client.write_all(format!("{CONNECT}ping").as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(read_until(&mut client, "PING").await, "PING");
    client.write_all(b"close").await.unwrap();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    drop(client);
    proxy.ended().await;
    let mut client = proxy.http2().await;
    let (response, mut send, mut receive, text) = talk(&mut client, connect(), "ping").await;
    assert_eq!((response.status(), &*text), (StatusCode::OK, "PING"));
    send.send_data(Bytes::new(), true).unwrap();
    while let Some(data) = receive.data().await {
        assert!(data.unwrap().is_empty(), "the end of each direction is passed on");
    }
    proxy.ended().await;
    let lines = "200 - via_upstream 9 4\n200 - via_upstream 4 4\n";
    assert_eq!(log.unwrap().read_from(&proxy.telemetry), lines);
}

#[tokio::test]
async fn an_http2_stream_of_a_lost_connect_is_reset_with_connect_error() {
    let proxy = Proxy::new(
        endpoint(async |mut io| {
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"HTTP/1.1 200 OK\r\n\r\nbye!").await.unwrap();
        }),
        HttpProtocol::Http1,
        None,
        |config| config.strip_any_host_port = true,
    );
    let mut client = proxy.http2().await;
    let (_, _send, mut receive, text) = talk(&mut client, connect(), "ping").await;
    assert_eq!(text, "bye!");
    assert_eq!(receive.data().await.unwrap().unwrap_err().reason(), Some(Reason::CONNECT_ERROR));
}
