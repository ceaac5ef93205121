//! Filter chains, from the first byte of a connection to its end.

use std::{convert::Infallible, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use mesh_core::{
    model::{
        AccessLog, AccessLogFormat, AccessLogSink, Action, Cluster, FilterChain, FilterChainMatch,
        HttpConnectionManager, Listener, ListenerAddress, ListenerFilter, ListenerFilterConfig, NetworkFilter,
        PathMatcher, Route, RouteConfiguration, RouteMatch, RouteSource, TcpProxy, TlsInspector, TransportProtocol,
        VirtualHost, format::Format,
    },
    rng::SplitMix64,
    store::Store,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::Instant,
};

use super::{FilterChainError, ListenerContext, ListenerServer, Server};
use crate::{
    AcceptedConnection, Body, Connect, ConnectTo, Connected, Connecting, Io, ServiceResponder, Worker,
    drain::Drain,
    telemetry::{Stat, StatSnapshot, Telemetry},
    testing,
    timer::now,
};

/// A client hello for `www.example.com` with the protocols `h2` and `http/1.1`, as OpenSSL sends it.
pub(super) const CLIENT_HELLO: &[u8] = include_bytes!("../../../fuzz/seeds/first_bytes/tls");

/// Endpoints that send the name of their cluster and echo what they receive.
#[derive(Debug)]
struct Echo;

impl Connect for Echo {
    fn connect<'a>(&'a self, to: ConnectTo<'a>) -> Connecting<'a> {
        let (ours, mut theirs) = duplex(4096);
        let name = to.cluster.name.as_str().to_owned();
        tokio::spawn(async move {
            theirs.write_all(format!("{name}:").as_bytes()).await?;
            let (mut read, mut write) = tokio::io::split(theirs);
            tokio::io::copy(&mut read, &mut write).await
        });
        Box::pin(async { Ok(Connected::plain_text(Io::boxed(ours))) })
    }
}

type TestServer =
    ListenerServer<ServiceResponder<tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>>>;

pub(super) struct Fixture {
    server: Arc<TestServer>,
    pub(super) telemetry: Telemetry,
    drain: Drain,
}

impl Fixture {
    pub(super) fn new(listener: &Listener) -> Self {
        let (store, telemetry) = (Arc::new(Store::new()), Telemetry::default());
        for name in ["tls", "plain"] {
            let endpoints = testing::cluster(name, 1, |_| {}).config().discovery.clone();
            store.set_cluster(Arc::new(Cluster::new(name, endpoints)), now(), &mut SplitMix64::new(1));
        }
        let worker = Worker::new(0, NonZeroUsize::MIN, Echo);
        let context = ListenerContext { store, telemetry: telemetry.clone(), worker: Some(worker) };
        let server = ListenerServer::new(listener, &context, |_| {
            let service = tower::service_fn(async |_| Ok(Response::new(Body::from("http"))));
            ServiceResponder(tower::util::BoxCloneSyncService::new(service))
        });
        Self { server: Arc::new(server.unwrap()), telemetry, drain: Drain::new() }
    }

    fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(4096);
        tokio::spawn(Arc::clone(&self.server).serve_connection(AcceptedConnection::new(server), self.drain.clone()));
        client
    }

    /// Sends `bytes` in `parts`; returns everything that is received until the connection ends.
    pub(super) async fn exchange(&self, bytes: &[u8], parts: usize) -> Vec<u8> {
        let mut client = self.connect();
        for part in bytes.chunks(bytes.len().div_ceil(parts)) {
            // The connection may be closed before all is sent.
            let _ = client.write_all(part).await;
            tokio::task::yield_now().await;
        }
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    }

    pub(super) fn stat(&self, name: &str) -> u64 {
        let stats = Stat::collect([&*self.telemetry.stats as _]);
        match &stats.iter().find(|stat| stat.name == name).expect("a known statistic").value {
            StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) => *n,
            StatSnapshot::Histogram(_) | StatSnapshot::Text(_) => panic!("not a number"),
        }
    }
}

pub(super) fn http() -> NetworkFilter {
    let route = Route::new(RouteMatch::path(PathMatcher::Prefix("/".into())), Action::NonForwarding);
    let routes = RouteConfiguration::new("r", vec![VirtualHost::new("h", vec![route])]);
    let http = HttpConnectionManager::new("h", RouteSource::Inline(Arc::new(routes)));
    NetworkFilter::HttpConnectionManager(Arc::new(http))
}

pub(super) fn tcp(cluster: &str) -> NetworkFilter {
    NetworkFilter::TcpProxy(Arc::new(TcpProxy::new(cluster, cluster)))
}

pub(super) fn listener(filters: &[ListenerFilterConfig], chains: Vec<FilterChain>) -> Listener {
    let mut listener = Listener::new("l", ListenerAddress::Api);
    listener.listener_filters = filters.iter().copied().map(ListenerFilter::new).collect();
    listener.filter_chains = chains;
    listener
}

fn matching(configure: impl FnOnce(&mut FilterChainMatch)) -> FilterChainMatch {
    let mut matches = FilterChainMatch::default();
    configure(&mut matches);
    matches
}

pub(super) const INSPECTORS: [ListenerFilterConfig; 2] = [
    ListenerFilterConfig::TlsInspector(TlsInspector {
        max_client_hello_size: TlsInspector::MAX_CLIENT_HELLO,
        close_connection_on_client_hello_parsing_errors: false,
    }),
    ListenerFilterConfig::HttpInspector,
];

#[tokio::test]
async fn the_first_bytes_choose_the_chain_and_reach_its_filter() {
    let of_name = |name: &str| matching(|it| it.server_names = vec![name.into()]);
    let of_http = matching(|it| {
        it.transport_protocol = Some(TransportProtocol::RawBuffer);
        it.application_protocols = vec!["http/1.1".into()];
    });
    let listener = listener(
        &INSPECTORS,
        vec![
            FilterChain::new(vec![tcp("tls")]).matching(of_name("*.example.com")),
            FilterChain::new(vec![http()]).matching(of_http),
            FilterChain::new(vec![tcp("plain")])
                .matching(matching(|it| it.transport_protocol = Some(TransportProtocol::RawBuffer))),
        ],
    );
    for parts in [1, 3, 50] {
        let fixture = Fixture::new(&listener);
        assert_eq!(fixture.exchange(CLIENT_HELLO, parts).await, [b"tls:", CLIENT_HELLO].concat());
        assert_eq!(fixture.exchange(b"\x00\x01binary", parts).await, b"plain:\x00\x01binary");
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answer = fixture.exchange(request, parts).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"http"), "{}", answer.escape_ascii());
        for (name, expected) in [
            ("tls_inspector.tls_found", 1),
            ("tls_inspector.tls_not_found", 2),
            ("tls_inspector.sni_found", 1),
            ("tls_inspector.alpn_found", 1),
            ("http_inspector.http11_found", 1),
            ("http_inspector.http_not_found", 1),
            ("listener.l.downstream_cx_total", 3),
            ("listener.l.no_filter_chain_match", 0),
        ] {
            assert_eq!(fixture.stat(name), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_no_chain_matches_is_closed_and_logged() {
    let path = std::env::temp_dir().join(format!("mesh-listener-log-{}", std::process::id()));
    let other = matching(|it| it.server_names = vec!["other.test".into()]);
    let mut listener = listener(&INSPECTORS[..1], vec![FilterChain::new(vec![tcp("tls")]).matching(other)]);
    let format = "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REQUESTED_SERVER_NAME%\n";
    let format = AccessLogFormat::Text(Format::parse(format).unwrap());
    listener.access_log.push(AccessLog::new(AccessLogSink::File(path.clone()), format));
    let fixture = Fixture::new(&listener);
    assert_eq!(fixture.exchange(CLIENT_HELLO, 1).await, b"");
    assert_eq!(fixture.stat("listener.l.no_filter_chain_match"), 1);
    assert_eq!(fixture.stat("listener.l.downstream_cx_total"), 0);
    fixture.telemetry.logs.flush();
    let line = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(line, "NR filter_chain_not_found www.example.com\n");

    let mut listener = listener;
    listener.default_filter_chain = Some(FilterChain::new(vec![tcp("plain")]));
    let fixture = Fixture::new(&listener);
    assert_eq!(fixture.exchange(CLIENT_HELLO, 1).await, [b"plain:", CLIENT_HELLO].concat());
}

#[tokio::test(start_paused = true)]
async fn listener_filters_time_out() {
    for (continues, answer) in [(false, &b""[..]), (true, b"plain:\x16")] {
        let mut listener = listener(&INSPECTORS, vec![FilterChain::new(vec![tcp("plain")])]);
        listener.listener_filters_timeout = Some(Duration::from_secs(7));
        listener.continue_on_listener_filters_timeout = continues;
        let fixture = Fixture::new(&listener);
        let (mut client, since) = (fixture.connect(), Instant::now());
        client.write_all(b"\x16").await.unwrap();
        let mut first = vec![0; answer.len()];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(first, answer);
        if !continues {
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        }
        assert_eq!(since.elapsed(), Duration::from_secs(7));
        assert_eq!(fixture.stat("listener.l.downstream_pre_cx_timeout"), 1);
        assert_eq!(fixture.stat("listener.l.downstream_pre_cx_active"), 0);
    }
}

#[tokio::test]
async fn a_connection_under_inspection_is_closed_when_its_client_closes_it_or_it_drains() {
    let fixture = Fixture::new(&listener(&INSPECTORS, vec![FilterChain::new(vec![tcp("plain")])]));
    let mut client = fixture.connect();
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(fixture.stat("listener.l.downstream_listener_filter_remote_close"), 1);
    let mut client = fixture.connect();
    tokio::task::yield_now().await;
    fixture.drain.begin();
    fixture.drain.close_idle();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_hello_that_is_invalid_or_too_large_closes_the_connection() {
    let closing = TlsInspector { close_connection_on_client_hello_parsing_errors: true, ..TlsInspector::default() };
    let small = TlsInspector { max_client_hello_size: 100, ..TlsInspector::default() };
    for (config, bytes, too_large) in [(closing, &b"GET / HTTP/1.1\r\n"[..], 0), (small, CLIENT_HELLO, 1)] {
        let filter = ListenerFilterConfig::TlsInspector(config);
        let fixture = Fixture::new(&listener(&[filter], vec![FilterChain::new(vec![tcp("plain")])]));
        assert_eq!(fixture.exchange(bytes, 1).await, b"");
        assert_eq!(fixture.stat("tls_inspector.client_hello_too_large"), too_large);
        assert_eq!(fixture.stat("listener.l.no_filter_chain_match"), 0);
    }
}

#[test]
fn filter_chains_that_cannot_be_served_are_rejected() {
    let context = |worker| ListenerContext { store: Arc::default(), telemetry: Telemetry::default(), worker };
    let rejected = |chains, worker| {
        let service = |_: &HttpConnectionManager| {
            ServiceResponder(tower::service_fn(async |_: Request<Body>| {
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }))
        };
        ListenerServer::new(&listener(&[], chains), &context(worker), service).unwrap_err()
    };
    let overlap = rejected(vec![FilterChain::new(vec![http()]), FilterChain::new(vec![http()])], None);
    assert!(matches!(overlap, FilterChainError::Overlap(_)), "{overlap}");
    let mut two = FilterChain::new(vec![http()]).named("two");
    two.filters.push(tcp("a"));
    let error = rejected(vec![two], Some(Worker::single())).to_string();
    assert_eq!(
        error,
        "filter chain two must have one filter that serves connections, such as an HTTP connection manager, as its last"
    );
    let error = rejected(vec![FilterChain::new(vec![tcp("a")]).named("a")], None).to_string();
    assert_eq!(error, "filter chain a has a TCP proxy, but a program's own server serves only HTTP");
}

#[tokio::test]
async fn a_program_may_serve_pipes_and_unix_sockets() {
    let server = || Server::new(Arc::default(), Telemetry::default());
    let service = || {
        tower::service_fn(async |_: Request<Body>| {
            Ok::<_, Infallible>(Response::new(Body::from(Bytes::from_static(b"here"))))
        })
    };
    let (connections, incoming) = tokio::sync::mpsc::channel(1);
    let serving = tokio::spawn(server().serve(incoming, service(), std::future::pending()));
    let (client, io) = duplex(1024);
    connections.send(io).await.unwrap();
    assert!(get(client).await.ends_with("here"));
    drop(connections);
    serving.await.unwrap().unwrap();

    #[cfg(unix)]
    {
        let path = std::env::temp_dir().join(format!("mesh-server-{}.sock", std::process::id()));
        let incoming = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(server().serve(incoming, service(), std::future::pending()));
        assert!(get(tokio::net::UnixStream::connect(&path).await.unwrap()).await.ends_with("here"));
        std::fs::remove_file(path).unwrap();
    }
}

async fn get(mut io: impl crate::AsyncReadWrite) -> String {
    io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    answer
}
